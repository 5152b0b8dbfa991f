"""`lengthwise.label`: what may be given, what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lengthwise
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.testing.prompting import letters
from lengthwise.testing.simulated import PositionBiased

TRUTH = {"The Heron left.": "yes", "It rained.": "no", "Two ships came.": "yes"}


def model(**more: Any) -> PositionBiased:
    return PositionBiased(TRUTH, ("yes", "no"), lambda place: 0.0, **more)


def test_each_item_has_its_label_and_its_votes() -> None:
    done: list[tuple[int, int]] = []
    found = lengthwise.label(
        model(sure=(1.0, 1.0)), [*TRUTH], "Is it about ships?", ["yes", "no"],
        progress=lambda *each: done.append(each),
    )  # fmt: skip
    assert found.labels == ["yes", "no", "yes"] and not found.notes and found.before == 0
    assert [each.item for each in found.items] == [0, 1, 2]
    assert all(each.settled and each.rounds == 2 for each in found.items)
    assert found.items[0].votes == {"yes": 2.0}
    assert done == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert found.cost.calls == 2 and found.cost.alone_calls == 3


def test_items_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "items.txt"
    path.write_text("\n".join(TRUTH))
    for given in (path, str(path)):
        assert lengthwise.label(model(), given, "Ships?", ["yes", "no"]).labels == [
            "yes",
            "no",
            "yes",
        ]


def test_what_cannot_be_read_is_told() -> None:
    found = lengthwise.label(model(mute=1.0), [*TRUTH], "Ships?", ["yes", "no"])
    assert found.labels == [None] * 3
    assert found.notes == ("3 items have no label: no answer about them could be read",)


def test_a_model_of_ours_is_asked() -> None:
    found = lengthwise.label(
        letters(), ["a", "b"], "Which letter?", ["a", "b"], size=1, rounds=1, recipe="lookup"
    )
    assert len(found.items) == 2 and found.cost.calls == 2 and found.cost.tokens_in > 50


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"items": []}, "there are no items"),
        ({"items": ["a", " "]}, "item 2 is ' ': give a text"),
        ({"items": ["a", 5]}, "item 2 is 5"),
        ({"task": ""}, "task='': say in words"),
        ({"labels": ["yes"]}, "labels: yes; give two or more"),
        ({"labels": []}, "labels: none; give two or more"),
        ({"labels": ["yes", "Yes "]}, "'Yes' is given twice"),
        ({"labels": ["yes", ""]}, "'' is none"),
        ({"labels": ["yes", "--"]}, "'--' is none"),
        ({"labels": "yes,no"}, "give a list of texts"),
        ({"labels": ["yes", 5]}, "give a list of texts"),
        ({"size": 0}, "size=0"),
        ({"rounds": 0}, "rounds=0"),
        ({"doubt": 2}, "doubt=2"),
        ({"recipe": "bm25"}, "is for documents"),
        ({"out": "no/such/folder/x"}, "there is no folder"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(given: dict[str, Any], words: str) -> None:
    options: dict[str, Any] = {"items": ["a"], "task": "Is it?", "labels": ["yes", "no"], **given}
    with pytest.raises(LengthwiseError, match=words):
        lengthwise.label(letters(), **options)
    with pytest.raises(DocumentError, match="cannot be read"):
        lengthwise.label(letters(), "no/such/file.txt", "Is it?")
