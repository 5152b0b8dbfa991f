"""A few steps of training behind a transplant, on a user's text: the second half of Cabrita's
recipe.

Larcher et al., 2023 (arXiv 2308.11878) go on training the whole model on the new language. The data
set, the run and its checkpoints lie in a folder of their own, so a run that was stopped goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lengthwise._utils.progress import Progress
from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import load_encoder
from lengthwise.sequences.errors import NotAsAskedError
from lengthwise.sequences.records import Fields
from lengthwise.training.config import TrainingError, read_config
from lengthwise.training.deciding import Table
from lengthwise.training.progress import TrainingProgress
from lengthwise.training.trainer import Outcome, train

_END = "<|endoftext|>"


@dataclass(frozen=True)
class Continued:
    """How training goes on.

    Attributes:
        steps: updates.
        length: tokens of a row.
        rows: of an update.
        lr: AdamW's rate at its highest; it rises over a tenth of the steps and falls as a cosine.
        train: "all" weights, as in the paper, or the "embeddings" alone.
        seed: of the order of rows.
    """

    steps: int = 100
    length: int = 512
    rows: int = 8
    lr: float = 1e-4
    train: str = "all"
    seed: int = 0


def go_on(
    start: Path, sources: tuple[str, ...], work: Path, how: Continued,
    data: Progress | None = None, progress: TrainingProgress | None = None, end: str | None = None,
) -> Outcome:  # fmt: skip
    """Trains a model further; the result lies in `work`/run/model.

    Args:
        start: folder of the model with its tokenizer.
        sources: files, folders or data sets of text.
        work: folder for the data set and the run. A second call with the same goes on.
        how: steps and rates.
        data: told how the text becomes rows.
        progress: told of the steps.
        end: the token behind each document. None is `<|endoftext|>` where the tokenizer has it, or
            else its own end. After a transplant it has to be one that the model knows.

    Raises:
        LengthwiseError: a text or model that this cannot be done with.
    """
    start, work = start.resolve(), work.resolve()
    encoder = load_encoder(str(start), end)
    if end is None and encoder.tokenizer.token_to_id(_END) is not None:
        # What models of chats end a turn with is no end of a document.
        encoder = load_encoder(str(start), _END)
    place = work / "data"
    try:
        rows = build(Build(
            Sources(sources, Fields()), encoder, make_builder("concat", {}, how.length),
            Settings(), place, place / "tokens",
        ), data)["rows"]  # fmt: skip
    except NotAsAskedError:
        rows = 0
    if not rows:
        raise TrainingError(
            f"the text to train on gives no row of {how.length:,} tokens: give more text, or a "
            "smaller --length"
        )
    return train(read_config(_table(start, work, how)), progress)


def _table(start: Path, work: Path, how: Continued) -> Table:
    return {
        "out": str(work / "run"), "seed": how.seed, "steps": how.steps,
        "tokens_per_step": how.rows * how.length,
        "model": {"checkpoint": str(start), "train": how.train},
        "data": {"train": str(work / "data")},
        "optimizer": {"lr": how.lr, "weight_decay": 0.0},
        "schedule": {"warmup_steps": how.steps // 10, "floor": how.lr / 10},
        "log": {"plot_every": 0}, "checkpoint": {"every": 0 if how.steps < 200 else 100},
    }  # fmt: skip


__all__ = ["Continued", "go_on"]
