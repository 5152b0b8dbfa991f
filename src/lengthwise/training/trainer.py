"""The training loop: data of a step, gradient, update; records, evaluations and checkpoints.

All that the next step depends on is the number of steps done, the weights, the optimizer and the
random generators. Rate, rows and lengths are functions of the number, so a run that was stopped
anywhere goes on bit for bit as if it had not been.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn

from lengthwise import __version__
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.files import ASIDE, read_json, write_json
from lengthwise.sequences.store import SequenceSet
from lengthwise.training import checkpoint as checkpoints
from lengthwise.training.config import RunConfig, TrainingError
from lengthwise.training.cost import CostModel, fit, sizes_of
from lengthwise.training.data import Feed, Work
from lengthwise.training.evaluate import Evaluation, Validation
from lengthwise.training.growth import layers_of, rate_of, stack, stacked
from lengthwise.training.log import NAME, Interval, Log, measured, plot
from lengthwise.training.model import load_weights, make_optimizer, open_model
from lengthwise.training.parallel import Ranks
from lengthwise.training.step import (
    accumulate_gradients,
    check_documents_are_apart,
    check_rows_can_be_shared,
)


class Watcher(Protocol):
    """Told how a run goes, on the first rank."""

    def note(self, text: str) -> None:
        """Something that happens once."""
        ...

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        """A record of the log was written after `step` of `steps`."""
        ...


class Silent:
    """A watcher that says nothing."""

    def note(self, text: str) -> None:
        pass

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    """How a run ended. signal: what interrupted it, if anything; it can be gone on with."""

    folder: Path
    step: int
    steps: int
    evaluation: Evaluation | None = None
    cost: CostModel | None = None
    signal: int | None = None


class Trainer:
    """The run that `config` describes, begun or gone on with in its folder.

    Raises LengthwiseError, before the first step, for whatever in it cannot be done.
    """

    def __init__(self, config: RunConfig, watcher: Watcher | None = None) -> None:
        self.config = config
        self.ranks = Ranks(config.precision, config.parallel.shard, config.parallel.context)
        self._watcher: Watcher = watcher if watcher and self.ranks.first else Silent()
        self.feed = Feed(config, self.ranks.rank, self.ranks.world)
        self.steps = config.total_steps(self.feed.steps_per_epoch)
        self._rate = rate_of(config, self.steps)
        self._validation = self._open_validation()
        self.folder = config.path(config.out or "")
        self._interval, self.elapsed, self.done, self.tokens = Interval(), 0.0, 0, 0
        self._begin()

    def run(self) -> Outcome:
        """Trains to the last step, or to the end of the one in which a signal came."""
        evaluation, cost = None, None
        try:
            with _first_signal() as came:
                while self.done < self.steps and not self._stopped(came):
                    self._step()
                    evaluation = self._records() or evaluation
                    if self.done == self.steps:
                        cost = self._finish()
                    self._checkpoint()
                stopped = self._stopped(came)
                if stopped and self.done < self.steps:
                    self._checkpoint(now=True)
        finally:
            self.feed.close()
            self._log.close()
        number = (came or [signal.SIGINT])[0] if stopped and self.done < self.steps else None
        return Outcome(self.folder, self.done, self.steps, evaluation, cost, number)

    def rate(self, step: int) -> float:
        """The learning rate of the step after `step` others."""
        return self._rate(step)

    def _step(self) -> None:
        growth, start = self.config.growth, time.perf_counter()
        if growth.at_step and growth.at_step == self.done:
            self._grow()
            start = time.perf_counter()
        data = self.feed.step(self.done, ahead=self.done + 1 < self.steps)
        loss, predicted = accumulate_gradients(self.model, data.batches, self.ranks)
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.optimizer.clip or math.inf
        )
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        self._norm = float(norm)
        if not math.isfinite(loss + self._norm):
            raise TrainingError(
                f"the loss or gradient of step {self.done} is not finite: lower optimizer.lr or "
                "raise schedule.warmup_steps, and begin anew in another folder"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.done)
        self.optimizer.step()
        self.optimizer.zero_grad()
        work = Work(*(int(each) for each in self.ranks.total(*asdict(data.work).values())))
        seconds = time.perf_counter() - start
        self._interval.add(work, loss, predicted, seconds)
        self.elapsed += seconds
        self.tokens += work.tokens
        self.done += 1

    def _records(self) -> Evaluation | None:
        """Writes what is due after a step to log and picture."""
        last, options = self.done == self.steps, self.config
        place = {"step": self.done, "D": self.tokens, "elapsed": self.elapsed}
        if self.done % options.log.every == 0 or last:
            record = {"kind": "train", **place, "lr": self.rate(self.done - 1),
                      "gradient_norm": self._norm, **self._interval.record(self.sizes)}  # fmt: skip
            self._interval = Interval()
            self._log.write(record)
            self._watcher.step(self.done, self.steps, record)
        found, every = None, options.evaluation.every
        if self._validation and (last or (every and self.done % every == 0)):
            found = self._validation.run(self.model, self.ranks)
            self._log.write({"kind": "evaluation", **place, **found.record()})
            self._watcher.note(f"step {self.done}: validation loss {found.per_token:.4f}")
        every = options.log.plot_every
        if self.ranks.first and every and (last or self.done % every == 0):
            plot(self.folder)
        return found

    def _checkpoint(self, now: bool = False) -> None:
        every = self.config.checkpoint.every
        if not (now or self.done == self.steps or (every and self.done % every == 0)):
            return
        state = {
            "step": self.done, "tokens": self.tokens, "elapsed": self.elapsed,
            "log_bytes": self._log.position, "interval": asdict(self._interval),
            "context": self.ranks.context,
        }  # fmt: skip
        checkpoints.save(
            self.folder / "checkpoints", self.done, state, self.model, self.optimizer, self.ranks,
            self.config.checkpoint.keep,
        )  # fmt: skip

    def _finish(self) -> CostModel | None:
        """Leaves the trained model with its tokenizer, and says what steps cost."""
        weights = self.ranks.model_state(self.model)
        if not self.ranks.first:
            return None
        self._export(weights)
        try:
            cost = fit(measured(self.folder / NAME))
        except TrainingError:
            # Rows of one length say nothing about others.
            return None
        self._log.write({"kind": "cost", **asdict(cost)})
        return cost

    def _export(self, weights: dict[str, torch.Tensor]) -> None:
        from transformers import PreTrainedTokenizerFast

        place = self.folder / "model"
        aside = place.with_name(place.name + ASIDE)
        shutil.rmtree(aside, ignore_errors=True)
        with checkpoints.said(place):
            checkpoints.save_model(aside, self.ranks.plain(self.model), weights)
            PreTrainedTokenizerFast(
                tokenizer_file=str(self.feed.base.folder / "tokenizer.json"),
                eos_token=self.feed.manifest["tokenizer"]["end_token"],
            ).save_pretrained(aside)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(aside, place)

    def _grow(self) -> None:
        options, plain = self.config.growth, self.ranks.plain(self.model)
        name, layers = layers_of(plain)
        before = self.ranks.optimizer_state(self.model, self.optimizer, everywhere=True)
        grown = stack(plain, options.factor, self.ranks.model_state(self.model, everywhere=True))
        self._take(grown)
        if options.optimizer == "copied":
            state = self.ranks.optimizer_state(self.model, self.optimizer, everywhere=True)
            state["state"] = stacked(before["state"], name, len(layers), options.factor)
            self.ranks.set_optimizer_state(self.model, self.optimizer, state)
        count = len(layers) * options.factor
        self._log.write({"kind": "growth", "step": self.done, "D": self.tokens, "layers": count,
                         "N": self.sizes.body, "parameters": self.sizes.parameters})  # fmt: skip
        self._watcher.note(f"step {self.done}: grown from {len(layers)} to {count} layers")

    def _begin(self) -> None:
        """Claims the folder and starts; what is refused before its first record claims none."""
        before = self.folder.exists()
        mine = (self.folder / "run.json").exists()
        self._claim()
        try:
            self._start()
        except LengthwiseError:
            if not mine and self.ranks.first and not (self.folder / NAME).exists():
                (self.folder / "run.json").unlink(missing_ok=True)
                if not before:
                    self.folder.rmdir()
            raise

    def _start(self) -> None:
        """Model, optimizer, generators and log as they were, or new."""
        if self.feed.never_read:
            self._watcher.note(
                f"rows of {', '.join(map(str, self.feed.never_read))} tokens are never read: they "
                f"are too few for one step of {self.config.tokens_per_step:,} tokens"
            )
        if self.feed.share < 1:
            self._watcher.note(
                f"the run reads {self.feed.share:.0%} of the rows, as many of every length"
            )
        torch.manual_seed(self.config.seed)
        place = checkpoints.latest(self.folder / "checkpoints")
        attention = self.config.model.attention
        if place is None:
            model = open_model(self.config.model, self.feed.manifest, self.config.folder,
                               self.ranks.device, self.config.positions.method())  # fmt: skip
            self._take(model)
            if self.feed.manifest["document_mask"] and not self.feed.manifest["target_token"]:
                vocabulary = self.feed.manifest["tokenizer"]["vocab_size"]
                check_documents_are_apart(self.model, vocabulary, self.ranks)
            # Ranks have equal weights and different dropout.
            torch.manual_seed(self.config.seed + 7919 * (self.ranks.rank + 1))
            self._log = Log(self.folder, 0, self.ranks.first)
            self._log.write(self._facts())
            return
        state = checkpoints.read_state(place)
        self._take(load_weights(place / "model", attention))
        checkpoints.restore_optimizer(place, self.model, self.optimizer, self.ranks)
        self.done, self.tokens, self.elapsed = state["step"], state["tokens"], state["elapsed"]
        self._interval = Interval(**state["interval"])
        self._log = Log(self.folder, state["log_bytes"], self.ranks.first)
        self._watcher.note(f"going on after step {self.done} of {self.steps}")
        if state["ranks"] != self.ranks.world or not checkpoints.restore_chance(place, self.ranks):
            self._watcher.note(f"{self.ranks.world} ranks instead of {state['ranks']}: dropout, if "
                               "any, and the last digits will differ")  # fmt: skip
        elif (before := state.get("context", 1)) != self.ranks.context:
            self._watcher.note(
                f"parallel.context={self.ranks.context} instead of {before}: the last digits will "
                "differ"
            )

    def _take(self, model: Any) -> None:
        """Makes a model the run's: wrapped, in training, with a new optimizer."""
        self.sizes = sizes_of(model)
        self.model: nn.Module = self.ranks.wrap(model.train())
        self.optimizer = make_optimizer(self.model, self.config.optimizer)
        if self.ranks.context > 1:
            vocabulary = self.feed.manifest["tokenizer"]["vocab_size"]
            check_rows_can_be_shared(self.model, vocabulary, self.ranks)

    def _facts(self) -> dict[str, Any]:
        model, manifest = self.ranks.plain(self.model), self.feed.manifest
        return {
            "kind": "run", "version": __version__, "torch": torch.__version__,
            "device": self.ranks.device.type, "ranks": self.ranks.world,
            "family": str(getattr(model.config, "model_type", "")), "N": self.sizes.body,
            "parameters": self.sizes.parameters, "method": manifest["method"],
            "max_length": manifest["max_length"], "curriculum": self.config.curriculum.name,
            "tokens_per_step": self.config.tokens_per_step, "planned_steps": self.steps,
            "positions": self._positions(), "seed": self.config.seed,
            "precision": self.config.precision,
        }  # fmt: skip

    def _positions(self) -> str | None:
        method = self.config.positions.method()
        return None if method is None else str(method)

    def _open_validation(self) -> Validation | None:
        data, options = self.config.data, self.config.evaluation
        if data.validation is None:
            return None
        folder = self.config.path(data.validation)
        self.feed.check_alike(SequenceSet(folder), "data.validation")
        length = options.max_length or int(self.feed.manifest["max_length"])
        return Validation(folder, options.documents, length, options.tokens_per_batch)

    def _claim(self) -> None:
        """Makes sure that the folder is new or this run's own."""
        mine = json.loads(json.dumps(self.config.deciding()))
        mine["data"]["checksum"] = self.feed.manifest["checksum"]
        place = self.folder / "run.json"
        if place.exists():
            theirs = _flat(read_json(place))
            here = _flat(mine)
            differing = sorted(k for k in theirs | here if theirs.get(k) != here.get(k))
            if differing:
                key = differing[0]
                raise TrainingError(
                    f"{self.folder} holds a run with {key}={theirs.get(key)} and not "
                    f"{here.get(key)}: set it back to go on, or give another out"
                )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise TrainingError(f"{self.folder} holds something else than a run: give another out")
        self.ranks.wait()
        if self.ranks.first:
            write_json(place, mine)
            checkpoints.sweep(self.folder / "checkpoints")
        self.ranks.wait()

    def _stopped(self, came: list[int]) -> bool:
        return self.ranks.total(len(came))[0] > 0


def train(config: RunConfig, watcher: Watcher | None = None) -> Outcome:
    """Begins the run of `config`, or goes on with it, and says how it ended."""
    return Trainer(config, watcher).run()


@contextmanager
def _first_signal() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM is put into; a second SIGINT interrupts at once."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt
        came.append(number)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return found
