"""A safetensors file read piece by piece, from whatever can give some of its bytes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise.engine.kv_cache.packing import Damaged
from lengthwise.errors import SessionError

Read = Callable[[int, int], bytes]
"""Gives the bytes of a file from an offset on, so many of them."""
Source = str | PathLike[str] | Read

# A header of safetensors is no longer, and what comes in is asked for a piece at a time, so that a
# number in a file is never believed before its bytes are here.
_HEADER = 100_000_000
_PIECE = 1 << 23
_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16,
    "I32": torch.int32, "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16,
    "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


class Ranges:
    """Tensors of a file by name; only what is asked for is read."""

    def __init__(self, source: Source, name: str) -> None:
        """source: a path, or what reads a range. name: of it, for errors.

        Raises Damaged for what is no such file, and SessionError where there is none.
        """
        self._name = name
        self._read = source if callable(source) else _file(source, name)
        head = self._bytes(0, 8)
        size = int.from_bytes(head, "little")
        if not 0 < size <= _HEADER:
            raise Damaged("it does not begin with a header")
        found = json.loads(self._bytes(8, size))
        if not isinstance(found, dict):
            raise Damaged("its header is none")
        self.metadata: dict[str, str] | None = found.pop("__metadata__", None)
        self._tensors: dict[str, Any] = found
        self._start = 8 + size

    def size(self, name: str) -> int:
        """Bytes of a tensor.

        Args:
            name: of it.

        Raises:
            Damaged: where there is none of that name.
        """
        if name not in self._tensors:
            raise Damaged(f"it has no {name}")
        begin, end = self._tensors[name]["data_offsets"]
        if not 0 <= begin <= end:
            raise Damaged(f"{name} lies nowhere")
        return int(end - begin)

    def data(self, name: str) -> bytes:
        """The bytes of a tensor.

        Args:
            name: of it.

        Raises:
            Damaged: where they are not there.
        """
        size = self.size(name)
        return self._bytes(self._start + int(self._tensors[name]["data_offsets"][0]), size)

    def get(self, name: str) -> Tensor:
        """A tensor.

        Args:
            name: of it.

        Raises:
            Damaged: where it is not there, or not of its own size.
        """
        size, entry = self.size(name), self._tensors[name]
        dtype, shape = _DTYPES[entry["dtype"]], [int(each) for each in entry["shape"]]
        wanted = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
        if wanted != size or any(each < 0 for each in shape):
            raise Damaged(f"{name} has another size than it says")
        whole = torch.from_numpy(np.frombuffer(bytearray(self.data(name)), np.uint8))
        return whole.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)

    def _bytes(self, offset: int, length: int) -> bytes:
        pieces: list[bytes] = []
        while length > 0:
            wanted = min(length, _PIECE)
            try:
                piece = self._read(offset, wanted)
            except OSError as error:
                raise SessionError(
                    f"{self._name}: byte {offset:,} cannot be read ({first_line(error)}); try again"
                ) from None
            if len(piece) != wanted:
                raise Damaged(f"{len(piece):,} of {wanted:,} bytes came from byte {offset:,} on")
            pieces.append(piece)
            offset, length = offset + wanted, length - wanted
        return b"".join(pieces)


def _file(path: str | PathLike[str], name: str) -> Read:
    if not Path(path).is_file():
        raise SessionError(f"{name}: there is no such file")
    # Opened for each range: nothing is left open by whoever stops in the middle.

    def read(offset: int, length: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    return read


def name_of(source: Source) -> str:
    """What a source is called in errors.

    Args:
        source: a path, or what reads a range.
    """
    return "the source" if callable(source) else os.fspath(source)


__all__ = ["Ranges", "Read", "Source", "name_of"]
