"""Names in the pages of concepts are names in the source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from lengthwise.recipes.registry import methods

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lengthwise"
LIFE = (ROOT / "docs" / "life-of-a-request.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
HOP = re.compile(r"`([\w/]+\.py): ([\w.]+)`")


def defined(tree: ast.Module | ast.ClassDef) -> dict[str, ast.AST]:
    """What a module or a class defines at its top level, by name."""
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name):
                found[target.id] = node
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def missing(file: str, symbol: str) -> str:
    """What is not there of a hop; empty where all of it is."""
    path = SOURCE / file
    if not path.is_file():
        return f"no file {file}"
    inside: ast.Module | ast.ClassDef = parsed(path)
    for name in symbol.split("."):
        found = defined(inside).get(name)
        if found is None:
            return f"{file} has no {symbol}"
        inside = found if isinstance(found, ast.ClassDef) else ast.Module([], [])
    return ""


def test_every_hop_in_the_life_of_a_request_is_there() -> None:
    hops = HOP.findall(LIFE)
    assert len(hops) >= 30
    assert [lack for hop in hops if (lack := missing(*hop))] == []


def test_every_hop_is_written_as_a_file_and_a_symbol() -> None:
    """A name of a file in another form would be looked up by nobody."""
    assert re.findall(r"`[^`]*\.py[^`]*`", LIFE) == [f"`{f}: {s}`" for f, s in HOP.findall(LIFE)]
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", LIFE, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_hop_that_is_gone_is_found_out() -> None:
    assert missing("engine/nowhere.py", "step") == "no file engine/nowhere.py"
    assert missing("engine/loop.py", "nothing") == "engine/loop.py has no nothing"
    assert (
        missing("engine/speculative/tree.py", "Tree.nothing")
        == "engine/speculative/tree.py has no Tree.nothing"
    )
    assert (
        missing("engine/speculative/tree.py", "Tree.add.more")
        == "engine/speculative/tree.py has no Tree.add.more"
    )


@cache
def names() -> frozenset[str]:
    """Every name that the source gives to something, its files and the methods."""
    found = {*methods(), "full"}
    for path in SOURCE.rglob("*.py"):
        found.add(path.stem)
        for node in ast.walk(parsed(path)):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    found.add(name)
                case ast.arg(arg=name):
                    found.add(name)
    return frozenset(found)


def code_words(page: str) -> list[str]:
    """Identifiers that a page sets as code."""
    spans = re.findall(r"`([^`\n]+)`", page)
    return [word for span in spans for word in re.findall(r"[A-Za-z_]\w*", span)]


def test_every_name_in_the_glossary_is_one_in_the_source() -> None:
    assert [word for word in code_words(GLOSSARY) if word not in names()] == []


def test_the_glossary_gives_a_word_one_line() -> None:
    rows = re.findall(r"^\| ((?!ours |---).*?) \|", GLOSSARY, re.M)
    words = [word for row in rows for word in re.findall(r"`(\w+)`", row)]
    assert len(words) > 40
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize("word", ["KVBasket", "wants_surprises"])
def test_a_name_that_nobody_gave_is_not_known(word: str) -> None:
    assert word not in names()
