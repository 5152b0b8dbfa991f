"""Docstrings are read by people for whom English is a second language."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import lengthwise

ROOT = Path(lengthwise.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MOST_WORDS = 40
# A sentence ends at . ? or ! before a capital, a quote, or the `name:` of the next option.
_END = re.compile(r"(?<=[.?!])[)\"']?\s+(?=[A-Z`(\"<]|\w+(?:(?:, | and )\w+)*: )")
# An entry of a section of arguments: `name: `, `a, b: ` or `**names: `.
_ENTRY = re.compile(r"    (\*{0,2}\w+(?:, \*{0,2}\w+)*): ")


def public() -> list[str]:
    """Modules that people import from: those with names to give, and two rooms of small modules."""
    faces = [ROOT / "__init__.py", ROOT / "plugin.py", *sorted(ROOT.glob("*/__init__.py"))]
    found = [path for path in faces if "__all__ = [" in path.read_text(encoding="utf-8")]
    found += [
        path for room in ("documents", "tokenization") for path in (ROOT / room).glob("[!_]*.py")
    ]
    names = (".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in found)
    return sorted({name.removesuffix(".__init__") for name in names} - {"lengthwise.cli"})


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def sentences(text: str) -> Iterator[str]:
    """Of running text: an indented block (equations, tables) ends a sentence and is not read."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip() and not line.startswith("    "):
            if line.startswith("- "):
                yield from _END.split(" ".join(paragraph))
                paragraph = []
            paragraph.append(line.strip())
        elif paragraph:
            yield from _END.split(" ".join(paragraph).replace("et al.", "et al"))
            paragraph = []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_is_long(path: Path) -> None:
    said = [each for text in docstrings(path) for each in sentences(text)]
    long = [each for each in said if len(each.split()) > MOST_WORDS]
    assert not long, f"over {MOST_WORDS} words: {long[0]}"


def test_sentences_are_told_apart() -> None:
    long = "word " * 50
    assert max(len(each.split()) for each in sentences(f"One. Two {long}end. Three.")) == 52
    text = "One two. Three.\n\n    x = y. Z\n\nk: this. size, rest: that.\n- a\n- b"
    assert [*sentences(text)] == [
        "One two.", "Three.", "k: this.", "size, rest: that.", "- a", "- b",
    ]  # fmt: skip


def functions(module: ModuleType) -> Iterator[tuple[str, FunctionType, list[str]]]:
    """Functions and methods that a module gives: name, function, docstrings from its own up.

    Of a module without `__all__` it is what it defines itself. What comes from another package,
    such as a method of `Iterator`, is not ours to document.
    """
    package = module.__name__.partition(".")[0]

    def function_of(found: object) -> FunctionType | None:
        found = inspect.unwrap(getattr(found, "__func__", found))  # type: ignore[arg-type]
        ours = isinstance(found, FunctionType) and found.__module__.partition(".")[0] == package
        return found if ours else None  # type: ignore[return-value]

    own = [
        name
        for name, found in vars(module).items()
        if getattr(found, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    for name in getattr(module, "__all__", own):
        given = getattr(module, name)
        if not inspect.isclass(given):
            if (function := function_of(given)) is not None:
                yield name, function, [inspect.getdoc(function) or ""]
            continue
        fields = getattr(given, "__dataclass_fields__", {})
        for method in (each for each in dir(given) if each[0] != "_" and each not in fields):
            above = [vars(cls)[method] for cls in given.__mro__ if method in vars(cls)]
            if above and (function := function_of(above[0])) is not None:
                texts = [inspect.cleandoc(getattr(each, "__doc__", None) or "") for each in above]
                yield f"{name}.{method}", function, texts


def unnamed(function: FunctionType, texts: list[str]) -> str:
    """What is missing of a function's `Args:`, or of that of the first of its bases with one."""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    taken = [name for name in code.co_varnames[:count] if name not in ("self", "cls")]
    said = next((text for text in texts if "\nArgs:\n" in text), "")
    if taken and not said:
        return "no Args"
    section = re.split(r"\n(?=\S)", said.partition("\nArgs:\n")[2])[0]
    entries = [found[1] for line in section.splitlines() if (found := _ENTRY.match(line))]
    named = {name.strip(" *") for entry in entries for name in entry.split(",")}
    lacking = [name for name in taken if name not in named]
    return f"Args without {', '.join(lacking)}" if lacking else ""


def without_arguments(module: ModuleType) -> list[str]:
    """Each function of a module whose arguments are not all named, as `name (file:line): why`."""
    return [
        f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno}): {why}"
        for name, function, texts in functions(module)
        for code in [function.__code__]
        if (why := unnamed(function, texts))
    ]


@pytest.mark.parametrize("name", public())
def test_what_is_public_names_its_arguments(name: str) -> None:
    found = without_arguments(import_module(name))
    assert not found, "\n".join(found)


def test_what_is_public_is_read() -> None:
    rooms = {"plugin", "recipes", "scaling", "testing", "documents.folders"}
    assert {"lengthwise", *(f"lengthwise.{room}" for room in rooms)} <= set(public())
    assert {"load", "Model.stream"} <= {name for name, *_ in functions(lengthwise)}


TOY = '''
class Base:
    def inherited(self, a):
        """Does.

        Args:
            a: what.
        """

    def other(self, a):
        """Does."""

class Toy(Base):
    def inherited(self, a):
        """Does it otherwise."""

    def other(self, a):
        pass

    @classmethod
    def several(cls, a, b, *c, d=1, **e):
        """Does.

        Args:
            a, b: what. A line of its own:
                d: is no entry, for it is indented.
            *c: more.
            **e: yet more.

        Returns:
            d: is no entry either.
        """

    def nothing(self):
        pass

    def _private(self, a):
        pass

def bare(a): pass
'''


def test_arguments_that_are_not_named_are_found() -> None:
    toy = ModuleType("toy")
    exec(compile(TOY, "/somewhere/toy.py", "exec"), vars(toy))
    found = without_arguments(toy)
    assert found == [
        "Base.other (toy.py:10): no Args",
        "Toy.other (toy.py:17): no Args",
        "Toy.several (toy.py:20): Args without d",
        "bare (toy.py:40): no Args",
    ]
    toy.__all__ = ["bare"]  # type: ignore[attr-defined]
    assert [line.partition(" ")[0] for line in without_arguments(toy)] == ["bare"]
