"""What a batch job reads once: the choice of prefixes against all there are, and the order."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import product
from os.path import commonprefix

from hypothesis import given, settings, strategies as st

from lengthwise.serving.batch_plan import (
    Group,
    OutputLengths,
    common,
    decode_heavy_first,
    groups_of,
    trie,
)

PROMPTS = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=6)


def saved(groups: list[Group]) -> int:
    return sum(group.saved for group in groups)


def best(prompts: list[list[int]], least: int) -> int:
    """The most tokens saved, over every choice of one prefix a prompt."""
    choices = []
    for number, prompt in enumerate(prompts):
        others = [other for n, other in enumerate(prompts) if n != number]
        found = {len(commonprefix([prompt, other])) for other in others}
        choices.append(sorted({0} | {length for length in found if length >= least}))
    most = 0
    for lengths in product(*choices):
        taken = Counter(
            tuple(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True)
        )
        most = max(most, sum((count - 1) * len(prefix) for prefix, count in taken.items()))
    return most


@settings(max_examples=300, deadline=None)
@given(PROMPTS, st.integers(1, 3))
def test_no_choice_of_one_prefix_each_saves_more(prompts: list[list[int]], least: int) -> None:
    groups = groups_of(prompts, least)
    assert saved(groups) == best(prompts, least)


@given(PROMPTS)
def test_every_prompt_is_in_one_group_and_begins_with_its_prefix(prompts: list[list[int]]) -> None:
    groups = groups_of(prompts, 1)
    assert sorted(m for group in groups for m in group.members) == list(range(len(prompts)))
    for group in groups:
        assert len({tuple(prompts[m][: group.prefix]) for m in group.members}) == 1
        assert all(len(prompts[m]) >= group.prefix for m in group.members)


@given(PROMPTS)
def test_the_trie_holds_every_place_where_prompts_part(prompts: list[list[int]]) -> None:
    nodes = trie(prompts)
    assert sorted(n for node in nodes for n in node.ending) == list(range(len(prompts)))
    found: dict[tuple[int, ...], int] = {}

    def spelt(number: int) -> list[int]:
        below = [n for n, node in enumerate(nodes) if node.above == number]
        if nodes[number].ending:
            return prompts[nodes[number].ending[0]]
        return spelt(below[0])

    for number, node in enumerate(nodes):
        assert node.above < number and (number == 0 or nodes[node.above].depth < node.depth)
        prefix = tuple(spelt(number)[: node.depth])
        assert prefix not in found
        found[prefix] = number
        for ending in node.ending:
            assert prefix == tuple(prompts[ending])
    parted = {tuple(commonprefix([a, b])) for a, b in product(prompts, repeat=2)}
    assert set(found) == parted | {()}


def test_a_nested_prefix_is_weighed_against_the_one_above_it() -> None:
    """Four of six share ten tokens more: the first common prefix would be the wrong choice."""
    top, deep = list(range(20)), list(range(100, 110))
    prompts = [top + [n] for n in (1, 2)] + [top + deep + [n] for n in (3, 4, 5, 6)]
    groups = groups_of(prompts, 1)
    assert {(group.prefix, group.members) for group in groups} == {
        (20, (0, 1)), (30, (2, 3, 4, 5)),
    }  # fmt: skip
    assert saved(groups) == 20 + 3 * 30 > 5 * 20
    # With one token more there the prefix of all of them is worth more than two.
    fewer = [top + [n] for n in range(4)] + [top + deep[:2] + [n] for n in (3, 4)]
    assert [(g.prefix, len(g.members)) for g in groups_of(fewer, 1)] == [(20, 6)]


def test_prompts_that_are_alike_are_read_once() -> None:
    assert groups_of([[5, 6, 7]] * 3, 1) == [Group(3, (0, 1, 2))]
    assert groups_of([[5, 6, 7], [5, 6]], 1) == [Group(2, (0, 1))]


def test_a_prefix_shorter_than_the_least_is_not_shared() -> None:
    assert groups_of([[1, 2, 3], [1, 2, 4]], 3) == [Group(0, (0,)), Group(0, (1,))]


def test_ids_are_compared_and_not_text() -> None:
    assert common([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common([], [1]) == 0
    assert common([1, 2], [1, 2]) == 2


def test_ten_thousand_prompts_are_planned_in_seconds() -> None:
    rng = random.Random(0)
    prefixes = [[rng.randrange(1000) for _ in range(400)] for _ in range(500)]
    prompts = [
        prefixes[rng.randrange(500)] + [rng.randrange(1000) for _ in range(20)]
        for _ in range(10_000)
    ]
    begin = time.process_time()
    groups = groups_of(prompts)
    assert len(groups) == 500 and {group.prefix for group in groups} == {400}
    assert time.process_time() - begin < 20


def test_a_chain_of_prompts_is_no_deep_recursion() -> None:
    chain = [list(range(1, n + 2)) for n in range(1500)]
    groups = groups_of(chain)
    assert saved(groups) > 500_000


def test_groups_that_write_most_for_what_they_read_come_first() -> None:
    lengths = [110, 110, 30, 500]
    tokens = {0: 4.0, 1: 40.0, 2: 64.0, 3: 1.0}
    groups = [Group(100, (0, 1)), Group(0, (2,)), Group(0, (3,))]
    ordered = decode_heavy_first(groups, lengths, tokens.__getitem__)
    assert ordered == [Group(0, (2,)), Group(100, (1, 0)), Group(0, (3,))]


def test_lengths_are_those_that_requests_alike_have_given() -> None:
    history = OutputLengths()
    assert history.expected(64) == 64
    history.add(64, 10)
    history.add(64, 20)
    assert history.expected(64) == 15 and history.expected(8) == 8
