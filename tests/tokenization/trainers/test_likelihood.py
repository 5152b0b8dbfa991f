"""Gains in likelihood: the card's figures, and a count of every pair that stays right."""

from __future__ import annotations

import random

import pytest

from lengthwise.tokenization.trainers.likelihood import Gains, Symbols, merge_gain, neighbours


def test_frequency_and_likelihood_choose_other_pairs() -> None:
    # e 1000, s 800, q 50, u 60, others 500: the frequent pair makes the corpus less likely.
    assert merge_gain(1000, 800, 0, 120, 2410) == pytest.approx(-228.14, abs=0.005)
    assert merge_gain(50, 60, 0, 50, 2410) == pytest.approx(216.21, abs=0.005)
    assert pytest.approx(0.00015) == 120 / (1000 * 800)
    assert pytest.approx(0.01667, abs=1e-5) == 50 / (50 * 60)


def _symbols(seed: int) -> Symbols:
    chance = random.Random(seed)
    words = {
        "".join(chance.choice("aabc") for _ in range(chance.randint(1, 9))): chance.randint(1, 9)
        for _ in range(60)
    }
    symbols = Symbols(words, list("abc"))
    symbols.segment([[symbols.ids[letter] for letter in word] for word in words])
    return symbols


@pytest.mark.parametrize("seed", range(5))
def test_a_gain_is_what_the_likelihood_changes_by(seed: int) -> None:
    symbols = _symbols(seed)
    gains = Gains(symbols)
    for _ in range(25):
        best = gains.best()
        if best is None:
            break
        before = symbols.likelihood()
        gains.merge(best[0])
        assert symbols.likelihood() - before == pytest.approx(best[1], abs=1e-6)
        kept, pairs = symbols.counts, {p: n for p, n in symbols.pairs.items() if n}
        fresh = Symbols(dict(zip(symbols.words, symbols.weights, strict=True)), symbols.names)
        fresh.segment(symbols.cut)
        assert (fresh.counts, fresh.pairs) == (kept, pairs)
    assert len(symbols.names) > 3


@pytest.mark.parametrize("seed", range(5))
def test_the_best_pair_is_the_best_of_all(seed: int) -> None:
    symbols = _symbols(seed)
    gains = Gains(symbols)
    for _ in range(6):
        best = gains.best()
        assert best is not None
        found = {}
        for pair in [pair for pair, count in symbols.pairs.items() if count]:
            trial = Symbols(dict(zip(symbols.words, symbols.weights, strict=True)), symbols.names)
            trial.segment([list(cut) for cut in symbols.cut])
            before = trial.likelihood()
            trial.merge(pair)
            found[pair] = trial.likelihood() - before
        assert best[1] == pytest.approx(max(found.values()), abs=1e-6)
        assert found[best[0]] == pytest.approx(best[1], abs=1e-6)
        gains.merge(best[0])


def test_runs_are_counted_as_they_are_merged() -> None:
    assert list(neighbours([1, 1, 1])) == [(1, 1)]
    assert list(neighbours([1, 1, 1, 1, 2])) == [(1, 1), (1, 1), (1, 2)]
    symbols = Symbols({"aaaaa": 3}, ["a"])
    symbols.segment([[0] * 5])
    assert symbols.pairs == {(0, 0): 6}
    symbols.merge((0, 0))
    assert symbols.cut == [[1, 1, 0]] and symbols.counts == [3, 6]
