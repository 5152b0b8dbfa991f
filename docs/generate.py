"""Writes every generated page of docs; run by `make docs`.

- docs/methods.md and docs/methods/NAME.md, from the registry and the docstrings;
- docs/compatibility.md, from docs/compatibility.json, which gets what is missing in it by running
  it (`--measure` runs all of it again, which takes long);
- the number of model families, wherever a page gives it.

`--check` runs nothing and only tells which pages are out of date, for the tests.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import compatibility

from lengthwise._utils.papers import papers_of
from lengthwise.methods.base import Method
from lengthwise.methods.options import options, show
from lengthwise.methods.slots import questions
from lengthwise.recipes.registry import OURS, registered
from lengthwise.testing.matrix import Matrix, measure, measured
from lengthwise.testing.tiny import FAMILIES

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MATRIX = DOCS / "compatibility.json"
# Pages that say how many families of models pass: as many as the table of compatibility has rows.
COUNTING = (ROOT / "README.md", DOCS / "check.md")
MADE = "Made by `make docs` from the registry and the docstrings."


def ours() -> dict[str, type[Method]]:
    """The methods of this package, by name."""
    found = (i.cls for i in registered() if i.package == OURS and i.cls is not None)
    return {cls.name: cls for cls in sorted(found, key=lambda cls: cls.name)}


def index() -> str:
    """The page of all methods: a line each."""
    lines = [
        "# Methods",
        "",
        f"{MADE} Each name leads to a page with the idea, the equations, the options, what goes "
        "with it and what became of the paper's claim here. A recipe joins methods with `+`: see "
        "[recipes](recipes.md); which go together: see [compatibility](compatibility.md).",
    ]
    for question, words in questions().items():
        inside = [cls for cls in ours().values() if cls.question == question]
        if inside:
            lines += ["", f"## {words} (`{question}`)", "", "| method | is | paper |",
                      "|---|---|---|"]  # fmt: skip
        for cls in inside:
            said = _cell(_doc(cls).splitlines()[0])
            name = f"[`{cls.name}`](methods/{cls.name}.md)"
            lines.append(f"| {name} | {said} | {_cell(_papers(cls))} |")
    return "\n".join(lines) + "\n"


def method_page(cls: type[Method]) -> str:
    """The page of one method. The site adds what it goes with, and its reproduction."""
    source = Path(inspect.getfile(cls)).resolve().relative_to(ROOT).as_posix()
    lines = [
        f"# `{cls.name}`", "", _papers(cls), "",
        f"{questions()[cls.question]} One of the [methods](../methods.md); the code is "
        f"[{source}](../../{source}).", "", *_doc(cls).splitlines(),
    ]  # fmt: skip
    rows = options(cls)
    if rows:
        lines += ["", "## Options", "", "| option | default | allowed | meaning |",
                  "|---|---|---|---|"]  # fmt: skip
        lines += [
            f"| `{o.name}` | `{show(o.default)}` | {_cell(o.allowed)} | {_cell(o.help)} |"
            for o in rows
        ]
    if cls.best_known:
        lines += ["", f"Best known setting: `{cls.best_known}`."]
    claims = {
        "lossless": cls.lossless,
        "chunked prefill equals one pass": cls.chunking_exact,
        "decoding equals prefill": cls.decoding_exact,
    }
    said = ", ".join(name if holds else f"not: {name}" for name, holds in claims.items())
    lines += ["", "## Goes with", "", f"Laws: {said}. [What goes with what](../compatibility.md)."]
    if (DOCS / "reproduction" / f"{cls.name}.md").exists():
        lines += ["", "## Reproduction", "", f"[What became of the claim here]"
                  f"(../reproduction/{cls.name}.md)."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _doc(cls: type[Method]) -> str:
    return inspect.getdoc(inspect.getmodule(cls)) or cls.name


def _cell(text: object) -> str:
    """A text that may stand in a table."""
    return str(text).replace("|", "\\|")


def _papers(cls: type[Method]) -> str:
    """Where the papers of a method and their authors' code are; its docstring cites them."""
    found = []
    for paper in papers_of(cls.paper):
        name = f"arXiv:{paper.arxiv}" if paper.arxiv else paper.title
        found.append(f"[{name}]({paper.link})" if paper.link else name)
        if paper.code and paper.code != paper.link:
            found.append(f"[code]({paper.code})")
    return f"*{', '.join(found) or 'No paper.'}*"


def counted(text: str) -> str:
    """A page whose number of families is the one that the tests run."""
    return re.sub(r"\b\d+ families\b", f"{len(FAMILIES)} families", text)


def pages(matrix: Matrix) -> dict[Path, str]:
    """Every generated page with its text."""
    found = {DOCS / "methods.md": index(), DOCS / "compatibility.md": compatibility.page(matrix)}
    for name, cls in ours().items():
        found[DOCS / "methods" / f"{name}.md"] = method_page(cls)
    return found | {path: counted(path.read_text(encoding="utf-8")) for path in COUNTING}


def check(matrix: Matrix | None) -> list[str]:
    """What is out of date."""
    if matrix is None:
        return [MATRIX.name]
    found = {*matrix.names, *matrix.absent}
    if found != ours().keys() & measured().keys() or list(matrix.traits) != list(FAMILIES):
        return [MATRIX.name]
    made = pages(matrix)
    old = [
        path for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]  # fmt: skip
    return [path.relative_to(ROOT).as_posix() for path in (*old, *_left_over(made))]


def _left_over(made: dict[Path, str]) -> list[Path]:
    """Pages of methods that are no more."""
    return [path for path in sorted((DOCS / "methods").glob("*.md")) if path not in made]


def main(arguments: list[str]) -> int:
    kept = Matrix.read(MATRIX.read_text(encoding="utf-8")) if MATRIX.exists() else None
    if "--check" in arguments:
        old = check(kept)
        if old:
            print(f"out of date: {', '.join(old)}; run `make docs`", file=sys.stderr)
        return 1 if old else 0
    matrix = measure(
        lambda what: print(f"running {what}", file=sys.stderr),
        None if "--measure" in arguments else kept,
    )
    MATRIX.write_text(matrix.dump(), encoding="utf-8")
    made = pages(matrix)
    for path, text in made.items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in _left_over(made):
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
