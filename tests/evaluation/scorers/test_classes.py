"""Class labels."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.classes import (
    entity_counts,
    entity_f1,
    id_f1,
    label_exact,
    label_in_prediction,
    read_entities,
    relation_f1,
)

FOOD = ("Food", "Food and", "Food and drink")


def test_parts_of_the_right_name_do_not_count() -> None:
    said, right = "Type: Food and drink", ["Food and drink"]
    assert label_in_prediction(said, right, labels=FOOD) == 1
    assert label_in_prediction(said, right, labels=FOOD, compat=True) == 0.5
    two = ("Food", "Food and drink")
    assert label_in_prediction(said, right, labels=two, compat=True) == 1


def test_two_names_give_half() -> None:
    labels = ("Sport", "Person")
    assert label_in_prediction("Sport or Person", ["Person"], labels=labels) == 0.5
    assert label_in_prediction("Sport", ["Person"], labels=labels) == 0


def test_the_first_line_is_the_label() -> None:
    assert label_exact("Card Arrival\nblah", ["card arrival"]) == 1
    assert label_exact("\n card arrival \n", ["Card arrival"]) == 1
    assert label_exact("It is card arrival", ["card arrival"]) == 0


def test_ids_are_compared_as_sets() -> None:
    assert id_f1("a, b, c.", ["a", "b", "d"]) == pytest.approx(2 / 3)
    assert id_f1("甲，乙。丙", ["甲", "乙"], marks="，", end="。") == 1


def test_nothing_right_scores_zero() -> None:
    assert entity_f1([{"Oslo": "person"}], [{"Oslo": "city"}]) == 0
    assert entity_f1([{}], [{}]) == 0


def test_entities_are_read_line_by_line() -> None:
    said = "so\nOslo lies there.\nOslo: city\nBo: a Life: film\nno more\nRome: city"
    assert read_entities(said) == {}
    found = read_entities(said, "Oslo lies there.")
    assert found == {"Oslo": "city", "Bo: a Life": "film"}
    assert read_entities(said, "Oslo lies there.", compat=True) == {"Oslo": "city", "Bo": "a Life"}
    counts = entity_counts(found, {"Oslo": "city", "Bo": "person"})
    assert (counts.right, counts.said, counts.wanted, counts.f1) == (1, 2, 2, 0.5)


def test_relations_are_matched_by_place() -> None:
    known = ("per:age", "per:title")
    assert relation_f1(["per:age, per:title"], ["per:title, per:age"], relations=known) == 0
    assert relation_f1(["per:age"], ["per:age, per:title"], relations=known) == pytest.approx(2 / 3)


def test_no_reply_is_read_beyond_the_last_label() -> None:
    said, right = ["per:age", "x"], ["per:age", "per:age"]
    assert relation_f1(said, right, relations=("per:age",), most=1) == 1
    assert relation_f1(said, right, relations=("per:age",)) < 1
