"""The generated page says what the resolver does."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

from lengthwise.errors import Refused
from lengthwise.methods.registry import methods
from lengthwise.recipes import resolve
from lengthwise.testing.laws import law_model
from lengthwise.testing.matrix import APPROXIMATE, EXACT, REFUSED
from lengthwise.testing.tiny import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def tables() -> list[dict[str, dict[str, str]]]:
    """The tables of the page: row -> column -> cell."""
    found: list[dict[str, dict[str, str]]] = []
    columns: list[str] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = line.strip("|").split("|")
        if line.startswith("| |"):
            columns = cells[1:]
            found.append({})
        elif line.startswith("|**"):
            found[-1][cells[0].strip("*")] = dict(zip(columns, cells[1:], strict=True))
    return found


def test_the_page_is_up_to_date() -> None:
    pairs, families = tables()
    known = methods()
    assert list(pairs) == list(known)
    assert list(families) == list(FAMILIES)
    llama = law_model("llama")
    for a, b in combinations_with_replacement(known.values(), 2):
        both = {a: a.example(), b: b.example()}
        exact = all(cls.chunking_exact and cls.decoding_exact for cls in both)
        expected = EXACT if exact else APPROXIMATE
        try:
            resolve(tuple(both.values()), llama)
        except Refused:
            expected = REFUSED
        for row, column in ((a.name, b.name), (b.name, a.name)):
            assert pairs[row][column].split(" ")[0] == expected, (row, column)
