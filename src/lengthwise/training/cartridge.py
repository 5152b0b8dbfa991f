"""Cartridges: a few trained keys and values a layer stand for a corpus.

Eyuboglu et al., "Cartridges: Lightweight and general-purpose long context representations via
self-study", 2025, arXiv:2506.06266. A KV prefix of p tokens a corpus is trained to make the model
say what it would say with the corpus in view, on questions that it asked itself.

1. Parameters: keys and values of the first p tokens of the corpus in a system message, float32; the
   first token stays frozen, the model too.
2. Pairs: self-study, `cartridge_study.py`.
3. Loss: -sum p_teacher log q_student over the teacher's 20 likeliest tokens, where the answer is
   predicted. The teacher saw a chunk of the corpus, the student the prefix alone, with positions
   from p on.
4. Adam at a constant rate. What was trained is a session (`api/cartridge.py`).

The rate is 0.02, that of the authors' README and of the one training script they released, where p
is 2,048. The field of their configuration says 1e-4, which no script of theirs uses. Ours differs
in three things. A step's loss is divided once by all of its predicted tokens, and not batch by
batch. The question's tokens are not trained on, which their released code takes in too. A step is
as many rows, of any length, and not packed ones.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch.optim import Adam

from lengthwise._utils.locks import alone_in
from lengthwise._utils.papers import Paper
from lengthwise.api.cartridge import cartridge_session, initial_session
from lengthwise.api.model import Model
from lengthwise.api.session import Session
from lengthwise.api.turns import system_turn
from lengthwise.engine import loop
from lengthwise.engine.given import entries_of
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import RecipeLike
from lengthwise.sequences.files import digest, said_plainly
from lengthwise.training import beside_checkpoint as checkpoints
from lengthwise.training.cartridge_config import Settings, Study
from lengthwise.training.cartridge_fit import check_student, fit
from lengthwise.training.cartridge_folder import claim
from lengthwise.training.cartridge_rows import Row
from lengthwise.training.cartridge_student import Prefix, mean_loss
from lengthwise.training.cartridge_study import SelfStudy
from lengthwise.training.config import TrainingError
from lengthwise.training.log import Log
from lengthwise.training.progress import TrainingProgress
from lengthwise.training.signals import first_signal

PAPER = Paper(
    "Cartridges: Lightweight and general-purpose long context representations via self-study",
    "Eyuboglu et al.",
    2025,
    arxiv="2506.06266",
    code="https://github.com/HazyResearch/cartridges",
)
RUN = "run.json"


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    session: the cartridge, None where a signal came before the last step. losses: of held-out
    pairs, nats a token: "without", "cartridge", and "corpus" where the model can read all of it.
    """

    session: Session | None
    step: int
    steps: int
    losses: dict[str, float]
    signal: int | None = None


@torch.inference_mode(False)
def train(
    model: Model, corpus: str, out: str | PathLike[str], study: Study | None = None,
    settings: Settings | None = None, *, recipe: RecipeLike = "full",
    work: str | PathLike[str] | None = None, pairs: str | PathLike[str] | None = None,
    progress: TrainingProgress | None = None,
) -> Outcome:  # fmt: skip
    """Trains a cartridge for a corpus and stores it as a session. Stopped, the same call goes on.

    Args:
        model: which will be asked; it is not changed.
        corpus: the text.
        out: file of the session.
        study: how pairs are made.
        settings: how it is trained.
        recipe: which it is asked under: "full", drafters and codecs.
        work: folder of pairs, log and checkpoint; None is OUT.run.
        pairs: folder of self-study, which several runs may share; None is WORK/pairs.
        progress: told of pairs and steps.

    Returns:
        The cartridge, and how it does on pairs that were held out.

    Raises:
        LengthwiseError: before anything is asked, for what cannot be trained.
        TrainingError: for a folder of another run, a damaged file, and a loss that is no number.
    """
    study, settings = study or Study(), settings or Settings()
    told = progress or TrainingProgress()
    folder = Path(f"{os.fspath(out)}.run" if work is None else work)
    begun = initial_session(model, corpus, settings.tokens, recipe)
    if settings.frozen >= len(begun):
        raise TrainingError(f"frozen={settings.frozen} of {len(begun)} tokens: none is trained")
    prefix = Prefix(entries_of(begun.held), settings.frozen)
    check_student(model, prefix, begun)
    asking = SelfStudy(model, corpus, replace(study, pairs=study.pairs + settings.held_out))
    about = settings.deciding() | asking.about | {
        "pairs": study.pairs, "recipe": begun.recipe, "training_seed": settings.seed,
    }  # fmt: skip
    with said_plainly(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, "cartridge train", TrainingError):
        claim(folder, RUN, about, "a cartridge's run", done=checkpoints.NAME)
        found = asking.collect(Path(pairs or folder / "pairs"), told)
        rows = [cut for row in found[: study.pairs] if (cut := row.cut(settings.max_length))]
        run = _Run(model, begun, prefix, rows, settings, folder, digest(about), told)
        outcome = run.train()
        if outcome.session is None:
            return outcome
        outcome.session.save(out)
        held = [cut for row in found[study.pairs :] if (cut := row.cut(settings.max_length))]
        losses = evaluate(model, prefix, corpus, held, settings.together)
        return replace(outcome, losses=losses)


def evaluate(
    model: Model, prefix: Prefix | None, corpus: str, rows: Seq[Row], together: int = 4
) -> dict[str, float]:
    """Nats a token of rows without context, behind a prefix, and with the corpus in view.

    Args:
        model: the student.
        prefix: that was trained; None leaves it out.
        corpus: the text; it is left out where the model has no positions for it.
        rows: none give nothing.
        together: rows of a forward.
    """
    if not rows:
        return {}
    adapted = model.adapted
    found = {"without": mean_loss(adapted, None, rows, together)}
    if prefix is not None:
        found["cartridge"] = mean_loss(adapted, prefix, rows, together)
    before = system_turn(model, corpus)
    if len(before) + max(map(len, rows)) <= model.trained_length:
        found["corpus"] = _with_corpus(model, before, rows)
    return found


@no_autocast()
def _with_corpus(model: Model, before: Seq[int], rows: Seq[Row]) -> float:
    """Nats a token of rows behind the whole corpus, which is read once."""
    session, total = model.read(list(before)), 0.0
    for row in rows:
        held = session.held.fork()
        logits = loop.teacher_force(held, row.ids, block=len(row))[row.start + 1 :]
        assert held.last_logits is not None
        log_probs = torch.log_softmax(torch.cat([logits, held.last_logits[None]]).float(), -1).cpu()
        total -= float((row.top_log_probs.exp() * log_probs.gather(1, row.top_ids)).sum())
    return total / sum(row.predicted for row in rows)


class _Run:
    """Training on rows that are there, with log and checkpoints in a folder."""

    def __init__(
        self, model: Model, begun: Session, prefix: Prefix, rows: Seq[Row], settings: Settings,
        folder: Path, name: str, progress: TrainingProgress,
    ) -> None:  # fmt: skip
        if not rows:
            raise TrainingError(
                f"max_length={settings.max_length}: no question leaves room for an answer"
            )
        self.model, self.begun, self.rows, self.settings = model, begun, rows, settings
        self.prefix, self._folder, self._name, self._progress = prefix, folder, name, progress
        self.optimizer = Adam(prefix.parameters(), lr=settings.lr)
        self.steps = settings.steps or math.ceil(2 * len(rows) / settings.batch)
        self._came: list[int] = []

    def train(self) -> Outcome:
        """Steps to the last one, or to the one in which a signal came."""
        start, size = checkpoints.restore(self._folder, self.prefix, self.optimizer, self._name)
        self._log = Log(self._folder, size, True)
        try:
            with first_signal() as self._came:
                if not start:
                    facts = {"steps": self.steps, "pairs": len(self.rows)}
                    self._log.write({"kind": "facts", "tokens": self.prefix.tokens, **facts})
                self._progress.stage("training", self.steps, "steps")
                done = fit(self.model, self.prefix, self.rows, self.settings, self.steps, start,
                           self.optimizer, self._after)  # fmt: skip
        finally:
            self._log.close()
        if done < self.steps:
            return Outcome(None, done, self.steps, {}, self._came[0])
        trained = {
            "method": "cartridge", "tokens": self.prefix.tokens, "frozen": self.prefix.frozen,
            "steps": self.steps, "pairs": len(self.rows), "lr": self.settings.lr,
        }  # fmt: skip
        session = cartridge_session(self.model, self.begun.parsed, self.begun.tokens,
                                    self.prefix.entries(), trained)  # fmt: skip
        return Outcome(session, done, self.steps, {})

    def _after(self, step: int, record: dict[str, Any]) -> bool:
        record = {"kind": "train", "step": step, **record}
        self._log.write(record)
        self._progress.step(step, self.steps, record)
        last, stopped = step == self.steps, bool(self._came)
        if last or stopped or step % self.settings.every == 0:
            checkpoints.save(self._folder, self.prefix, self.optimizer, step, self._log.settle(),
                             self._name)  # fmt: skip
        return not stopped


__all__ = ["PAPER", "Outcome", "Settings", "Study", "evaluate", "train"]
