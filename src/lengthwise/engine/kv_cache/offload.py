"""Far entries that live off the device: in CPU memory, or in a file that is mapped into it.

A selection reads a few of its far entries at a time, so the rest need not be where the model is.
The first entries and the newest, which are read in any case, stay on the device; every `unit`
entries between them move off it together, and come back when they are chosen. The units used last
stay on the device as well, up to `cached` of them.

A file is unlinked as soon as it is mapped, so that nothing is left behind however a run ends. All
of its space is claimed beforehand: a full disk is one error, and no crash in mid-text.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise.engine.kv_cache.entries import KVEntries, concatenate
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.errors import LengthwiseError

PLACES = ("none", "cpu", "disk")


@dataclass(frozen=True)
class Offload:
    """where: "cpu" or "disk". first: entries that stay on the device. unit, cached: see above."""

    where: str
    first: int
    unit: int
    cached: int


class OffloadedKVStore(KVStore):
    """A store of entries 0, 1, 2, ..., none of them ever deleted or encoded.

    `_head` and `_open` are on the device: the first entries, and the newest that fill no unit.
    `_hosted` entries between them are in `_key` and `_value`, `[capacity, heads, dim]`. So a unit
    is one piece of memory.
    """

    def __init__(self, offload: Offload) -> None:
        super().__init__()
        self.offload = offload
        self._head, self._open = KVStore(), KVStore()
        self._hosted = 0
        self._key: Tensor | None = None
        self._value: Tensor | None = None
        self._units: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
        self._taken: tuple[Tensor, KVEntries] | None = None
        self._device = torch.device("cpu")
        self._heads = 0

    def __len__(self) -> int:
        return len(self._head) + self._hosted + len(self._open)

    def __deepcopy__(self, memo: dict[int, Any]) -> OffloadedKVStore:
        new = OffloadedKVStore(self.offload)
        new._device, new._heads = self._device, self._heads
        for mine, theirs in ((new._head, self._head), (new._open, self._open)):
            mine.replace(theirs.read())
        if self._key is not None and self._value is not None:
            new._key, new._value = (new._room_like(t, len(t)) for t in (self._key, self._value))
            new._key[: self._hosted] = self._key[: self._hosted]
            new._value[: self._hosted] = self._value[: self._hosted]
            new._hosted = self._hosted
        return new

    # Bytes.

    @property
    def capacity(self) -> int:
        return 0 if self._key is None else len(self._key)

    @property
    def is_plain(self) -> bool:
        return False

    @property
    def key_heads(self) -> int:
        return self._heads

    @property
    def offloaded(self) -> int:
        held = [t for t in (self._key, self._value) if t is not None]
        return sum(t.numel() * t.element_size() for t in held)

    def nbytes(self) -> int:
        """What is on the device (with a mapped file: in memory of the process's own)."""
        tensors = [t for unit in self._units.values() for t in unit]
        if self._taken is not None:
            tensors += [self._taken[0], *self._taken[1].tensors()]
        size = sum(t.numel() * t.element_size() for t in tensors)
        return size + self._head.nbytes() + self._open.nbytes()

    # Writing.

    def reserve(self, like: KVEntries, room: int) -> None:
        wanted = self._hosted + room
        if wanted <= self.capacity:
            return
        size = wanted if self._key is None else max(wanted, 2 * len(self._key))
        grown = []
        for old, new in ((self._key, like.key), (self._value, like.value)):
            shape = new[:, :1].transpose(0, 1) if old is None else old
            fresh = self._room_like(shape, size)
            if old is not None:
                fresh[: self._hosted] = old[: self._hosted]
            grown.append(fresh)
        self._key, self._value = grown

    def append(self, entries: KVEntries) -> None:
        self._device, self._heads = entries.key.device, entries.key.shape[0]
        first = self.offload.first - len(self._head)
        if first > 0:
            # Copies: what is appended may be a view of something that is about to move.
            self._head.append(entries.slice(0, first))
            entries = entries.slice(min(first, len(entries)), len(entries))
        self._open.append(entries)
        count = len(self._open) // self.offload.unit * self.offload.unit
        if not count:
            return
        self.reserve(entries, count)
        tail, stop = self._open.tail, self._hosted + count
        assert tail is not None and self._key is not None and self._value is not None
        self._key[self._hosted : stop] = tail.key[:, :count].transpose(0, 1)
        self._value[self._hosted : stop] = tail.value[:, :count].transpose(0, 1)
        self._hosted = stop
        self._open.replace(tail.slice(count, len(tail)), self.offload.unit)

    def _room_like(self, like: Tensor, size: int) -> Tensor:
        """Memory off the device for `size` entries of the shape of `like` `[any, heads, dim]`."""
        shape = (size, *like.shape[1:])
        if self.offload.where == "disk":
            return mapped(shape, like.dtype)
        pinned = torch.cuda.is_available()
        return torch.empty(shape, dtype=like.dtype, device="cpu", pin_memory=pinned)

    # Reading.

    def take(self, ids: Tensor) -> KVEntries:
        if ids.dim() == 1:
            return self._take_units(ids)
        taken = self._taken
        if taken is None or taken[0].shape != ids.shape or taken[0].data_ptr() != ids.data_ptr():
            # The ids are held too, so that no other ones can stand where they stood.
            key, value = self._gather(ids, "key"), self._gather(ids, "value")
            taken = self._taken = ids, KVEntries(key, value, ids.int())
        return taken[1]

    def take_keys(self, ids: Tensor) -> Tensor:
        """Keys of the entries ids `[key_heads, n]`: `[key_heads, n, head_dim]` on the device."""
        return self._gather(ids, "key")

    def blocks(self) -> list[KVEntries]:
        if not len(self):
            return []
        return [self._take_units(torch.arange(len(self), device=self._device))]

    def keys(self) -> Tensor:
        return self.blocks()[0].key

    def index(self) -> Tensor:
        return torch.arange(len(self), dtype=torch.int32, device=self._device)[None]

    @property
    def _stop(self) -> int:
        return len(self._head) + self._hosted

    def _unit(self, number: int) -> tuple[Tensor, Tensor]:
        """Key and value `[heads, unit, dim]` of a unit, on the device."""
        if number not in self._units:
            assert self._key is not None and self._value is not None
            rows = slice(number * self.offload.unit, (number + 1) * self.offload.unit)
            key, value = (
                t[rows].to(self._device, copy=True, non_blocking=True).transpose(0, 1)
                for t in (self._key, self._value)
            )
            self._units[number] = key, value
        self._units.move_to_end(number)
        return self._units[number]

    def _take_units(self, ids: Tensor) -> KVEntries:
        """Entries ids `[n]`, ascending, by way of the units they lie in."""
        first, size, stop = len(self._head), self.offload.unit, self._stop
        hosted = ids[(ids >= first) & (ids < stop)]
        rank, wanted = torch.unique_consecutive((hosted - first) // size, return_inverse=True)[::-1]
        numbers = wanted.tolist()
        blocks = [] if (head := self._head.read()) is None else [head]
        for number in numbers:
            key, value = self._unit(number)
            start = first + number * size
            index = torch.arange(start, start + size, dtype=torch.int32, device=key.device)
            blocks.append(KVEntries(key, value, index[None]))
        if (newest := self._open.read()) is not None:
            blocks.append(newest)
        found = concatenate(blocks)
        while len(self._units) > self.offload.cached:
            self._units.popitem(last=False)
        if len(found) == len(ids):
            return found
        middle = first + rank * size + (hosted - first) % size
        last = ids[ids >= stop] - stop + first + len(numbers) * size
        return found.take(torch.cat([ids[ids < first], middle, last]))

    def _gather(self, ids: Tensor, name: str) -> Tensor:
        """Keys or values of the entries ids `[key_heads, n]`, each taken by itself."""
        first, stop = len(self._head), self._stop
        off = (ids >= first) & (ids < stop)
        here = [b for b in (self._head.read(), self._open.read()) if b is not None]
        near = [getattr(b, name) for b in here]
        owner = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
        host = self._key if name == "key" else self._value
        like = host if host is not None else near[0]
        found = like.new_empty((*ids.shape, like.shape[-1]), device=self._device)
        if near:
            place = torch.where(ids < first, ids, ids - self._hosted)[~off]
            found[~off] = torch.cat(near, 1)[owner[~off], place]
        if host is not None:
            rows, heads = (ids[off] - first).to(host.device), owner[off].to(host.device)
            found[off] = host[rows, heads].to(self._device, non_blocking=True)
        return found


def mapped(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in a file of the temporary folder, which is gone when the tensor is.

    Raises LengthwiseError where the folder cannot hold it.
    """
    numbers = int(torch.Size(shape).numel())
    size = numbers * torch.empty(0, dtype=dtype).element_size()
    folder = tempfile.gettempdir()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="lengthwise-") as file:
            _claim(file, max(1, size))
            return torch.from_file(file.name, shared=True, size=numbers, dtype=dtype).view(shape)
    except (OSError, RuntimeError) as error:
        raise LengthwiseError(
            f"offload=disk: {folder} cannot hold {size:,} more bytes of keys and values "
            f"({first_line(error)}); make room there, or name another folder in TMPDIR"
        ) from None


def _claim(file: IO[bytes], size: int) -> None:
    """Gives a file `size` bytes that are really there: a sparse one would fail when written to."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        file.write(zeros[: size - start])
    file.flush()
