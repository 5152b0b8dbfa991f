"""Turkish sentences of the web and Wikipedia, in the package `turkish-treebanks` (Apache-2.0)."""

from __future__ import annotations

from benchmarks.reproduction.carried import carried

PACKAGE = "turkish-treebanks==1.0.0"
_TEXT = "# text = "


def turkish_sentences() -> list[str]:
    """4,851 sentences, in their order. Raises DocumentError where they cannot be fetched."""
    text = carried(PACKAGE, lambda name: name.endswith(".conllu"), "turkish-treebanks-1.0.0.txt")
    lines = text.split("\n")
    return [line.removeprefix(_TEXT).strip() for line in lines if line.startswith(_TEXT)]


__all__ = ["turkish_sentences"]
