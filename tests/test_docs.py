"""The documents say what the code does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import lengthwise
from lengthwise.cli.main import VERBS, group
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.recipes import parse
from lengthwise.recipes.registry import methods
from lengthwise.testing.tiny import FAMILIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def test_no_generated_page_is_out_of_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_method_has_a_page_that_the_index_leads_to() -> None:
    index = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(methods/(\w+)\.md\)", index)) == sorted(methods())
    assert {path.stem for path in (ROOT / "docs" / "methods").iterdir()} == set(methods())


def test_one_number_of_families_stands_everywhere() -> None:
    table = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*F\d+\*\* \| .* \| (.*) \|$", table, re.M)
    assert sorted(re.findall(r"`(.+?)`", ", ".join(rows))) == sorted(FAMILIES)
    for page in (README, (ROOT / "docs" / "check.md").read_text(encoding="utf-8")):
        assert re.findall(r"\b(\d+) families\b", page) == [str(len(FAMILIES))]
        assert not re.search(r"\w+ty-\w+ families", page)


def test_the_readme_names_every_method_and_every_command_exists() -> None:
    assert set(methods()) <= set(re.findall(r"`(\w+)`", README))
    commands = re.findall(r"^    (lengthwise .*?)(?:  #.*)?$", README, re.M)
    assert commands
    for command in commands:
        verb, *rest = shlex.split(command)[1:]
        assert verb in VERBS
        for flag, value in zip(rest, rest[1:], strict=False):
            if flag == "-r":
                parse(value)


def _commands(page: Path) -> list[str]:
    """Commands of lengthwise in a page, lines that end in a backslash joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^    (?:.*\| )?(lengthwise .*?)(?:  +#.*)?$", text, re.M)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
                         ids=lambda page: page.name)  # fmt: skip
def test_every_command_in_a_page_has_the_options_it_is_given(page: Path) -> None:
    for line in _commands(page):
        command, words = group, shlex.split(line)[1:]
        while isinstance(command, click.Group):
            if words[0] not in command.list_commands(click.Context(command)):
                # A group that tells by the rest which of its commands is meant.
                words.insert(0, command.command_of(words))  # type: ignore[attr-defined]
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, line
            command = found
        context = click.Context(command)
        _, extra, _ = command.make_parser(context).parse_args(words)
        assert not extra, line


@pytest.mark.parametrize("page", [README, RECIPES])
def test_python_examples_use_names_that_exist(page: str) -> None:
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        compile(block, "example", "exec")
        for name in re.findall(r"lengthwise\.(\w+)\(", block):
            assert callable(getattr(lengthwise, name))
        for recipe in re.findall(r"recipe=\"(.*?)\"", block):
            parse(recipe)


def test_every_json_field_is_documented() -> None:
    for field in CompareRow.__dataclass_fields__:
        assert f"`{field}`" in RECIPES


def test_every_method_has_a_reproduction_page() -> None:
    for name in methods():
        page = ROOT / "docs" / "reproduction" / f"{name}.md"
        assert page.exists() and len(page.read_text(encoding="utf-8")) > 300, name
