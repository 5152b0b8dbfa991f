"""ADED by the rules of its authors' code: what the table learns, and how it is searched."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError
from lengthwise.methods.drafting._shared.puct import PATHS, search_products, search_sums
from lengthwise.methods.drafting.aded import ADED, ADEDDrafter, TextTrigrams, Trigrams
from tests.table_runs import VOCAB, generate, model, tokens

Table = dict[tuple[int, int], tuple[list[int], list[float]]]


def test_every_step_adds_to_the_trigrams_of_the_last_16_tokens_and_reads_no_logits() -> None:
    drafter = ADEDDrafter(ADED(), TextTrigrams(VOCAB))
    text = list(range(3, 43))
    logits = torch.full((1, VOCAB), torch.nan)
    for _ in range(2):
        drafter.learn(text, Tree(text[-2]), logits, [0])
    table = drafter.trigrams
    # Sixteen tokens are fourteen trigrams.
    assert len(table) == 14
    found, weights = table.row(text[-3], text[-2])
    assert found == [text[-1]] and weights == pytest.approx([0.08])
    assert table.row(text[-16], text[-15])[0] == [text[-14]]
    assert table.row(text[-17], text[-16]) == ([], [])


def test_a_trigram_that_stands_twice_in_the_end_of_the_text_counts_twice() -> None:
    table = TextTrigrams(VOCAB, 10)
    table.note([5, 6, 7, 5, 6, 7, 5, 6, 8])
    found, weights = table.row(5, 6)
    assert found == [7, 8] and weights == pytest.approx([0.08, 0.04])


def test_weights_stop_at_three() -> None:
    table = TextTrigrams(VOCAB, 10)
    for _ in range(100):
        table.note([5, 6, 7])
    assert table.row(5, 6) == ([7], [3.0])


def test_what_is_said_enters_a_full_row_in_place_of_the_lightest() -> None:
    table = TextTrigrams(VOCAB, 10)
    ids = np.arange(12)[None]
    table.add([5 * VOCAB + 6], ids, np.linspace(0.5, 0.1, 12, dtype=np.float32)[None])
    table.note([5, 6, 50])
    found, weights = table.row(5, 6)
    assert found == [*range(11), 50] and weights[-1] == pytest.approx(0.04)


def test_a_prompt_stands_in_for_the_corpus_and_only_adds_to_what_is_known() -> None:
    table = TextTrigrams(VOCAB, 100)
    table.read([1, 2, 3, 1, 2, 3, 1, 2, 4])
    assert table.row(1, 2)[1] == pytest.approx([0.5, 0.25])
    table.read([1, 2, 4])
    assert table.row(1, 2) == ([3, 4], pytest.approx([0.5, 0.29]))


def test_the_defaults_are_those_of_the_authors_code() -> None:
    options = ADED()
    drafter = ADEDDrafter(options, TextTrigrams(VOCAB))
    assert (options.learn, options.search, options.nodes) == ("text", "sums", 64)
    assert (drafter._descents, drafter._depth, PATHS) == (150, 4, 24)
    ours = ADEDDrafter(ADED(learn="logits", search="products"), Trigrams(VOCAB))
    assert (ours._descents, ours._depth) == (64, 8)


@pytest.mark.parametrize("weights", [[0.9, 0.1], [2.5, 0.04, 0.04], [0.3, 0.3, 0.2, 0.1]])
def test_visits_are_those_of_the_formula(weights: list[float]) -> None:
    """At depth 2 nothing walks on at random, so the visits can be counted apart."""
    successors = list(range(10, 10 + len(weights)))
    visits = dict.fromkeys(successors, 0)
    values = dict.fromkeys(successors, 0.0)
    for number in range(60):

        def score(token: int, count: int = number) -> float:
            own = visits[token]
            if not own:
                return math.inf
            explore = 32 + math.log((count + 8 + 1) / 8)
            weight = weights[token - 10]
            return values[token] / own + explore * weight * math.sqrt(count) / (1 + own)

        best = max(successors, key=score)
        visits[best] += 1
        values[best] += 1 + weights[best - 10]
    rows: Table = {(1, 2): (successors, weights)}
    asked: Counter[tuple[int, int]] = Counter()

    def table(before: int, token: int) -> tuple[list[int], list[float]]:
        asked[before, token] += 1
        return rows.get((before, token), ([], []))

    guesses = search_sums(1, 2, table, 2, 60, random.Random(0))
    assert [token for _, token, _ in guesses] == sorted(successors, key=lambda t: -visits[t])
    assert asked[1, 2] == 1


def wide(before: int, token: int) -> tuple[list[int], list[float]]:
    return [(token * 12 + rank) % 997 for rank in range(12)], [0.5 / (1 + r) for r in range(12)]


def test_a_search_gives_24_paths_with_the_roots_own_and_goes_on_from_each() -> None:
    guesses = search_sums(1, 2, wide, 4, 150, random.Random(0))
    assert PATHS - 1 < len(guesses) <= 2 * (PATHS - 1)
    depths = [0]
    for parent, _, _ in guesses:
        depths.append(depths[parent] + 1)
    assert max(depths) <= 4
    assert len({(parent, token) for parent, token, _ in guesses}) == len(guesses)


def test_weights_above_one_are_no_probabilities() -> None:
    rows: Table = {(1, 2): ([5, 6], [3.0, 1.0])}
    empty: tuple[list[int], list[float]] = ([], [])
    for guesses in (
        search_sums(1, 2, lambda b, t: rows.get((b, t), empty), 2, 20, random.Random(0)),
        search_products(1, 2, lambda b, t: rows.get((b, t), empty), 2, 20),
    ):
        assert {token: prob for _, token, prob in guesses} == {5: 0.75, 6: 0.25}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_depth_bounds_the_paths_of_both_searches(depth: int) -> None:
    for guesses in (
        search_sums(1, 2, wide, depth, 100, random.Random(0)),
        search_products(1, 2, wide, depth, 100),
    ):
        depths = [0]
        for parent, _, _ in guesses:
            depths.append(depths[parent] + 1)
        assert max(depths) == depth


def test_a_table_of_one_rule_is_refused_by_the_other(tmp_path: Path) -> None:
    path = str(tmp_path / "table.safetensors")
    learned = ADED(table=path)
    generate(tokens(30), learned.start_drafter(model()))
    assert learned.kept is TextTrigrams
    with pytest.raises(LengthwiseError, match="its kind is aded, learned from text and aded is"):
        ADED(learn="logits", table=path).check(model())


@pytest.mark.parametrize("search", ["sums", "products"])
@pytest.mark.parametrize("learn", ["text", "logits"])
def test_every_rule_is_token_equal_to_plain_decoding(learn: str, search: str) -> None:
    prompt = tokens(12, 3) * 4
    plain = generate(prompt)
    options = ADED(learn=learn, search=search, fresh=True)
    drafted = generate(prompt, options.start_drafter(model()))
    assert drafted.output == plain.output
    assert sum(drafted.metrics.accepted.values()) > 0
