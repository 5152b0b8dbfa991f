"""BatchPrompt: votes over orders against an order that stays, on a simulator; plumbing on a model.

The simulator errs by the place of an item in its prompt, 2% at the front and `worst` more at the
back, and says the same of an item at the same place. A token is a word there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from benchmarks.reproduction.harness import Found, check, load

import lengthwise
from lengthwise.testing.simulated import PositionBiased
from lengthwise.workflows.batchprompt import BatchPrompt, Cost, Task

LABELS = ("yes", "no")
TASK = Task(
    "Read each passage and its question, and say whether the answer to the question is yes or no. "
    "A passage may not say it in these words: what follows from it counts too. Where it says "
    "nothing of it, answer no. Five examples follow, each with its answer.\n"
    + "".join(
        f"\nAn example of a passage {'with its many words ' * 15}is it? {answer}\n"
        for answer in ("no", "yes", "no", "yes", "yes")
    ),
    LABELS,
)
COLUMNS = {
    "way": "", "accuracy, %": ".1f", "calls, %": ".1f", "tokens, %": ".1f", "rounds an item": ".2f",
}  # fmt: skip


class Still(BatchPrompt):
    """The same items always in one order: what votes are worth without orders."""

    def asked_again(self, model: PositionBiased, rounds: int) -> list[str]:
        """The majority of `rounds` answers to the same prompts."""
        one = BatchPrompt(self.size, 1, False, seed=self.seed)
        found = [[*one.label(model, TASK, [*model.truth])] for _ in range(rounds)]
        every = [sorted(each, key=lambda item: item.item) for each in found]
        return [_majority([str(each[n].label) for each in every]) for n in range(len(model.truth))]


def _majority(labels: Sequence[str]) -> str:
    return max(labels, key=labels.count)


@check(COLUMNS)
def batchprompt(items: int = 3200, worst: float = 0.4) -> Iterator[Found]:
    """Accuracy, and calls and tokens of those of one item a prompt."""
    rng = random.Random(0)
    truth = {f"passage {n} {'with some words ' * 8}is it?": rng.choice(LABELS)
             for n in range(items)}  # fmt: skip
    model = PositionBiased(truth, LABELS, lambda place: 0.02 + worst * place)
    answers = [*truth.values()]
    yield _row("one item a prompt", model, BatchPrompt(size=1, rounds=1, early=False))
    yield _row("32 items, one round", model, BatchPrompt(rounds=1, early=False))
    still = Still().asked_again(model, 5)
    right = sum(a == b for a, b in zip(still, answers, strict=True))
    yield {"way": "32 items, 5 rounds of one order", "accuracy, %": 100 * right / items,
           "rounds an item": 5.0}  # fmt: skip
    for rounds in (3, 5, 7, 9):
        how = BatchPrompt(rounds=rounds, early=False)
        yield _row(f"32 items, {rounds} orders", model, how)
        yield _row(f"32 items, {rounds} orders, early stop", model, BatchPrompt(rounds=rounds))
    yield _row("32 items, 5 orders, doubt=0.5", model, BatchPrompt(early=False, doubt=0.5))
    yield _row("64 items, 5 orders, early stop", model, BatchPrompt(size=64))


def _row(way: str, model: PositionBiased, how: BatchPrompt) -> Found:
    cost = Cost()
    found = [*how.label(model, TASK, [*model.truth], cost=cost)]
    answers = [*model.truth.values()]
    right = sum(each.label == answers[each.item] for each in found)
    tokens, alone = cost.tokens_in + cost.tokens_out, cost.alone_in + cost.alone_out
    return {
        "way": way, "accuracy, %": 100 * right / len(found),
        "calls, %": 100 * cost.calls / cost.alone_calls, "tokens, %": 100 * tokens / alone,
        "rounds an item": sum(each.rounds for each in found) / len(found),
    }  # fmt: skip


@check({"items a prompt": ",", "labelled, %": ".0f", "right, %": ".0f", "calls": ",",
        "tokens in": ",", "tokens out": ","})  # fmt: skip
def model(items: int = 24, rounds: int = 3) -> Iterator[Found]:
    """The embedded model on a question that a word answers: whether lines come back to items."""
    rng = random.Random(1)
    kinds = {
        "animal": ["dog", "horse", "cow", "lion", "eagle", "snake", "whale", "rabbit"],
        "fruit": ["apple", "banana", "cherry", "grape", "lemon", "mango", "peach", "pear"],
    }
    pairs = [(word, kind) for kind, words in kinds.items() for word in words]
    drawn = [rng.choice(pairs) for _ in range(items)]
    for size in (1, 4, 8):
        found = lengthwise.label(
            load(), [word for word, _ in drawn], "Is it an animal or a fruit?", [*kinds],
            size=size, rounds=1 if size == 1 else rounds, early=False,
        )  # fmt: skip
        said = [(label, kind) for label, (_, kind) in zip(found.labels, drawn, strict=True)]
        yield {
            "items a prompt": size,
            "labelled, %": 100 * sum(label is not None for label, _ in said) / items,
            "right, %": 100 * sum(label == kind for label, kind in said) / items,
            "calls": found.cost.calls, "tokens in": found.cost.tokens_in,
            "tokens out": found.cost.tokens_out,
        }  # fmt: skip
