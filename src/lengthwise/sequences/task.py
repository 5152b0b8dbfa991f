"""What a build is told, and the making of one part: all that a worker on another machine needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise._utils.counter_rng import key
from lengthwise._utils.suggestions import hint
from lengthwise.sequences.builders.base import Builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import write_bytes
from lengthwise.sequences.orders import Order
from lengthwise.sequences.plan import Part, documents_of
from lengthwise.sequences.rows import Built
from lengthwise.sequences.shards import write_part
from lengthwise.sequences.token_store import TokenStore

ORDERS = ("shuffle", "source", "by-repository", "icp")
LEAST_MEMORY = 256 * 10**6
"""Bytes that a build takes whatever it is given: Python with its libraries, and one part."""

Entry = dict[str, Any]
"""What is written down of a finished part: its files, what was dropped, figures."""


@dataclass
class Settings:
    """Everything that decides on the bytes of a data set but the sources, tokenizer and method.

    encoder: folder of the model that embeds documents for the order icp; None for hashed words.
    """

    order: str = "shuffle"
    seed: int = 0
    shuffle_rows: bool = True
    memory: int = 1 << 30
    encoder: str | None = None

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise SequenceError(f"there is no order {self.order!r}{hint(self.order, ORDERS)}")
        if self.memory < LEAST_MEMORY:
            raise SequenceError(
                f"--memory {write_bytes(self.memory)} is too little: give "
                f"{write_bytes(LEAST_MEMORY)} or more"
            )
        if self.encoder is not None and self.order != "icp":
            raise SequenceError(
                f"--encoder embeds documents for --order icp; the order {self.order!r} needs none"
            )
        if self.encoder is not None and not Path(self.encoder).is_dir():
            raise SequenceError(
                f"--encoder {self.encoder} is no folder: save a transformers encoder and its "
                "tokenizer there, and name it"
            )

    def kept(self) -> dict[str, Any]:
        """The settings that decide on the result: memory does not, nor what was not given."""
        skipped = {"memory"} | ({"encoder"} if self.encoder is None else set())
        return {name: value for name, value in asdict(self).items() if name not in skipped}


@dataclass(frozen=True)
class Build:
    """One data set to be made in `folder`.

    `tokens` is where its token store lies or will lie. Both are kept from the root on, for workers
    of a cluster have another working folder.
    """

    sources: Sources
    encoder: Encoder
    builder: Builder
    settings: Settings
    folder: Path
    tokens: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.absolute())
        object.__setattr__(self, "tokens", self.tokens.absolute())

    def open_store(self) -> TokenStore:
        """The finished token store, held to a share of the memory."""
        return TokenStore(self.tokens, self.settings.memory >> 3)


def build_part(task: Build, part: Part, store: TokenStore, order: Order) -> Entry:
    """Makes the files of one part and returns its entry: alone it comes out as in company."""
    documents = documents_of(part, store, order)
    built = task.builder.build(documents, part.number)
    seed = key(task.settings.seed, "part") if task.settings.shuffle_rows else None
    shards = write_part(task.folder, part.number, built, store, seed)
    _account(part, built, shards)
    pieces = np.concatenate([rows.pieces()[0] for rows in built.rows.values()])
    built.figures["context"] = int((pieces * (pieces - 1) // 2).sum())
    return {"shards": shards, "dropped": built.dropped, "figures": built.figures}


def _account(part: Part, built: Built, shards: list[dict[str, Any]]) -> None:
    """Every token is in a row or in the count of the dropped, whatever a builder did."""
    written = sum(shard["tokens"] for shard in shards) - built.figures.get("tokens_added", 0)
    dropped = sum(built.dropped.values())
    if written + dropped != part.tokens:
        raise RuntimeError(
            f"part {part.number}: {written} tokens written and {dropped} dropped of {part.tokens}"
        )
