"""The pick of a run follows the rule that it states; without a goal there is a trade-off."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.compare.results import Comparison
from tests.evaluation.measured_rows import FULL, LOST, REFUSED, ROWS, SMALL, row


def test_the_pick_for_memory_is_small_and_keeps_the_needles() -> None:
    choice = ROWS.best(goal="memory")
    assert (choice.recipe, choice.goal) == (SMALL.recipe, "memory")
    assert "90%" in choice.why and "512 tokens" in choice.why and "100 MB" in choice.why


def test_without_a_goal_the_answer_is_the_trade_off() -> None:
    choice = ROWS.best()
    assert choice.recipe is None and choice.goal is None
    assert choice.front == ("full", SMALL.recipe, LOST.recipe)
    kept, small, lost = choice.reasons
    assert "keeps most" in kept and "loses nothing" in kept
    assert "soonest" in small and "40" not in small
    assert "smallest" in lost and "loses 8.00 nats" in lost
    assert all(recipe in choice.why for recipe in choice.front)


def test_a_recipe_as_large_as_full_is_never_picked_for_memory() -> None:
    faster = row("lookup", tokens_per_s=90.0)
    nearly = row("yarn(factor=2)", kv_bytes=97_000_000)
    choice = Comparison([FULL, faster, nearly], trained_length=8192).best(goal="memory")
    assert choice.recipe is None and "holds less than full" in choice.why
    # Beyond the trained length too, where full itself need not clear the bar.
    far = {"length": 32768, "agreement": None, "kl": None}
    rows = [row("full", copy_loss=7.0, **far), row("yarn(factor=4)", **far)]
    assert Comparison(rows, trained_length=8192).best(goal="memory").recipe is None
    assert Comparison(rows, trained_length=8192).best(goal="quality").recipe == "yarn(factor=4)"


def test_the_peak_that_is_as_large_as_full_is_said() -> None:
    assert "as much as full (110 MB)" in ROWS.best(goal="memory").why
    bounded = row("razor", kv_bytes=25_000_000, kv_peak_bytes=30_000_000)
    why = Comparison([FULL, bounded], trained_length=8192).best(goal="memory").why
    assert "as much as full" not in why


def test_speed_is_judged_on_the_answer_that_was_asked_for() -> None:
    short = {"max_new_tokens": 10}
    soon = row("infllm", ttft_s=5.0, tokens_per_s=10.0)
    rows = Comparison([FULL, soon], trained_length=8192)
    # 128 tokens: 10 + 127/20 = 16.35 s against 5 + 127/10 = 17.7 s; 10 tokens: 10.45 against 5.9.
    assert rows.best(goal="speed").recipe == "full"
    assert "none is faster than full" in rows.best(goal="speed").why
    brief = [row("full", **short), row("infllm", ttft_s=5.0, tokens_per_s=10.0, **short)]
    choice = Comparison(brief, trained_length=8192).best(goal="speed")
    assert choice.recipe == "infllm" and "10 tokens in 5.9 s" in choice.why


def test_a_pace_of_few_tokens_and_a_bar_that_is_close_are_named() -> None:
    brief = row("snapkv", tokens_per_s=90.0, answer_tokens=3, agreement=0.91,
                agreement_interval=(0.88, 0.93))  # fmt: skip
    why = Comparison([FULL, brief], trained_length=8192).best(goal="speed").why
    assert "rests on 3 tokens" in why and "between 88.0% and 93.0%" in why


def test_a_recipe_that_wrote_no_second_token_is_not_taken_for_the_soonest() -> None:
    mute = row("streaming", ttft_s=9.0, tokens_per_s=None, answer_tokens=0)
    rows = Comparison([FULL, mute], trained_length=8192)
    assert rows.best(goal="speed").recipe == "full"
    assert rows.best(goal="quality").recipe == "full"
    silent = [row(recipe, tokens_per_s=None, answer_tokens=0) for recipe in ("full", "h2o")]
    for goal in (None, "quality", "speed"):
        why = Comparison(silent, trained_length=8192).best(goal=goal).why
        assert "it wrote no second one" in why and "inf" not in why
    assert "soonest" not in Comparison(silent, trained_length=8192).best().why
    assert "it wrote no second one" in Comparison(silent, trained_length=8192).to_html()


def test_too_few_tokens_give_no_verdict() -> None:
    bare = {"copy_loss": None, "needle_loss": None, "fidelity_tokens": 24}
    rows = Comparison([row("full", **bare), row("snapkv", **bare)], trained_length=8192)
    for goal in (None, "quality", "speed", "memory"):
        assert rows.best(goal=goal).recipe is None
        assert "Only 24 tokens" in rows.best(goal=goal).why


def test_expected_answers_come_before_everything_else() -> None:
    right = row("infllm", expected_found=True, tokens_per_s=5.0)
    rows = Comparison([row("full", expected_found=False), right], trained_length=8192)
    assert rows.best(goal="quality").recipe == "infllm"
    assert rows.best(goal="speed").recipe == "infllm"
    assert "finds 100% of the expected answers" in rows.best(goal="quality").why


def test_a_goal_that_there_is_not_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="allowed are quality, speed, memory"):
        ROWS.best(goal="cheapness")


def test_full_is_picked_when_nothing_beats_it() -> None:
    slower = row("kivi(bits=2)", tokens_per_s=10.0, kv_bytes=12_000_000)
    wrong = row("pi(factor=4)", agreement=0.5, kl=1.0, kv_bytes=12_000_000, tokens_per_s=99.0)
    same = row("lookup", tokens_per_s=20.2)
    rows = Comparison([FULL, slower, wrong, same, LOST], trained_length=8192)
    assert rows.best(goal="speed").recipe == "full"
    assert rows.best(goal="quality").recipe == "full"
    assert rows.best(goal="memory").recipe == slower.recipe
    assert "lookup" not in rows.best().front


def test_beyond_the_trained_length_the_probes_decide_and_may_cost_speed() -> None:
    far = {"length": 32768, "agreement": None, "kl": None}
    full = row("full", copy_loss=6.0, needle_loss=7.0, **far)
    keeps = row("self_extend(group=8)", tokens_per_s=12.0, **far)
    near = row("yarn(factor=4)", needle_loss=1.4, tokens_per_s=19.0, **far)
    rows = Comparison([full, keeps, near, FULL, SMALL], trained_length=8192)
    assert rows.best(goal="speed").recipe == "yarn(factor=4)"
    assert "not trained for" in rows.best(goal="speed").why
    assert rows.best(goal="quality").recipe == keeps.recipe
    assert rows.best(8192, "memory").recipe == SMALL.recipe


def test_no_pick_without_a_measurement() -> None:
    assert Comparison().best().recipe is None
    assert Comparison([REFUSED]).best().recipe is None
    bare = row("yarn", agreement=None, copy_loss=None, needle_loss=None)
    assert Comparison([bare]).best().recipe is None
