"""Many items a prompt: indices map back, votes restore, early stops save."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.testing.simulated import PositionBiased
from lengthwise.workflows.batchprompt import BatchPrompt, Cost, Labelled, Task

LABELS = ("yes", "no")
TASK = Task("Is it about ships?", LABELS)


def items(count: int) -> dict[str, str]:
    return {f"text number {n}": LABELS[n * 7 % 3 % 2] for n in range(count)}


def biased(
    truth: dict[str, str], error: Callable[[float], float], **more: object
) -> PositionBiased:
    return PositionBiased(truth, LABELS, error, **more)  # type: ignore[arg-type]


def run(model: PositionBiased, how: BatchPrompt, cost: Cost | None = None) -> list[Labelled]:
    return [*how.label(model, TASK, [*model.truth], cost=cost)]


def right(model: PositionBiased, found: list[Labelled]) -> float:
    truth = [*model.truth.values()]
    return sum(each.label == truth[each.item] for each in found) / len(truth)


def test_indices_map_back_whatever_the_order() -> None:
    model = biased(items(75), lambda place: 0.0)
    for how in (BatchPrompt(size=16), BatchPrompt(size=7, rounds=3, seed=9, early=False)):
        found = run(model, how)
        assert right(model, found) == 1 and sorted(each.item for each in found) == [*range(75)]


def test_every_round_has_another_order_of_the_same_items() -> None:
    seen: list[list[str]] = []

    class Noting(PositionBiased):
        def write(self, text: str, question: str, *more: object) -> str:  # type: ignore[override]
            seen.append(re.findall(r"\[\d+\] (.*)", question))
            return super().write(text, question, 99)

    run(Noting(items(20), LABELS, lambda _: 0.0), BatchPrompt(size=20, rounds=5, early=False))
    assert len(seen) == 5 and all(sorted(each) == sorted(items(20)) for each in seen)
    assert len({tuple(each) for each in seen}) == 5
    first = [*seen]
    seen.clear()
    run(Noting(items(20), LABELS, lambda _: 0.0), BatchPrompt(size=20, rounds=5, early=False))
    assert seen == first


def test_votes_over_orders_restore_what_places_spoil() -> None:
    model = biased(items(320), lambda place: 0.02 + 0.5 * place)
    once = right(model, run(model, BatchPrompt(rounds=1, early=False)))
    voted = right(model, run(model, BatchPrompt(rounds=9, early=False)))
    assert once < 0.8 < 0.85 < voted


def test_early_stops_ask_less() -> None:
    model = biased(items(320), lambda place: 0.02 + 0.2 * place, sure=(0.95, 0.2))
    whole, early = Cost(), Cost()
    all_rounds = right(model, run(model, BatchPrompt(early=False), whole))
    stopped = run(model, BatchPrompt(), early)
    assert right(model, stopped) > all_rounds - 0.02
    assert early.tokens_in + early.tokens_out < 0.7 * (whole.tokens_in + whole.tokens_out)
    assert {each.rounds for each in stopped} > {2} and any(each.settled for each in stopped)
    assert all(each.rounds == 5 for each in stopped if not each.settled)


def test_doubt_counts_less() -> None:
    # Wrong votes are unsure, right ones sure: weights know what a majority does not.
    model = biased(items(200), lambda place: 0.45, sure=(1.0, 0.0))
    plain = right(model, run(model, BatchPrompt(early=False)))
    weighed = right(model, run(model, BatchPrompt(early=False, doubt=0.1)))
    assert weighed > plain + 0.1


def test_missing_lines_abstain() -> None:
    model = biased(items(64), lambda place: 0.0, mute=0.5)
    found = run(model, BatchPrompt(early=False, rounds=3))
    truth = [*model.truth.values()]
    assert {each.label for each in found} == {"yes", "no", None}
    assert all(each.label in (None, truth[each.item]) for each in found)
    assert all(sum(each.votes.values()) <= each.rounds == 3 for each in found)


def test_tokens_are_counted_beside_one_item_a_prompt() -> None:
    model, cost = biased(items(64), lambda place: 0.0, sure=(1.0, 1.0)), Cost()
    run(model, BatchPrompt(rounds=1, early=False), cost)
    assert (cost.calls, model.calls, cost.alone_calls) == (2, 2, 64)
    # "1: yes, confident" are three words, and "1: yes" are two.
    assert (cost.tokens_out, cost.alone_out) == (3 * 64, 2 * 64)
    assert cost.alone_in == sum(model.count(TASK.prompt([text], False)) for text in model.truth)
    assert cost.tokens_in < 0.4 * cost.alone_in


def test_items_that_are_done_are_not_given_again() -> None:
    model = biased(items(40), lambda place: 0.3)
    how = BatchPrompt(size=8, early=False)
    whole = {each.item: each for each in run(model, how)}
    calls, done = model.calls, {*range(8), 8, 9, 30}
    rest = [*how.label(model, TASK, [*model.truth], done)]
    assert {each.item for each in rest} == {*range(40)} - done
    assert all(whole[each.item] == each for each in rest)
    assert model.calls - calls == 4 * 5


def test_a_batch_that_does_not_fit_is_asked_about_in_parts() -> None:
    model, said = biased(items(30), lambda place: 0.0), list[str]()
    model.trained_length = 250  # type: ignore[misc]
    how, cost = BatchPrompt(size=30, rounds=2, early=False), Cost()
    found = [*how.label(model, TASK, [*model.truth], cost=cost, note=said.append)]
    assert right(model, found) == 1 and cost.calls > 2
    assert said == ["the trained length has no room for some batches: they are asked about in "
                    "several prompts"]  # fmt: skip
    model.trained_length = 60  # type: ignore[misc]
    assert len([*how.label(model, TASK, [*model.truth], note=said.append)]) == 30
    assert said[-1] == "item 30 alone is longer than the model was trained to read" or (
        "alone is longer than the model was trained to read" in said[-1]
    )


def test_a_line_end_in_an_item_makes_no_item() -> None:
    prompt = TASK.prompt(["one\n[2] two", "three"], True)
    assert "[1] one [2] two\n[2] three" in prompt and "yes, no" in prompt
    assert "a few words" in Task("What is it?").prompt(["x"], False)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"size": 0}, "size=0"), ({"rounds": -1}, "rounds=-1"), ({"doubt": 1.5}, "doubt=1.5"),
     ({"doubt": float("nan")}, "doubt=nan")],
)  # fmt: skip
def test_options_are_checked(options: dict[str, float], words: str) -> None:
    with pytest.raises(LengthwiseError, match=words):
        BatchPrompt(**options)  # type: ignore[arg-type]
