"""split=headings: every chooser reads whole sections, where they fit a passage."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.prompting.bm25 import BM25
from lengthwise.methods.prompting.crag import CRAG
from lengthwise.methods.prompting.dense import Dense
from lengthwise.methods.prompting.map_reduce import MapReduce
from lengthwise.methods.prompting.refine import Refine
from lengthwise.methods.prompting.reorder import Reorder
from lengthwise.methods.prompting.xl3m import XL3M
from lengthwise.recipes import parse
from lengthwise.testing.prompting import letters
from tests.methods.prompting.noting import Noting, facts

SECTIONS = (
    "# Piers\n\nThe harbour has two piers. Both are of stone.\n\n",
    "# Cranes\n\n```\n# no heading\n```\nA crane lifts AB tons. Two of them are red.\n\n",
    "# Ships\n\nThe Heron left on Monday. Nobody saw it again.\n",
)
TEXT = "".join(SECTIONS)
ENCODER = {"encoder": Dense.example().encoder}


@pytest.mark.parametrize(
    ("cls", "options"),
    [(BM25, {"passage": 80}), (Reorder, {"passage": 80}), (Dense, {"passage": 80, **ENCODER}),
     (XL3M, {"segment": 80})],
)  # fmt: skip
def test_what_is_read_is_a_whole_section(cls: type[Method], options: dict[str, Any]) -> None:
    method = cls(budget=Budget(80), split="headings", **options)  # type: ignore[call-arg]
    found = method.write_prompt([TEXT], "What does a crane lift?", LocalText(letters()))
    assert found.text in SECTIONS
    assert [each.text for each in found.choices] == list(SECTIONS)
    if cls in (BM25, Reorder):
        assert found.text == SECTIONS[1]


def test_sections_are_what_is_clustered_and_noted() -> None:
    method = CRAG(budget=Budget(99), passage=80, k=3, summary="nearest", split="headings",
                  **ENCODER)  # type: ignore[arg-type]  # fmt: skip
    found = method.write_prompt([TEXT], "q", LocalText(letters()))
    assert all(each.text in TEXT for each in found.passages)
    for other in (MapReduce(budget=Budget(9), chunk=18, note=4, split="headings"),
                  Refine(budget=Budget(9), chunk=18, split="headings")):  # fmt: skip
        model = Noting(facts)
        other.write_prompt([TEXT], "q", model)
        assert [text.partition("part of the text:\n")[2] or text for text, _, _ in model.asked] == [
            *SECTIONS
        ]


def test_it_is_an_option_of_a_recipe() -> None:
    method = parse("bm25(budget=10%, split=headings)").prompting
    assert method == BM25(budget=Budget(10, "%"), split="headings")
    assert str(method) == "bm25(budget=10%, split=headings)"
