"""Training of encoders of soft contexts: the model is frozen, and gradients go through it.

What is trained on what stands in the methods, `soft_contexts/`: dolphin restores, continues and
answers, extensible predicts pieces. An update is Adam on the mean loss of a batch of examples,
which are drawn anew in every step. Stages follow each other. Stopped, the same call goes on.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence as Seq
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn
from torch.optim import Adam

from lengthwise._utils.locks import alone_in
from lengthwise.api.model import Model
from lengthwise.api.soft_context import ContextEncoder, open_encoder
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.models.frozen import frozen
from lengthwise.sequences.files import digest, said_plainly
from lengthwise.soft_contexts.base import Encoder, Example, SoftContext, Texts
from lengthwise.soft_contexts.files import save_encoder
from lengthwise.training import beside_checkpoint as checkpoints
from lengthwise.training.cartridge_folder import claim
from lengthwise.training.config import TrainingError
from lengthwise.training.log import Log
from lengthwise.training.progress import TrainingProgress
from lengthwise.training.signals import first_signal
from lengthwise.training.soft_config import Settings
from lengthwise.training.soft_data import Held, require_examples
from lengthwise.training.soft_loss import counted, loss_of, losses_of, soft_embeddings

RUN = "run.json"


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    encoder: what was stored, None where a signal came before the last step. losses: of held-out
    examples of the last stage, nats a token: "without" a context, behind "soft" embeddings, behind
    those of an "other" text, behind the "text" itself.
    """

    encoder: ContextEncoder | None
    step: int
    steps: int
    losses: dict[str, float]
    signal: int | None = None


class Trained:
    """An encoder and the parameters of it that are trained."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    @property
    def trained(self) -> Iterable[nn.Parameter]:
        return list(self.encoder.parameters())


@torch.inference_mode(False)
def train(
    model: Model, data: Held, out: str | PathLike[str], how: SoftContext,
    settings: Settings | None = None, *, stages: Seq[str] | None = None,
    work: str | PathLike[str] | None = None, progress: TrainingProgress | None = None,
) -> Outcome:  # fmt: skip
    """Trains an encoder for a model and stores it.

    Args:
        model: that will read its embeddings; it is not changed.
        data: what is trained on, and what is held out (`soft_data.held_out`).
        out: file of the encoder.
        how: the method.
        settings: how it is trained.
        stages: of the method's, in their order; None is all for which there is something.
        work: folder of log and checkpoint; None is OUT.run.
        progress: told of steps.

    Returns:
        The encoder, and how the model does behind it on what was held out.

    Raises:
        LengthwiseError: before anything is trained, for what cannot be.
        TrainingError: for a folder of another run, a damaged file, and a loss that is no number.
    """
    settings, told = settings or Settings(), progress or TrainingProgress()
    chosen = stages_of(how, stages, data.train)
    encoder = how.start(model.adapted)
    for stage in chosen:
        for texts in filter(None, (data.train, data.held)):
            require_examples(encoder, how, stage, texts)
    folder = Path(f"{os.fspath(out)}.run" if work is None else work)
    about = settings.deciding() | {
        "method": str(how), "stages": list(chosen), "data": data.digest,
        "model": fingerprint_now(model.adapted), "dtype": model.adapted.dtype_text,
    }  # fmt: skip
    with said_plainly(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, "soft train", TrainingError):
        claim(folder, RUN, about, "an encoder's run", done=checkpoints.NAME)
        run = _Run(encoder, how, data.train, settings, chosen, folder, digest(about), told)
        step, signal = run.train()
        steps = settings.steps * len(chosen)
        if step < steps:
            return Outcome(None, step, steps, {}, signal)
        said = {"steps": steps, "stages": list(chosen), "length": settings.length,
                "lr": settings.lr or how.rate, "batch": settings.batch or how.batch}  # fmt: skip
        save_encoder(out, encoder, how, said)
    stored = open_encoder(out, model)
    losses: dict[str, float] = {}
    if data.held is not None and settings.held_out:
        chance = Random(settings.seed)
        some = [how.example(chosen[-1], data.held, chance) for _ in range(settings.held_out)]
        losses = losses_of(stored.encoder, some, settings.together)
    return Outcome(stored, step, steps, losses)


def stages_of(how: SoftContext, asked: Seq[str] | None, texts: Texts) -> list[str]:
    """The stages of a run.

    Args:
        how: the method.
        asked: which; None is all but those that lack pairs.
        texts: what is trained on.

    Raises:
        TrainingError: for one that the method does not have.
    """
    if asked is None:
        return [each for each in how.stages if texts.pairs or each not in how.asked_stages]
    strange = [each for each in asked if each not in how.stages]
    if strange or not asked:
        raise TrainingError(
            f"stages {', '.join(strange) or 'without a name'}: {how.name} has "
            f"{', '.join(how.stages)}"
        )
    return [each for each in how.stages if each in asked]


def examples_of(
    how: SoftContext, stage: str, texts: Texts, settings: Settings, step: int
) -> list[Example]:
    """The examples of a step, which depend on its number alone.

    Args:
        how: the method.
        stage: of its.
        texts: what they are drawn of.
        settings: batch and seed.
        step: counted over all stages.
    """
    chance = Random(f"{settings.seed} {step}")
    return [how.example(stage, texts, chance) for _ in range(settings.batch or how.batch)]


def update(
    encoder: Encoder, examples: Seq[Example], optimizer: Adam, settings: Settings
) -> dict[str, Any]:
    """One update; what the log says of it.

    Args:
        encoder: in float32.
        examples: of the step.
        optimizer: of its parameters, its rate set.
        settings: how many go into a forward, and the clipping.

    Raises:
        TrainingError: for a loss or gradient that is no number.
    """
    begin, count, total = time.perf_counter(), counted(examples), 0.0
    ordered = sorted(examples, key=lambda each: (len(each.context), len(each.after)))
    for at in range(0, len(ordered), settings.together):
        part = ordered[at : at + settings.together]
        loss = loss_of(encoder.model, part, soft_embeddings(encoder, part)) / count
        loss.backward()
        total += float(loss.detach())
    norm = float(nn.utils.clip_grad_norm_(encoder.parameters(), settings.clip))
    if not math.isfinite(total + norm):
        raise TrainingError(
            "the loss or gradient of a step is not finite: train with a lower lr, in another folder"
        )
    optimizer.step()
    optimizer.zero_grad()
    return {
        "loss": total, "gradient_norm": norm, "predicted": count,
        "tokens": sum(len(each.context) + len(each.after) for each in examples),
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def fit(
    encoder: Encoder, how: SoftContext, texts: Texts, settings: Settings, stages: Seq[str],
    start: int = 0, optimizer: Adam | None = None,
    after: Callable[[int, dict[str, Any]], bool] | None = None,
) -> int:  # fmt: skip
    """Updates an encoder in place, stage after stage.

    Args:
        encoder: in float32.
        how: its method.
        texts: to train on.
        settings: steps of a stage, batch, rate and seed.
        stages: in their order.
        start: steps that are done.
        optimizer: as it was after these; None is a new one.
        after: told of each step and its record; whether to go on.

    Returns:
        Steps that are done.

    Raises:
        TrainingError: for a loss or gradient that is no number.
    """
    optimizer = optimizer or Adam(encoder.parameters(), lr=settings.lr or how.rate)
    steps = settings.steps * len(stages)
    with torch.inference_mode(False), torch.enable_grad(), frozen(encoder.model.model):
        for step in range(start, steps):
            stage = stages[step // settings.steps]
            for group in optimizer.param_groups:
                rate = settings.rate(step % settings.steps, settings.lr or how.rate)
                group["lr"] = rate
            examples = examples_of(how, stage, texts, settings, step)
            record = {"stage": stage, "lr": rate, **update(encoder, examples, optimizer, settings)}
            if after is not None and not after(step + 1, record):
                return step + 1
    return steps


class _Run:
    """Training with log and checkpoints in a folder."""

    def __init__(
        self, encoder: Encoder, how: SoftContext, texts: Texts, settings: Settings,
        stages: Seq[str], folder: Path, name: str, progress: TrainingProgress,
    ) -> None:  # fmt: skip
        self.encoder, self.how, self.texts, self.settings = encoder, how, texts, settings
        self.stages, self._folder, self._name, self._progress = stages, folder, name, progress
        self.optimizer = Adam(encoder.parameters(), lr=settings.lr or how.rate)
        self.steps = settings.steps * len(stages)
        self._came: list[int] = []

    def train(self) -> tuple[int, int | None]:
        """Steps to the last one, or to the one in which a signal came; steps done, and which."""
        held = Trained(self.encoder)
        start, size = checkpoints.restore(self._folder, held, self.optimizer, self._name)
        self._log = Log(self._folder, size, True)
        try:
            with first_signal() as self._came:
                if not start:
                    self._log.write({"kind": "facts", "steps": self.steps, "method": str(self.how)})
                self._progress.stage("training", self.steps, "steps")
                done = fit(self.encoder, self.how, self.texts, self.settings, self.stages, start,
                           self.optimizer, self._after)  # fmt: skip
        finally:
            self._log.close()
        return done, self._came[0] if self._came else None

    def _after(self, step: int, record: dict[str, Any]) -> bool:
        record = {"kind": "train", "step": step, **record}
        self._log.write(record)
        self._progress.step(step, self.steps, record)
        last, stopped = step == self.steps, bool(self._came)
        if last or stopped or step % self.settings.every == 0:
            checkpoints.save(self._folder, Trained(self.encoder), self.optimizer, step,
                             self._log.settle(), self._name)  # fmt: skip
        return not stopped


__all__ = ["Outcome", "Settings", "examples_of", "fit", "stages_of", "train", "update"]
