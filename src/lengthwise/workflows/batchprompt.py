"""BatchPrompt: many items in one prompt, in several orders, and a vote on each.

Lin et al., "BatchPrompt: Accomplish more with less", ICLR 2024, arXiv:2309.00384

A task's description is read once for many items, which saves most of the tokens where items are
short. What a model says of an item hangs on its place among the others. So each batch of N items is
asked about K times, each time in another order (Batch Permutation and Ensembling), and

    label = argmax over labels of the sum over rounds k of w_k [answer_k = label],
    w_k = 1 where the model says that it is confident, `doubt` where not.

An item leaves its batch when two rounds in a row gave it the same label, both confident
(Self-reflection-guided EArly Stopping). The others go on in a smaller batch.

Ours differs: `doubt` is 1, a plain majority, where nothing is said. Answers that cannot be read
abstain. A batch that does not fit the trained length is asked about in several prompts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence as Seq
from dataclasses import dataclass, field

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.methods.prompts import TextModel
from lengthwise.workflows.batch_answers import Answer, read_answers
from lengthwise.workflows.batch_votes import Votes

PAPER = Paper(
    "BatchPrompt: Accomplish more with less", "Lin et al.", 2024, arxiv="2309.00384",
    venue="ICLR", code="https://github.com/microsoft/batchprompt",
)  # fmt: skip
# Tokens of a free label, and those of the template around a prompt, at most.
FREE, TEMPLATE = 24, 64
_PROMPT = """{task}

There are {count} items:

{items}

Write one line for each of the {count} items and nothing else: its number, a colon, {label}{sure}. \
For instance:

{example}"""
_SURE = ", a comma, and whether you are confident or not confident"


@dataclass
class Cost:
    """What labelling took. tokens_in: of prompts, without the template; tokens_out: of answers.

    alone_calls, alone_in, alone_out: the same for one item a prompt, asked about once.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    alone_calls: int = 0
    alone_in: int = 0
    alone_out: int = 0


@dataclass(frozen=True)
class Labelled:
    """One item with its label. item: number of the item, from 0. label: None where all abstained.

    votes: what each label got. rounds: how often it was asked about. settled: whether it left
    early.
    """

    item: int
    label: str | None
    votes: dict[str, float]
    rounds: int
    settled: bool = False


@dataclass(frozen=True)
class Task:
    """What is asked of items. text: in words, with examples if there are any.

    labels: those allowed; None is any short text.
    """

    text: str
    labels: tuple[str, ...] | None = None

    def prompt(self, items: Seq[str], sure: bool) -> str:
        """What is asked about some items.

        Args:
            items: their texts; line ends in them are read as spaces.
            sure: whether the model is to say how confident it is.
        """
        lines = [f"[{number}] {' '.join(text.split())}" for number, text in enumerate(items, 1)]
        shown = [self.labels[0], self.labels[-1]] if self.labels else ["...", "..."]
        said = [", confident", ", not confident"] if sure else ["", ""]
        example = [f"{n}: {shown[n - 1]}{said[n - 1]}" for n in (1, 2)]
        return _PROMPT.format(
            task=self.text.strip(), count=len(items), items="\n".join(lines),
            label=f"one of {', '.join(self.labels)}" if self.labels else "its label in a few words",
            sure=_SURE if sure else "", example="\n".join(example[: max(1, len(items))]),
        )  # fmt: skip

    def line(self, model: TextModel, number: int, sure: bool) -> int:
        """Tokens of the longest line of an answer.

        Args:
            model: that counts.
            number: the last one of a batch.
            sure: as in `prompt`.
        """
        tail = ", not confident" if sure else ""
        longest = max((model.count(each) for each in self.labels or ()), default=FREE)
        return model.count(f"{number}: {tail}\n") + longest + 2


@dataclass(frozen=True)
class BatchPrompt:
    """How items are labelled. size: items a prompt, N. rounds: K; odd numbers have fewer ties.

    early: whether an item leaves when two rounds agree. doubt: weight of a vote that is not
    confident. seed: of the orders.
    """

    size: int = 32
    rounds: int = 5
    early: bool = True
    doubt: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "rounds"):
            if getattr(self, name) < 1:
                raise LengthwiseError(f"{name}={getattr(self, name)!r}: give 1 or more")
        if not 0 <= self.doubt <= 1:
            raise LengthwiseError(f"doubt={self.doubt!r}: give a weight from 0 to 1")

    @property
    def asks_confidence(self) -> bool:
        """Whether the model is asked how confident it is."""
        return self.early or self.doubt < 1

    def label(
        self, model: TextModel, task: Task, items: Seq[str], done: Collection[int] = (),
        cost: Cost | None = None, note: Callable[[str], None] | None = None,
    ) -> Iterator[Labelled]:  # fmt: skip
        """Labels items, those of one batch after those of another; an item comes when it is done.

        Args:
            model: that is asked.
            task: what is asked.
            items: their texts.
            done: numbers of items that have a label already. A batch of which all are done is
                passed over; of another one all items are asked about, in the orders of the seed.
            cost: what it takes is added there.
            note: told what the user should know.
        """
        run = _Run(self, model, task, items, cost or Cost(), note or (lambda said: None))
        known = set(done)
        for first in range(0, len(items), self.size):
            batch = range(first, min(first + self.size, len(items)))
            if not known.issuperset(batch):
                yield from (each for each in run.batch(batch) if each.item not in known)


@dataclass
class _Run:
    """Batches of one job."""

    how: BatchPrompt
    model: TextModel
    task: Task
    items: Seq[str]
    cost: Cost
    note: Callable[[str], None]
    told: set[str] = field(default_factory=set)

    def batch(self, batch: Seq[int]) -> Iterator[Labelled]:
        """All rounds of one batch."""
        votes = {item: Votes() for item in batch}
        left = [*batch]
        for number in range(self.how.rounds):
            # An order by the seed, the batch and the round, whatever was done before.
            random.Random(f"{self.how.seed}/{batch[0]}/{number}").shuffle(left)
            for together in self._prompts(left):
                for item, answer in zip(together, self._ask(together), strict=True):
                    votes[item].answers.append(answer)
            if self.how.early:
                out = sorted(item for item in left if votes[item].settled)
                left = sorted(item for item in left if not votes[item].settled)
                yield from (self._labelled(item, votes[item]) for item in out)
            if not left:
                return
        yield from (self._labelled(item, votes[item]) for item in sorted(left))

    def _labelled(self, item: int, votes: Votes) -> Labelled:
        doubt = self.how.doubt
        label = votes.winner(doubt)
        self.cost.alone_calls += 1
        self.cost.alone_in += self.model.count(self.task.prompt([self.items[item]], False))
        self.cost.alone_out += self.model.count(f"1: {label or ''}")
        return Labelled(
            item, label, votes.weights(doubt), len(votes.answers),
            self.how.early and votes.settled,
        )  # fmt: skip

    def _ask(self, together: Seq[int]) -> list[Answer]:
        sure = self.how.asks_confidence
        prompt = self.task.prompt([self.items[item] for item in together], sure)
        most = self.task.line(self.model, len(together), sure) * len(together) + 16
        said = self.model.write("", prompt, most)
        self.cost.calls += 1
        self.cost.tokens_in += self.model.count(prompt)
        self.cost.tokens_out += self.model.count(said)
        return read_answers(said, len(together), self.task.labels)

    def _prompts(self, order: Seq[int]) -> Iterator[list[int]]:
        """Items in prompts that the trained length has room for."""
        sure = self.how.asks_confidence
        a_line = self.task.line(self.model, len(order), sure)
        base = self.model.count(self.task.prompt([""], sure)) + TEMPLATE + 16
        held: list[int] = []
        tokens = base
        for item in order:
            size = self.model.count(f"[{len(order)}] {self.items[item]}\n") + a_line
            if held and tokens + size > self.model.trained_length:
                self._tell("the trained length has no room for some batches: they are asked about "
                           "in several prompts")  # fmt: skip
                yield held
                held, tokens = [], base
            if base + size > self.model.trained_length:
                self._tell(f"item {item + 1} alone is longer than the model was trained to read")
            held.append(item)
            tokens += size
        yield held

    def _tell(self, said: str) -> None:
        if said not in self.told:
            self.told.add(said)
            self.note(said)


__all__ = ["PAPER", "BatchPrompt", "Cost", "Labelled", "Task"]
