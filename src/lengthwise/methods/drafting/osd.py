"""OSD: the drafting model learns from what it guesses wrong, while it serves.

Liu et al., "Online Speculative Decoding", ICML 2024, arXiv:2310.07177.

Verification computes what the target would have said at every guess. Where a guess was wrong, that
distribution is an example for the drafter, and costs nothing more. What people ask today is like
what they ask next.

    while serving: keep (text so far, p) at each place whose guess was rejected
    every I requests: descend on the mean over these places of
        forward  KL(p || q),   reverse  KL(q || p),   at temperature 1, or of both sides
        jsd      0.9 KL(p || m) + 0.1 KL(q || m),   m = 0.9 p + 0.1 q
        both     0.9 KL(p || q) + 0.1 KL(q || p),   which is what the authors' code calls jsd
    the new q guesses from the next request on

While it serves, the authors' code knows the forward loss alone, which is the default. The others
are of its training beforehand.

Only the drafter changes, and only between requests, so nothing is lost. The drafter is a second
model, or a copy of some of the target's layers. The copy reads with a cache of its own, because
weights that change cannot read what the target's have stored.

Distributions are kept as their 64 largest entries and the rest. Each is learned from once, within a
window of the text. Examples are taken where the drafter's likeliest chain first left the text, and
never where it was right to its end. `save` keeps the taught weights between processes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.loading import LOCK
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.drafting._shared.distillation import (
    LOSSES,
    Example,
    ReplayBuffer,
    Report,
    Student,
    TopKProbs,
    training_examples,
)
from lengthwise.methods.drafting._shared.draft_choice import (
    draft_model,
    layers_option,
    notes,
    one_choice,
    path_option,
)
from lengthwise.methods.drafting._shared.model_drafter import (
    DraftToken,
    ModelDrafter,
    depth_option,
    draws_option,
    width_option,
)
from lengthwise.methods.drafting._shared.writable import check_writable
from lengthwise.models.adapted_model import AdaptedModel

LEARNS = Needs("every=1 or more", lambda method: method.every)


@dataclass(frozen=True)
class OSD(Method):
    """path or layers: who guesses, and learns. every: requests between updates, 0 is never. lr,
    batch, window, loss: of an update. buffer: rejected guesses kept for it. save: a file."""

    name: ClassVar[str] = "osd"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Online Speculative Decoding",
        "Liu et al.",
        2024,
        arxiv="2310.07177",
        venue="ICML",
        code="https://github.com/LiuXiaoxuanPKU/OSD",
    )
    lossless: ClassVar[bool] = True
    path: str = path_option()
    layers: str = layers_option()
    every: int = option(8, "requests between two updates; 0: never learn", low=0)
    lr: float = option(1e-5, "learning rate of AdamW", low=0, needs=LEARNS)
    batch: int = option(8, "windows of text a step of the optimizer", low=1, needs=LEARNS)
    window: int = option(
        256, "tokens of text a rejected guess is learned within", low=2, needs=LEARNS
    )
    buffer: int = option(512, "most rejected guesses kept", low=1, needs=LEARNS)
    loss: str = option("forward", "divergence that is made small", choices=LOSSES, needs=LEARNS)
    save: str = option("", "file of the taught weights; none: kept as long as the model")
    depth: int = depth_option(5)
    width: int = width_option(1)
    draws: str = draws_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        one_choice(self.name, self.path, self.layers)

    @classmethod
    def identity(cls, length: int) -> OSD:
        """The whole model guesses what it will say, and has nothing to learn."""
        return cls(layers="100%", every=0)

    def check(self, model: AdaptedModel) -> None:
        self.start_drafter(model)
        if self.save:
            check_writable(self.name, self.save)

    def start_drafter(self, model: AdaptedModel) -> OSDDrafter:
        drafter = OSDDrafter(self, trainer_of(self, model))
        drafter.notes += notes(self.name, self.path, model)
        return drafter


class OnlineTrainer:
    """What requests share: a student, its replay buffer, and how well it guesses.

    first: what guessed before anything was learned. right of tested: first guesses of levels since
    the last update; earlier: their share before it.
    """

    def __init__(self, options: OSD, first: AdaptedModel) -> None:
        self.options, self.first = options, first
        self.student = Student(first, options.lr, options.loss)
        self.buffer = ReplayBuffer(options.buffer)
        self.requests = self.right = self.tested = 0
        self.earlier: float | None = None
        self._lock = threading.RLock()
        self._whose = options.path or f"layers {options.layers}"
        if options.save and Path(os.path.expanduser(options.save)).exists():
            self.student.load(options.save, self._whose)

    @property
    def rate(self) -> float:
        """Share of guesses that were right since the last update."""
        return self.right / self.tested if self.tested else 0.0

    def count(self, right: bool) -> None:
        """Notes whether a first guess of a level was right."""
        with self._lock:
            self.tested += 1
            self.right += right

    def end_request(self, new: Seq[Example] = ()) -> str | None:
        """Counts a request and keeps its examples; returns a report of an update, if one was due.

        The student learns after every so many requests. One thread at a time.
        """
        with self._lock:
            self.buffer.add(new)
            self.requests += 1
            options = self.options
            if not options.every or self.requests % options.every or not len(self.buffer):
                return None
            report = self.student.learn(self.buffer.take(), options.batch)
            note = self._report(report)
            self.earlier, self.right, self.tested = self.rate, 0, 0
            return note

    def save(self) -> None:
        """Keeps the taught weights where a file is named; raises LengthwiseError where it cannot be
        written."""
        if self.options.save:
            with self._lock:
                self.student.save(self.options.save, self._whose)

    def _report(self, report: Report) -> str:
        before = "" if self.earlier is None else f", {self.earlier:.0%} before the update before"
        return (
            f"osd: update {self.student.updates} on {report.places} rejected guesses brought their "
            f"divergence from {report.before:.3f} to {report.after:.3f} nats; {self.rate:.0%} of "
            f"guesses were right before it{before}"
        )


class OSDDrafter(ModelDrafter):
    """Runs the student of a trainer and brings it what the target said in its stead.

    notes: what the user should know once the request is over.
    """

    def __init__(self, options: OSD, trainer: OnlineTrainer) -> None:
        super().__init__("osd", options.depth, options.width, options.draws)
        self.trainer, self.draft = trainer, trainer.first
        self.window = options.window
        self.notes: list[str] = []
        self._chain: list[int] = []
        self._targets: dict[int, TopKProbs] = {}
        self._tokens: Seq[int] = ()
        self._vocab_size = 0

    def open(self, sequence: Sequence) -> DraftModelRunner:
        serving = self.trainer.student.serving
        self._vocab_size = min(serving.vocab_size, sequence.model.vocab_size)
        return DraftModelRunner.prefilled(serving, sequence.tokens)

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self._chain, self._targets, self._tokens = [], {}, ()
        super().begin(sequence, sampling)

    def guess(
        self, logits: Tensor, tokens: Seq[int], path: Seq[int], tree: Tree, node: int
    ) -> list[DraftToken]:
        found = super().guess(logits, tokens, path, tree, node)
        self._chain[len(path) :] = [found[0].token]
        return found

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        """Compares the likeliest chain with the text, whatever of it was verified."""
        chain, self._chain = self._chain, []
        known = len(tokens) - len(accepted)
        for depth, (guess, node) in enumerate(zip(chain, accepted, strict=False)):
            right = guess == tokens[known + depth]
            self.trainer.count(right)
            if not right:
                # The node's token stands one place before the one that was guessed wrong.
                self._targets[known + depth - 1] = TopKProbs.of(logits[node], self._vocab_size)
                self._tokens = tokens
                return

    def finish(self) -> None:
        learns = self.trainer.options.every
        new = training_examples(self._tokens, self._targets, self.window) if learns else []
        self._targets, self._tokens = {}, ()
        note = self.trainer.end_request(new)
        if note is not None:
            self.notes.append(note)
            self.trainer.save()


def trainer_of(options: OSD, model: AdaptedModel) -> OnlineTrainer:
    """The trainer of a model for these options; it lives as long as the model.

    Raises LengthwiseError where `save` names a file that is not its student's.
    """
    with LOCK:
        trainers = _TRAINERS.setdefault(model, {})
        if options not in trainers:
            first = draft_model(options.name, options.path, options.layers, model)
            trainers[options] = OnlineTrainer(options, first)
        return trainers[options]


_TRAINERS: WeakKeyDictionary[AdaptedModel, dict[OSD, OnlineTrainer]] = WeakKeyDictionary()

__all__ = ["OSD", "OSDDrafter", "OnlineTrainer", "trainer_of"]
