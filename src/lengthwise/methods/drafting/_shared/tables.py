"""Tables that drafters learn: options, reading logits, and files.

A table belongs to a model. One lives in memory as long as the model does, so that what one request
taught serves the next. A file keeps it between processes. It is a safetensors file whose header
says what it is and of which model. Its contents are checked before they are used.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Container
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from lengthwise._utils.files import write_aside
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.base import Method, option
from lengthwise.methods.calibration import INCIDENTAL
from lengthwise.methods.drafting._shared.writable import check_writable
from lengthwise.models.adapted_model import AdaptedModel

Array = NDArray[Any]
Arrays = dict[str, Array]

# Raised when what a file holds changes, so that older ones are refused.
VERSION = "1"
# Vocabularies up to this size are read whole.
SMALL = 8192
# Larger ones are read in strips of this many tokens that stand equally far apart.
STRIP = 64
# Of the strips without a large logit, every so many logits one is read.
STRIDE = 16


class Table(ABC):
    """What a drafter has learned about one model. kind: the drafter's name.

    lock: held by whoever reads or writes a table, for requests of several threads share one; the
    drafters of tables hold it while they work. One for all: a table takes less time than a step.
    """

    kind: ClassVar[str]
    lock: ClassVar[AbstractContextManager[Any]] = threading.RLock()

    @classmethod
    @abstractmethod
    def empty(cls, vocab_size: int) -> Self:
        """A table that knows nothing."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """All it holds."""

    @classmethod
    @abstractmethod
    def restored(cls, vocab_size: int, arrays: Arrays) -> Self:
        """The table that gave these arrays; raises ValueError or KeyError where none did."""


AnyTable = TypeVar("AnyTable", bound=Table)


def table_option() -> Any:
    return option("", "file that keeps the table between processes")


def fresh_option() -> Any:
    return option(False, "begin with an empty table and forget it after the request")


class TableMethod(Method):
    """A method whose drafter has a table of the class `kept`.

    Subclasses declare the two options: table is the file that keeps it, "" for memory alone; fresh
    begins with an empty one, which is nobody else's.
    """

    kept: ClassVar[type[Table]]
    table: str
    fresh: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fresh and self.table:
            raise RecipeError(
                f"{self.name}(table={self.table}, fresh=true): a fresh table is neither read from "
                "a file nor kept in one; leave out fresh or table"
            )

    def check(self, model: AdaptedModel) -> None:
        if self.table:
            table_of(model, self.kept, self.table)
            check_writable(self.name, self.table)

    def begin_table(self, kind: type[AnyTable], model: AdaptedModel) -> AnyTable:
        """The table that a request starts with."""
        return kind.empty(model.vocab_size) if self.fresh else table_of(model, kind, self.table)

    def end_table(self, table: Table, model: AdaptedModel | None) -> None:
        """Saves the model's table where a file keeps it."""
        if self.table and model is not None:
            with table.lock:
                save(model, table, self.table)


_TABLES: WeakKeyDictionary[AdaptedModel, dict[tuple[str, str], Table]] = WeakKeyDictionary()


def table_of(model: AdaptedModel, kind: type[AnyTable], path: str = "") -> AnyTable:
    """The model's table of a kind, read from the file at `path` the first time, if it is there.

    Tables at different paths are different ones; "" is the one of memory alone. Raises
    LengthwiseError where the file is no such table of this model.
    """
    place = str(_place(path)) if path else ""
    with Table.lock:
        tables = _TABLES.setdefault(model, {})
        found = tables.get((kind.kind, place))
        if found is None:
            exists = bool(path) and _place(path).exists()
            found = load(model, kind, path) if exists else kind.empty(model.vocab_size)
            tables[kind.kind, place] = found
    assert isinstance(found, kind)
    return found


def load(model: AdaptedModel, kind: type[AnyTable], path: str) -> AnyTable:
    """The table in a file; raises LengthwiseError naming the file, what is wrong and a way out."""
    place = _place(path)
    remedy = "give another path, or delete the file to begin anew"
    if place.is_dir():
        raise LengthwiseError(f"{place}: this is a folder; name the file of the table in it")
    try:
        with safe_open(place, framework="numpy") as file:
            header = file.metadata() or {}
            wanted = _header(model, kind.kind)
            for name, value in wanted.items():
                if header.get(name) != value:
                    raise LengthwiseError(
                        f"{place}: its {name} is {header.get(name, 'not given')} and {value} is "
                        f"expected; {remedy}"
                    )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("digest") != _digest(arrays):
            raise ValueError("its contents are not those that were saved")
        return kind.restored(model.vocab_size, arrays)
    except LengthwiseError:
        raise
    except OSError as error:
        raise LengthwiseError(f"{place}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise LengthwiseError(
            f"{place}: not a whole table of {kind.kind} ({error}); {remedy}"
        ) from error


def save(model: AdaptedModel, table: Table, path: str) -> None:
    """Writes a table aside and renames it; raises LengthwiseError where the disk says no."""
    place = Path(os.path.realpath(_place(path)))
    arrays = table.arrays()
    header = {**_header(model, table.kind), "digest": _digest(arrays)}
    try:
        with write_aside(place) as aside:
            save_file(arrays, aside, header)
    except (OSError, SafetensorError) as error:
        raise LengthwiseError(
            f"{place}: the table of {table.kind} cannot be saved ({error}); give a path that can "
            "be written"
        ) from error


def _place(path: str) -> Path:
    return Path(os.path.expanduser(path)).absolute()


def _header(model: AdaptedModel, kind: str) -> dict[str, str]:
    """What a file says of itself. Weights do not count: any guess is allowed, and a table learned
    in bfloat16 or on a sibling of the model is a good one."""
    config = model.model.config.get_text_config().to_dict()
    facts = {k: v for k, v in config.items() if k not in INCIDENTAL}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return {
        "kind": kind,
        "version": VERSION,
        "family": model.family,
        "vocabulary": str(model.vocab_size),
        "configuration": digest[:16],
    }


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def top(logits: Tensor, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Tokens and log-probabilities `[nodes, count]` of the largest logits `[nodes, vocab]`.

    Tokens are exact and in descending order. The largest logits lie in the strips of the largest
    maxima. Probabilities are exact up to what lies in the other strips, of which only a sample is
    read (a few percent of error). Sorting and summing whole rows would cost twice as much.
    """
    rows, vocab = logits.shape
    if vocab <= SMALL:
        values, ids = logits.float().log_softmax(-1).topk(min(count, vocab), -1)
        return ids.cpu().numpy(), values.cpu().numpy()
    strips = vocab // STRIP
    whole = strips * STRIP
    if (known := _STRIPS.get(logits)) is None:
        known = _STRIPS[logits] = _read_strips(logits, strips)
    maxima, peak, sample = known
    chosen = maxima.topk(count, -1).indices
    steps = torch.arange(0, whole, strips, device=logits.device)
    rest = torch.arange(whole, vocab, device=logits.device).expand(rows, -1)
    columns = torch.cat([(chosen[:, :, None] + steps).flatten(1), rest], 1)
    read = logits.gather(1, columns).float()
    values, places = read.topk(count, -1)
    unread = STRIDE * (sample.sum(-1) - sample.gather(1, chosen).sum(-1)).clamp_min(0)
    total = ((read - peak).exp().sum(-1) + unread)[:, None]
    return columns.gather(1, places).cpu().numpy(), (values - peak - total.log()).cpu().numpy()


def _read_strips(logits: Tensor, strips: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest logit of each strip `[rows, strips]` and of each row `[rows, 1]`, and a sum.

    The sum is of a sample of each strip `[rows, strips]`, over exp(logit - the row's largest).
    """
    whole = strips * STRIP
    split = logits[:, :whole].unflatten(1, (STRIP, strips))
    maxima = split.amax(1)
    peak = torch.cat([maxima, logits[:, whole:]], 1).amax(1, keepdim=True).float()
    return maxima, peak, (split[:, ::STRIDE].float() - peak[:, :, None]).exp().sum(1)


# Several drafters learn from the logits of one step, which are long to read.
_STRIPS = WeakIdKeyDictionary()


def behind(
    tree: Tree, logits: Tensor, accepted: Container[int], count: int
) -> tuple[list[int], NDArray[np.int64], NDArray[np.float32]]:
    """Nodes of a verified tree with the `top` of each: accepted ones after rejected ones, for of
    equal tokens the last one is learned. Logits that are not numbers teach nothing."""
    ids, logp = top(logits, count)
    nodes = [node for node in range(len(tree)) if np.isfinite(logp[node, 0])]
    nodes.sort(key=lambda node: node in accepted)
    return nodes, ids[nodes], logp[nodes]
