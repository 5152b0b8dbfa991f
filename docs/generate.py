"""Writes docs/methods.md from the registry and the docstrings, and the number of model families
wherever a page gives it; run by `make docs`.

`--check` only tells whether the pages are up to date, for the tests.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from lengthwise.methods.base import Method, Question
from lengthwise.methods.options import options, show
from lengthwise.methods.registry import OURS, registered
from lengthwise.testing.tiny import FAMILIES

PAGE = Path(__file__).with_name("methods.md")
# Pages that say how many families of models pass: as many as the table of compatibility has rows.
COUNTING = (Path(__file__).parents[1] / "README.md", Path(__file__).with_name("check.md"))
QUESTIONS = {
    Question.POSITIONS: "Where is each token?",
    Question.SELECTION: "Which keys does a query read?",
    Question.RETENTION: "What is kept, what is dropped?",
    Question.CODECS: "How is it stored?",
    Question.DRAFTING: "What is guessed ahead?",
    Question.PROMPTING: "What enters the context?",
}


def page() -> str:
    """The whole page, from what is registered by this package."""
    lines = [
        "# Methods",
        "",
        "Made by `make docs` from the registry and the docstrings. A recipe joins methods with "
        "`+`: see [recipes](recipes.md); which go together: see [compatibility](compatibility.md).",
    ]
    for question, words in QUESTIONS.items():
        classes = [i.cls for i in registered() if i.package == OURS and i.cls is not None]
        inside = sorted((c for c in classes if c.question is question), key=lambda c: c.name)
        if inside:
            lines += ["", f"## {words} (`{question.value}`)"]
        for cls in inside:
            lines += _method(cls)
    return "\n".join(lines) + "\n"


def _method(cls: type[Method]) -> list[str]:
    module = inspect.getmodule(cls)
    doc = inspect.getdoc(module) or ""
    lines = ["", f"### `{cls.name}`", "", f"*{cls.paper}*", "", *doc.splitlines()]
    rows = options(cls)
    if rows:
        lines += ["", "| option | default | allowed | meaning |", "|---|---|---|---|"]
        lines += [f"| `{o.name}` | `{show(o.default)}` | {o.allowed} | {o.help} |" for o in rows]
    if cls.best_known:
        lines += ["", f"Best known setting: `{cls.best_known}`."]
    claims = {
        "lossless": cls.lossless,
        "chunked prefill equals one pass": cls.chunking_exact,
        "decoding equals prefill": cls.decoding_exact,
    }
    said = ", ".join(name if holds else f"not: {name}" for name, holds in claims.items())
    reproduction = Path(__file__).parent / "reproduction" / f"{cls.name}.md"
    link = f" [Reproduction](reproduction/{cls.name}.md)." if reproduction.exists() else ""
    return [*lines, "", f"Laws: {said}.{link}"]


def counted(text: str) -> str:
    """A page whose number of families is the one that the tests run."""
    return re.sub(r"\b\d+ families\b", f"{len(FAMILIES)} families", text)


def main() -> int:
    pages = {PAGE: page()}
    pages |= {path: counted(path.read_text(encoding="utf-8")) for path in COUNTING}
    old = [
        path for path, text in pages.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]  # fmt: skip
    if "--check" in sys.argv[1:]:
        names = ", ".join(path.name for path in old)
        if old:
            print(f"out of date: {names}; run `make docs`", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        path.write_text(pages[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
