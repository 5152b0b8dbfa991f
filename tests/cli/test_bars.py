"""What is drawn while a verb runs: recipes, names and paths are text, whatever stands in them."""

from __future__ import annotations

import ast
import io
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

import lengthwise
from lengthwise.cli.bars import Bar

SOURCE = Path(lengthwise.__file__).parent
RECIPE = 'grammar(regex="[a-z ]+[/dim]")'


def test_brackets_of_a_recipe_are_text_in_a_bar() -> None:
    drawn = io.StringIO()
    bar = Bar()
    with Progress(*bar._drawn.columns, console=Console(file=drawn, width=120)) as progress:
        progress.add_task(f"{RECIPE}: reading", total=1)
    assert f"{RECIPE}: reading" in drawn.getvalue()


def test_nothing_that_is_printed_is_read_as_markup() -> None:
    """Every console, and every column of a bar that shows a text of others."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            plain = any(
                each.arg == "markup" and ast.unparse(each.value) == "False"
                for each in node.keywords
            )
            shows = node.func.id == "TextColumn" and "[" in ast.unparse(node).partition("{task")[2]
            shows |= "task.description" in ast.unparse(node) and node.func.id == "TextColumn"
            if (node.func.id == "Console" or shows) and not plain:
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert found == []
