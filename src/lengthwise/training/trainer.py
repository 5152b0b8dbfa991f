"""The training loop: data of a step, gradient, update; records, evaluations and checkpoints.

All that the next step depends on is the number of steps done, the weights, the optimizer and the
random generators. Rate, rows and lengths are functions of the number, so a run that was stopped
anywhere goes on bit for bit as if it had not been.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lengthwise._utils.version import __version__
from lengthwise.sequences.store import SequenceSet
from lengthwise.training import checkpoint as checkpoints
from lengthwise.training.attached import attach, read_by
from lengthwise.training.config import RunConfig, TrainingError
from lengthwise.training.cost import CostModel, fit, sizes_of
from lengthwise.training.data import Feed, Work
from lengthwise.training.evaluate import Evaluation, Validation
from lengthwise.training.export import export, exported
from lengthwise.training.folder import RunFolder
from lengthwise.training.growth import layers_of, rate_of, stack, stacked
from lengthwise.training.log import NAME, Interval, Log, measured, plot
from lengthwise.training.model import choose_trained, export_dtype, make_optimizer, open_model
from lengthwise.training.parallel import Ranks
from lengthwise.training.progress import TrainingProgress
from lengthwise.training.signals import first_signal
from lengthwise.training.step import (
    accumulate_gradients,
    check_documents_are_apart,
    check_rows_can_be_shared,
)
from lengthwise.training.tokenizer_files import (
    files_of_checkpoint,
    files_of_data,
    kept_files,
)


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

    extend: whether a run in the folder may go on beyond the step that it was to end with. The
    folder is held until the end of `run`, or until `close`.
    Raises LengthwiseError, before the first step, for whatever in it cannot be done.
    """

    def __init__(
        self, config: RunConfig, progress: TrainingProgress | None = None, extend: bool = False
    ) -> None:
        self.config = config
        self.ranks = Ranks(config.precision, config.parallel.shard, config.parallel.context)
        self._progress = progress if progress and self.ranks.first else TrainingProgress()
        self.folder = config.path(config.out or "")
        self._interval, self.elapsed, self.done, self.tokens = Interval(), 0.0, 0, 0
        self._log: Log | None = None
        self._place = RunFolder(self.folder, self.ranks)
        try:
            self.feed = Feed(config, self.ranks.rank, self.ranks.world)
            self._validation = self._open_validation()
            self._claim(extend)
            self._start()
            self._require_room()
        except BaseException:
            self.close()
            raise

    def run(self) -> Outcome:
        """Trains to the last step, or to the end of the one in which a signal came."""
        evaluation, cost = None, None
        try:
            with first_signal() as came:
                while self.done < self.steps and not self._stopped(came):
                    self._step()
                    evaluation = self._records() or evaluation
                    if self.done == self.steps:
                        cost = self._cost()
                    self._checkpoint()
                stopped = self._stopped(came)
                if stopped and 0 < self.done < self.steps:
                    self._checkpoint(now=True)
                if self.done == self.steps:
                    self._export()
        finally:
            self.close()
        number = (came or [signal.SIGINT])[0] if stopped and self.done < self.steps else None
        return Outcome(self.folder, self.done, self.steps, evaluation, cost, number)

    def close(self) -> None:
        """Lets go of the folder, of which nothing stays if no step was done in it."""
        if hasattr(self, "feed"):
            self.feed.close()
        if self._log:
            self._log.close()
        if self.done:
            self._place.close()
        else:
            self._place.leave()

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
            self._write(record)
            self._progress.step(self.done, self.steps, record)
        found, every = None, options.evaluation.every
        if self._validation and (last or (every and self.done % every == 0)):
            found = self._validation.run(self.model, self.ranks)
            self._write({"kind": "evaluation", **place, **found.record()})
            self._progress.note(f"step {self.done}: validation loss {found.per_token:.4f}")
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
            "log_bytes": self._log.settle() if self._log else 0,
            "interval": asdict(self._interval), "context": self.ranks.context,
            "accumulate": self.config.accumulate, "attention": self.config.model.attention,
            "planned_steps": self._plan.steps, "export_dtype": self._dtype,
        }  # fmt: skip
        checkpoints.save(
            self.folder / "checkpoints", self.done, state, self.model, self.optimizer, self.ranks,
            self.config.checkpoint.keep, self._files,
        )  # fmt: skip

    def _cost(self) -> CostModel | None:
        """Says what steps cost."""
        if not self.ranks.first:
            return None
        try:
            cost = fit(measured(self.folder / NAME))
        except TrainingError:
            # Rows of one length say nothing about others.
            return None
        self._write({"kind": "cost", **asdict(cost)})
        return cost

    def _export(self) -> None:
        """Leaves the trained model with its tokenizer, if it is not there already."""
        place = self.folder / "model"
        if not self.ranks.total(self.ranks.first and exported(place) != self.done)[0]:
            return
        weights = self.ranks.model_state(self.model)
        if self.ranks.first:
            origin = {"step": self.done, "tokens": self.tokens, "version": __version__}
            if recipe := read_by(self.config):
                origin["recipe"] = recipe
                self._progress.note(f"{place} is to be read with {recipe}")
            export(place, self.ranks.plain(self.model), weights, self._files, self._dtype, origin)

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
        self._write({"kind": "growth", "step": self.done, "D": self.tokens, "layers": count,
                         "N": self.sizes.body, "parameters": self.sizes.parameters})  # fmt: skip
        self._progress.note(f"step {self.done}: grown from {len(layers)} to {count} layers")

    def _claim(self, extend: bool) -> None:
        """Makes sure that the folder is new or this run's own, and how long the run is."""
        checksums = self.feed.checksums()
        if self._validation:
            checksums["data.validation"] = self._validation.checksum
        self._identity = self.config.deciding() | {"checksums": checksums}
        self._plan = self._place.plan(
            self._identity, self.feed.total_steps, extend, self.feed.whole_epoch, self._rates,
            may_grow=not self.config.upsampling.domains,
        )  # fmt: skip
        self.steps = self._plan.steps
        if self._plan.ends:
            self.feed.follow(self._plan.ends)
        self._rate = self._rates(self.steps)

    def _rates(self, steps: int) -> Callable[[int], float]:
        """The rate of each step of a run of so many, growth included."""
        return rate_of(self.config, steps)

    def _start(self) -> None:
        """Model, optimizer, generators and log as they were, or new."""
        if self.feed.never_read:
            self._progress.note(
                f"rows of {', '.join(map(str, self.feed.never_read))} tokens are never read: they "
                f"are too few for one step of {self.config.tokens_per_step:,} tokens"
            )
        if self.feed.share < 1:
            self._progress.note(
                f"the run reads {self.feed.share:.0%} of the rows, the same share of every length"
            )
        torch.manual_seed(self.config.seed)
        place = checkpoints.latest(self.folder / "checkpoints")
        if place is None:
            self._start_anew()
        else:
            self._go_on(place)

    def _start_anew(self) -> None:
        options, manifest, built = self.config.model, self.feed.manifest, self.feed.tokenizer_file
        if options.checkpoint is None:
            self._files = files_of_data(built, manifest)
        else:
            self._files, said = files_of_checkpoint(
                self.config.path(options.checkpoint), self.feed.base.folder, built, manifest,
                options.tokenizer,
            )  # fmt: skip
            if said:
                self._progress.note(said)
        self._dtype = export_dtype(options, self.config.folder)
        self._take(open_model(
            options, manifest, self.config.folder, self.ranks.device,
            self.config.positions.method(), self._progress.note,
        ), self.config.path(options.checkpoint) if options.checkpoint else None)  # fmt: skip
        # Ranks have equal weights and different dropout.
        torch.manual_seed(self.config.seed + 7919 * (self.ranks.rank + 1))
        self._place.remember(self._identity, self._plan)
        self._log = Log(self.folder, 0, self.ranks.first)
        self._write(self._facts())

    def _go_on(self, place: Path) -> None:
        state = checkpoints.read_state(place)
        self.feed.verify(self._progress.note)
        self._take(checkpoints.read_model(place, self.config.model.attention), place / "model")
        checkpoints.restore_optimizer(place, self.model, self.optimizer, self.ranks)
        self._files = kept_files(place / "model")
        if "tokenizer.json" not in self._files:
            self._files |= files_of_data(self.feed.tokenizer_file, self.feed.manifest)
        asked = self.config.model.export_dtype or state.get("export_dtype")
        self._dtype = asked or export_dtype(self.config.model, self.config.folder)
        self.done, self.tokens, self.elapsed = state["step"], state["tokens"], state["elapsed"]
        self._interval = Interval(**state["interval"])
        self._log = Log(self.folder, state["log_bytes"], self.ranks.first)
        self._place.remember(self._identity, self._plan)
        self._progress.note(f"going on after step {self.done} of {self.steps}")
        before = state.get("planned_steps", self.steps)
        if before != self.steps:
            self._write({"kind": "extension", "step": self.done, "D": self.tokens,
                         "before": before, "planned_steps": self.steps})  # fmt: skip
        if self.ranks.rank < state["ranks"]:
            checkpoints.restore_chance(place, self.ranks)
        self._say_what_changed(state)

    def _require_room(self) -> None:
        """Raises TrainingError where the disk has no room for one checkpoint more."""
        size = checkpoints.size_of(self.sizes.parameters)
        free = checkpoints.free(self.folder) if self.ranks.first else size
        # Another machine's disk may be another one.
        if self.done < self.steps and self.ranks.total(free < size)[0]:
            raise TrainingError(
                f"{self.folder}: a checkpoint of this model takes {size / 1e6:,.1f} MB, more "
                "than its disk has left: make room, or give an out on another disk"
            )

    def _say_what_changed(self, state: dict[str, Any]) -> None:
        """Names what changes no number but for its last digits."""
        if state["ranks"] != self.ranks.world:
            self._progress.note(f"{self.ranks.world} ranks instead of {state['ranks']}: dropout, "
                                "if any, and the last digits will differ")  # fmt: skip
            return
        for key, before, now, what in (
            ("parallel.context", state.get("context", 1), self.ranks.context, "the last digits"),
            ("accumulate", state.get("accumulate"), self.config.accumulate,
             "dropout, if any, and the last digits"),
            ("model.attention", state.get("attention"), self.config.model.attention,
             "the last digits"),
        ):  # fmt: skip
            if before not in (None, now):
                self._progress.note(f"{key}={now} instead of {before}: {what} will differ")

    def _take(self, model: Any, folder: Path | None = None) -> None:
        """Makes a model the run's: wrapped, in training, with a new optimizer. folder: its own."""
        if self._validation:
            self._validation.check_positions(model.config)
        self.sizes = sizes_of(model)
        packed = self.feed.manifest["document_mask"] and not self.feed.manifest["target_token"]
        attach(model, self.config, self.ranks, packed, folder)
        choose_trained(model, self.config.model.train)
        self.model: nn.Module = self.ranks.wrap(model.train())
        self.optimizer = make_optimizer(self.model, self.config.optimizer)
        vocabulary = self.feed.manifest["tokenizer"]["vocab_size"]
        if self.ranks.context > 1:
            check_rows_can_be_shared(self.model, vocabulary, self.ranks)
        if packed:
            check_documents_are_apart(self.model, vocabulary, self.ranks)

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

    def _write(self, record: dict[str, Any]) -> None:
        if self._log:
            self._log.write(record)

    def _stopped(self, came: list[int]) -> bool:
        return self.ranks.total(len(came))[0] > 0


def train(
    config: RunConfig, progress: TrainingProgress | None = None, extend: bool = False
) -> Outcome:
    """Begins the run of `config`, or goes on with it, and says how it ended.

    extend: whether it may go on beyond the step that it was to end with.
    """
    return Trainer(config, progress, extend).run()
