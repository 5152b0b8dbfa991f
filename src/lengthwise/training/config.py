"""What a training run is, read from one TOML file into frozen dataclasses.

Every key is declared once, as a field with its default, meaning and bounds. A key that does not
exist is refused with the nearest one and where it belongs. Paths are relative to the file.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lengthwise._utils.suggestions import closest
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.base import Method
from lengthwise.methods.options import option, options
from lengthwise.sequences.curricula import NAMES as CURRICULA
from lengthwise.training.deciding import FREE, Table, idle, without
from lengthwise.training.positions import frequency_method
from lengthwise.training.schedules import DECAYS, NAMES as SCHEDULES
from lengthwise.training.windows import window_method

Section = TypeVar("Section")
# How alike two keys are at least: the nearest one of another table may be meant as well.
_NEAR = 0.6


class TrainingError(LengthwiseError):
    """A run that is described wrongly, or cannot be done here."""


@dataclass(frozen=True)
class ModelOptions:
    """What is trained. `settings` are the other keys: values of the family's transformers config.

    Exactly one of family and checkpoint is given; a checkpoint brings its own sizes.
    """

    family: str | None = option(None, "a transformers model type, such as llama")
    checkpoint: str | None = option(None, "folder of a transformers model to go on from")
    attention: str = option(
        "sdpa", "transformers' attn_implementation",
        choices=("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3"),
    )  # fmt: skip
    tokenizer: str = option(
        "same", "of a checkpoint: the data's must be the same; or whose model/ gets, unchecked",
        choices=("same", "checkpoint", "data"),
    )  # fmt: skip
    export_dtype: str | None = option(
        None, "of the weights in model/; none: the checkpoint's, else fp32",
        choices=("fp32", "bf16", "fp16"),
    )  # fmt: skip
    train: str = option(
        "all", "weights that change: all, or the embeddings of tokens alone",
        choices=("all", "embeddings"),
    )  # fmt: skip
    settings: Table = field(default_factory=dict)


@dataclass(frozen=True)
class PositionsOptions:
    """Rotary frequencies that the weights are trained with. `settings` are the method's options."""

    name: str | None = option(None, "pi, ntk, abf, yarn, giraffe, ...; none: the model's own")
    settings: Table = field(default_factory=dict)

    def method(self) -> Method | None:
        """Raises TrainingError where no weights can be trained with it."""
        if self.name is None:
            if self.settings:
                raise TrainingError(
                    f"[positions] gives {', '.join(self.settings)} and no method: add "
                    'name, as in name = "yarn"'
                )
            return None
        try:
            return frequency_method(self.name, self.settings)
        except RecipeError as error:
            raise TrainingError(f"[positions] {error}") from error


@dataclass(frozen=True)
class RetentionOptions:
    """Windows of layers that the weights are trained with. `settings` are the method's options."""

    name: str | None = option(None, "longgen; none: every layer sees everything")
    settings: Table = field(default_factory=dict)

    def method(self) -> Method | None:
        """Raises TrainingError where no weights can be trained with it."""
        if self.name is None:
            if self.settings:
                raise TrainingError(
                    f"[retention] gives {', '.join(self.settings)} and no method: add "
                    'name = "longgen"'
                )
            return None
        try:
            return window_method(self.name, self.settings)
        except RecipeError as error:
            raise TrainingError(f"[retention] {error}") from error


@dataclass(frozen=True)
class DataOptions:
    train: str | None = option(None, "folder made by `lengthwise sequences build`")
    validation: str | None = option(None, "the same, of other documents, with its token store")


@dataclass(frozen=True)
class CurriculumOptions:
    name: str = option("grow-p2", "order of the lengths", choices=CURRICULA)
    cycles: int = option(1, "times that an epoch goes from short to long", low=1)


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW. Matrices decay, vectors (norms, biases) do not."""

    lr: float = option(3e-3, "highest learning rate", low=0.0, high=10.0)
    beta1: float = option(0.9, "decay of the mean gradient", low=0.0, high=0.9999)
    beta2: float = option(0.95, "decay of the mean squared gradient", low=0.0, high=0.99999)
    eps: float = option(1e-8, "added to the root of the mean square", low=0.0)
    weight_decay: float = option(0.1, "decay of matrices, times the rate", low=0.0)
    clip: float = option(1.0, "largest norm of the gradient; 0: no limit", low=0.0)


@dataclass(frozen=True)
class ScheduleOptions:
    name: str = option("cosine", "learning rate over the run", choices=SCHEDULES)
    warmup_steps: int = option(0, "first steps, in which the rate rises", low=0)
    decay_steps: int = option(0, "last steps of wsd and power, in which it falls", low=0)
    floor: float = option(0.0, "rate at the end", low=0.0)
    shape: str | None = option(None, "how wsd and power fall", choices=DECAYS)


@dataclass(frozen=True)
class GrowthOptions:
    """G_stack: the layers are stacked `factor` times before step `at_step` (0: never)."""

    at_step: int = option(0, "steps done before it; 0: never", low=0)
    factor: int = option(4, "layers afterwards, in layers before", low=2, high=16)
    optimizer: str = option("fresh", "its state afterwards", choices=("fresh", "copied"))
    schedule: str = option("fresh", "the learning rate afterwards", choices=("fresh", "kept"))
    warmup_steps: int | None = option(None, "steps after it in which the rate rises", low=0)

    def deciding(self) -> Table:
        """What decides on the numbers, in the words of folders from before there was `schedule`."""
        if not self.at_step:
            return {"at_step": 0, "factor": 2, "optimizer": "fresh", "warmup_steps": 0}
        found = dataclasses.asdict(self)
        if self.schedule == "kept":
            del found["schedule"]
            found["warmup_steps"] = self.warmup_steps or 0
        return found


@dataclass(frozen=True)
class DomainOptions:
    data: str | None = option(None, "folder built like data.train, of one domain")
    weight: float = option(0.1, "share of the last stretch's tokens", low=0.0, high=1.0)


@dataclass(frozen=True)
class UpsamplingOptions:
    share: float = option(0.15, "share of the run, at its end", low=0.001, high=1.0)
    domains: dict[str, DomainOptions] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointOptions:
    every: int = option(500, "steps between checkpoints; 0: only at the end", low=0)
    keep: int = option(2, "latest checkpoints that stay", low=1)


@dataclass(frozen=True)
class LogOptions:
    every: int = option(10, "steps in one record", low=1)
    plot_every: int = option(100, "steps between drawings of loss.png; 0: none", low=0)


@dataclass(frozen=True)
class EvaluationOptions:
    every: int = option(0, "steps between evaluations; 0: only at the end", low=0)
    documents: int = option(256, "documents read, from the first on", low=1)
    max_length: int | None = option(None, "tokens of a document read at most", low=2)
    tokens_per_batch: int = option(4096, "tokens in one forward pass at most", low=1)


@dataclass(frozen=True)
class ParallelOptions:
    """Across the ranks that torchrun started; without torchrun there is one."""

    shard: bool = option(False, "FSDP2: split weights, gradients and optimizer over ranks")
    context: int = option(1, "ranks that share one sequence", low=1)


@dataclass(frozen=True)
class RunConfig:
    """One run. Exactly one of steps, tokens and epochs says how long it is."""

    out: str | None = option(None, "folder of the run")
    seed: int = option(0, "of weights, rows and dropout", low=0)
    tokens_per_step: int = option(8192, "on all ranks together", low=1)
    steps: int | None = option(None, "optimizer steps", low=1)
    tokens: int | None = option(None, "tokens read, whole steps of them", low=1)
    epochs: int | None = option(None, "times that the data is read", low=1)
    precision: str = option("fp32", "of the arithmetic; weights are fp32", choices=("fp32", "bf16"))
    accumulate: int = option(1, "parts of a rank's step, one after another", low=1)
    model: ModelOptions = field(default_factory=ModelOptions)
    positions: PositionsOptions = field(default_factory=PositionsOptions)
    retention: RetentionOptions = field(default_factory=RetentionOptions)
    data: DataOptions = field(default_factory=DataOptions)
    curriculum: CurriculumOptions = field(default_factory=CurriculumOptions)
    upsampling: UpsamplingOptions = field(default_factory=UpsamplingOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    growth: GrowthOptions = field(default_factory=GrowthOptions)
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    log: LogOptions = field(default_factory=LogOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    parallel: ParallelOptions = field(default_factory=ParallelOptions)
    folder: Path = Path()
    """What paths are relative to."""

    def __post_init__(self) -> None:
        for name, value in (("out", self.out), ("data.train", self.data.train)):
            if not value:
                raise TrainingError(f"{name} is missing: it must name a folder")
        if (self.model.family is None) == (self.model.checkpoint is None):
            raise TrainingError(
                "[model] must give either family (with its sizes) or checkpoint, one of them"
            )
        self.positions.method()
        self.retention.method()
        if sum(each is not None for each in (self.steps, self.tokens, self.epochs)) != 1:
            raise TrainingError("give exactly one of steps, tokens and epochs")
        if self.tokens is not None and self.tokens < self.tokens_per_step:
            raise TrainingError(
                f"tokens={self.tokens} is less than one step: give {self.tokens_per_step} or more"
            )
        if self.parallel.context > 1 and self.model.attention != "sdpa":
            raise TrainingError(
                f"parallel.context={self.parallel.context} needs model.attention='sdpa' and not "
                f"{self.model.attention!r}: no other attention is shared among ranks"
            )
        if self.upsampling.domains and self.epochs is None:
            raise TrainingError(
                "[upsampling] needs epochs, and not steps or tokens: its stretch is counted from "
                "the end of the last epoch"
            )
        for name, domain in self.upsampling.domains.items():
            if not domain.data:
                raise TrainingError(f"upsampling.domains.{name}.data is missing: name a folder")
        for key, value, needed in idle(self):
            raise TrainingError(
                f"{key}={value!r} does nothing without {needed}: give that too, or leave it out"
            )

    def path(self, name: str) -> Path:
        """A path of the file, as one that can be opened."""
        return self.folder / name

    def total_steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole run over data that has so many in an epoch."""
        if self.steps is not None:
            return self.steps
        if self.tokens is not None:
            return self.tokens // self.tokens_per_step
        return (self.epochs or 1) * steps_per_epoch

    def deciding(self) -> Table:
        """Everything in the file that decides on the numbers: a run is gone on with as it was.

        How long a run is, and which data it reads, are not told by the file alone.
        """
        found = without(dataclasses.asdict(self), FREE)
        found["growth"] = self.growth.deciding()
        if self.retention.name is None:
            # As in folders from before there was one.
            del found["retention"]
        if self.model.train == "all":
            del found["model"]["train"]
        return found


SECTIONS: dict[str, type] = {
    "model": ModelOptions, "positions": PositionsOptions,
    "retention": RetentionOptions, "data": DataOptions,
    "curriculum": CurriculumOptions,
    "upsampling": UpsamplingOptions, "optimizer": OptimizerOptions, "schedule": ScheduleOptions,
    "growth": GrowthOptions, "checkpoint": CheckpointOptions, "log": LogOptions,
    "evaluation": EvaluationOptions, "parallel": ParallelOptions,
}  # fmt: skip


def load_config(path: str | Path) -> RunConfig:
    """The run that a TOML file describes. Raises TrainingError naming file, section and key."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise TrainingError(f"{path} is no TOML: {error}") from error
    try:
        return read_config(table, path.parent)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from error


def read_config(table: Table, folder: Path = Path()) -> RunConfig:
    """The run that a table of tables describes; `folder` is what its paths are relative to."""
    table = dict(table)
    values: Table = {"folder": folder}
    for name, kind in SECTIONS.items():
        if name in table:
            inner = table.pop(name)
            if not isinstance(inner, dict):
                raise TrainingError(f"{name} is a section: write [{name}] and its keys below")
            values[name] = _section(kind, dict(inner), name)
    return RunConfig(**values, **_checked(RunConfig, table, ""))


def _section(kind: type[Section], table: Table, name: str) -> Section:
    extra: Table = {}
    if kind in (ModelOptions, PositionsOptions, RetentionOptions):
        known = {each.name for each in _options(kind)}
        extra["settings"] = {key: table.pop(key) for key in list(table) if key not in known}
    if kind is UpsamplingOptions and "domains" in table:
        domains = table.pop("domains")
        if not isinstance(domains, dict) or not all(isinstance(d, dict) for d in domains.values()):
            raise TrainingError("upsampling.domains holds sections: [upsampling.domains.NAME]")
        extra["domains"] = {
            each: _section(DomainOptions, dict(inner), f"upsampling.domains.{each}")
            for each, inner in domains.items()
        }
    return kind(**_checked(kind, table, name), **extra)


def _checked(kind: type, table: Table, section: str) -> Table:
    known = {each.name: each for each in _options(kind)}
    found = {}
    for key, value in table.items():
        if key not in known:
            raise TrainingError(_unknown(key, list(known), section))
        try:
            found[key] = known[key].check(value)
        except RecipeError as error:
            raise TrainingError(f"[{section}] {error}" if section else str(error)) from None
    return found


def _unknown(key: str, known: list[str], section: str) -> str:
    """One line on a key that does not exist: the nearest one here, else the one elsewhere."""
    where = f"[{section}]" if section else "the top of the file"
    here = known + (list(SECTIONS) if not section else [])
    near = closest(key, here, _NEAR)
    if near is not None:
        meant = f"[{near}]" if near in SECTIONS and not section else near
        return f"{where} has no key {key!r}; did you mean {meant}?"
    others = {"": RunConfig, **SECTIONS}
    places = {each.name: name for name, kind in others.items() for each in _options(kind)}
    elsewhere = closest(key, places, _NEAR)
    if elsewhere is not None:
        place = places[elsewhere]
        home = f"[{place}]" if place else "the top of the file"
        return f"{where} has no key {key!r}; did you mean {elsewhere} in {home}?"
    return f"{where} has no key {key!r}; it has {', '.join(here)}"


def _options(kind: type) -> Any:
    """The fields that a person sets, without those that hold other sections."""
    plain = [f for f in dataclasses.fields(kind) if "help" in f.metadata]
    if len(plain) == len(dataclasses.fields(kind)):
        return options(kind)
    hints = {f.name: f.type for f in plain}
    only = dataclasses.make_dataclass(
        kind.__name__,
        [(f.name, hints[f.name], option(f.default, **f.metadata)) for f in plain],
        namespace={"__module__": __name__},
        frozen=True,
    )
    return options(only)
