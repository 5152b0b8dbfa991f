"""Regular languages in context: automata of the card, strings they accept, validity."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.generated.icll import (
    SYMBOLS,
    automaton,
    distance,
    minimised,
    state_after,
    walk,
)  # fmt: skip
from tests.evaluation.tasks.generated.generated_cases import one, wanted


@pytest.mark.parametrize("seed", range(20))
def test_automata_are_as_the_paper_draws_them(seed: int) -> None:
    edges = automaton(random.Random(seed))
    assert 2 <= len(edges) <= 12
    used = {symbol for each in edges for symbol in each}
    assert used <= set(SYMBOLS) and len(used) <= 18 == len(SYMBOLS)
    assert all(1 <= len(each) <= 3 for each in edges)
    assert minimised(edges) == edges
    reached = {0}
    for _ in edges:
        reached |= {to for state in reached for to in edges[state].values()}
    assert reached == set(range(len(edges)))


def test_states_that_permit_the_same_are_one() -> None:
    # 1 and 2 lead to 0 by b alone; 3 is never reached.
    edges = [{"a": 1, "c": 2}, {"b": 0}, {"b": 0}, {"a": 0}]
    assert minimised(edges) == [{"a": 1, "c": 1}, {"b": 0}]
    ring = [{"a": 1}, {"a": 2}, {"a": 0}]
    assert minimised(ring) == [{"a": 0}]


@pytest.mark.parametrize("seed", range(10))
def test_a_minimised_automaton_permits_the_same_strings(seed: int) -> None:
    draw = random.Random(seed)
    edges = []
    for state in range(6):
        to = draw.sample([other for other in range(6) if other != state], 2)
        edges.append(dict(zip(draw.sample("abcd", 2), to, strict=True)))
    small = minimised(edges)
    for _ in range(50):
        string = walk(edges, 30, draw)
        one_state, other = state_after(edges, string), state_after(small, string)
        assert set(edges[one_state]) == set(small[other])


def test_strings_are_accepted_and_of_1_to_49_symbols() -> None:
    (task,) = tasks_of("icll/writing")
    lengths = set()
    for sample in task.samples(wanted(2000, 3)):
        for line in sample.context.split("\n\n")[1].split("\n"):
            state_after(sample.facts["edges"], line.split())
            lengths.add(len(line.split()))
        assert state_after(sample.facts["edges"], sample.begin.split()) == sample.facts["state"]
    assert min(lengths) >= 1 and 40 < max(lengths) <= 49


def test_validity_counts_to_the_first_symbol_that_is_not_permitted() -> None:
    task, sample = one("icll(symbols=4)/writing", 600)
    given = replace(sample, facts={"edges": [{"a": 1}, {"b": 0, "c": 1}], "state": 0})
    for said, valid, first in (
        ("a b a c", 1.0, 1.0), ("a c c b", 1.0, 1.0), (" a b a b a a a", 1.0, 1.0),
        ("a b", 0.5, 1.0), ("a b c a", 0.5, 1.0), ("a\nb a", 0.25, 1.0), ("b a", 0.0, 0.0),
        ("", 0.0, 0.0),
    ):  # fmt: skip
        assert task.score(said, given) == {"valid": valid, "first": first}


def test_the_distance_is_that_of_the_card() -> None:
    # The card's toy: 1/2 (0 + .2 + .2), whatever the sum of the law.
    law = {"a": 0.5, "b": 0.3, "c": 0.2, "d": 0.0}
    assert distance(law, {"a": 1, "b": 2}) == pytest.approx(0.2)
    halves = {symbol: chance / 2 for symbol, chance in law.items()}
    assert distance(halves, ["a", "b"]) == pytest.approx(0.2)
    assert distance({"a": 1.0}, ["a"]) == 0.0 and distance({"a": 1.0}, ["b"]) == 1.0
    assert distance({"a": 0.0}, ["a"]) == 1.0


def test_laws_are_scored_along_the_given_string() -> None:
    task, sample = one("icll(symbols=2)/law", 600)
    assert task.asks_laws and sample.forced is not None
    assert sample.forced.among == tuple(f" {symbol}" for symbol in SYMBOLS)
    assert sample.forced.pieces == tuple(f" {s}" for s in sample.references[0].split())
    given = replace(
        sample, references=("a b",), facts={"edges": [{"a": 1}, {"b": 0, "c": 1}], "state": 0}
    )
    # First a alone is permitted, then b and c: distances 0.4 and 1/2 (.2 + .5 + .3).
    laws = [{" a": 0.3, " b": 0.2, " c": 0.0}, {" a": 0.3, " b": 0.7, " c": 0.0}]
    found = task.score_laws(laws, given)
    assert list(found) == ["agreement", "tvd", "greedy", "mass"]
    assert found["tvd"] == pytest.approx((0.4 + 0.5) / 2) and found["greedy"] == 1.0
    assert found["agreement"] == pytest.approx(1 - found["tvd"])
    assert found["mass"] == pytest.approx((0.5 + 1.0) / 2)
    assert task.score_laws([{" a": 0.1, " b": 0.2, " c": 0}, laws[1]], given)["greedy"] == 0.5


def test_both_tasks_ask_about_the_same_languages() -> None:
    writing, law = (task.samples(wanted(800, 2)) for task in tasks_of("icll"))
    assert [replace(each, forced=None) for each in law] == writing
