"""Codecs of saved sessions: what `session.save(path, codec="cachegen(level=2)")` stores.

Keys and values leave the file's plain tensors. In their place stand chunks of tokens, each coded
at every level that was asked for, each of these one tensor of bytes. All else stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.cachegen import (
    LEVELS,
    LOSSLESS,
    Plane,
    Quality,
    decode_planes,
    encode_planes,
)
from lengthwise.engine.kv_cache.entropy import MOST, require_coder
from lengthwise.engine.kv_cache.packing import Damaged
from lengthwise.errors import RecipeError, SessionError
from lengthwise.methods.options import option, options, show
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes.parser import parse_one

ALL = "all"
_GROUP = 1024
_NAMES = {level: str(level) for level in LEVELS if level != LOSSLESS} | {LOSSLESS: "lossless"}


@dataclass(frozen=True)
class CacheGen:
    """How a session is coded in its file; see `lengthwise.engine.kv_cache.cachegen`."""

    name: ClassVar[str] = "cachegen"

    level: str = option(
        "2", "quality: 1 is the smallest, all stores every one", choices=(*_NAMES.values(), ALL)
    )
    group: int = option(
        10, "tokens that share an anchor; 1 takes no differences", low=1, high=_GROUP
    )
    chunk: int = option(1500, "tokens that are coded together", low=1, high=MOST)

    def __post_init__(self) -> None:
        try:
            for each in options(type(self)):
                each.check(getattr(self, each.name))
        except RecipeError as error:
            raise RecipeError(f"{self.name}: {error}") from None

    def __str__(self) -> str:
        given = [
            f"{each.name}={show(getattr(self, each.name))}"
            for each in options(type(self))
            if each.name == "level" or getattr(self, each.name) != each.default
        ]
        return f"{self.name}({', '.join(given)})"

    @property
    def levels(self) -> list[int]:
        """The levels that are stored."""
        return [level for level, name in _NAMES.items() if self.level in (name, ALL)]


CodecLike = str | CacheGen


def codec_of(given: CodecLike | None) -> CacheGen | None:
    """A codec in whichever way it was given; None is none.

    Args:
        given: its text, such as "cachegen(level=2)", or a `CacheGen`.

    Raises:
        LengthwiseError: for what is no codec, and where its library is not installed.
    """
    if given is None:
        return None
    if not isinstance(given, (str, CacheGen)):
        raise RecipeError(
            f"a codec of type {type(given).__name__} ({given!r}); give its text, as in "
            '"cachegen(level=2)"'
        )
    found = parse_one(given, {CacheGen.name: CacheGen}) if isinstance(given, str) else given
    require_coder()
    return found


def level_of(given: int | str) -> int:
    """A level by its number or name.

    Args:
        given: from 1 to 4, which is "lossless".

    Raises:
        SessionError: for anything else.
    """
    for level, name in _NAMES.items():
        if given in (name, level) and not isinstance(given, bool):
            return level
    raise SessionError(f"there is no level {given!r}; levels are {', '.join(_NAMES.values())}")


def shown_level(level: int) -> str:
    """A level by its name: "2", "lossless"."""
    return _NAMES[level]


# Writing.


def code(
    state: dict[str, Any], tensors: dict[str, Tensor], codec: CacheGen, model: AdaptedModel
) -> dict[str, Any]:
    """Puts coded chunks in the place of keys and values.

    Args:
        state: of a sequence, as `pack_sequence` gave it.
        tensors: by name; those of keys and values leave it, and chunks join it.
        codec: how they are coded.
        model: which read them.

    Returns:
        What `Coded` reads back.

    Raises:
        Unstorable: for numbers that the level has no form for.
    """
    held, names, planes, counts = [], [], [], []
    for layer, kind, name in _entries(state):
        tensor = tensors[name]
        if tensor.dim() == 3 and tensor.shape[1]:
            heads, n, dim = tensor.shape
            planes.append(Plane(layer, kind, heads, dim))
            counts.append(n)
            names.append(name)
            held.append(tensors.pop(name))
    coded = Coded(names, planes, counts, codec.levels, codec.chunk, codec.group, len(model.layers))
    for chunk in range(coded.chunks):
        places = coded.of_chunk(chunk)
        parts = [held[place][:, start:stop] for place, start, stop in places]
        for level in codec.levels:
            quality = coded.quality(level, model.dtype)
            data = encode_planes(parts, [coded.planes[p] for p, _, _ in places], quality, chunk)
            tensors[coded.piece(chunk, level)] = torch.frombuffer(
                bytearray(data), dtype=torch.uint8
            )
    found = [
        [name, plane.layer, plane.kind, plane.heads, n, plane.dim]
        for name, plane, n in zip(names, planes, counts, strict=True)
    ]
    return {"levels": codec.levels, "chunk": codec.chunk, "group": codec.group, "planes": found}


def _entries(state: dict[str, Any]) -> Iterator[tuple[int, str, str]]:
    """Layer, kind and tensor's name of all plain keys and values."""
    for layer, each in enumerate(state["layers"]):
        for group in each["groups"]:
            for store in (group["near"], group["far"], *(group["contexts"] or ())):
                if store["tail"] is not None:
                    for kind in ("key", "value"):
                        yield layer, kind, store["tail"][kind]["tensor"]


def same_once(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Takes whole numbers that stand twice out of tensors: birth ids are those of every layer.

    Args:
        tensors: by name.

    Returns:
        For each that was taken out, the name of the one that stays.
    """
    first: dict[tuple[object, ...], str] = {}
    taken: dict[str, str] = {}
    for name, tensor in sorted(tensors.items(), key=lambda each: each[0] != "tokens"):
        if tensor.dtype in (torch.int32, torch.int64):
            data = np.ascontiguousarray(tensor.cpu().numpy()).tobytes()
            key = (tensor.dtype, tuple(tensor.shape), data)
            if key in first:
                taken[name] = first[key]
                del tensors[name]
            else:
                first[key] = name
    return taken


# Reading.


@dataclass(frozen=True)
class Coded:
    """What a file holds in coded chunks.

    Attributes:
        names: of the tensors that were coded.
        planes: what they are.
        counts: entries of each.
        levels: that are stored, ascending.
        chunk: entries that are coded together.
        group: tokens that share an anchor.
        layers: of the model.
    """

    names: list[str]
    planes: list[Plane]
    counts: list[int]
    levels: list[int]
    chunk: int
    group: int
    layers: int

    @classmethod
    def read(cls, data: Mapping[str, Any], model: AdaptedModel, tokens: int) -> Coded:
        """What `code` returned, held against the model.

        Args:
            data: out of a file.
            model: which read the session.
            tokens: of the session, which the file holds one by one.

        Raises:
            Damaged: for what this model's layers cannot hold, before anything is allocated.
        """
        names, planes, counts = [], [], []
        for name, layer, kind, heads, n, dim in data["planes"]:
            facts = model.layers[layer] if 0 <= layer < len(model.layers) else None
            wanted = None if facts is None else {"key": facts.head_dim, "value": facts.value_dim}
            fits = facts is not None and wanted is not None and wanted.get(kind) == dim
            if facts is None or not fits or not 0 < heads <= facts.num_kv_heads:
                raise Damaged("its coded entries are of no layer of this model")
            if not 0 < n <= tokens or name in names:
                raise Damaged("it has more coded entries than tokens")
            names.append(str(name))
            planes.append(Plane(int(layer), kind, int(heads), int(dim)))
            counts.append(int(n))
        levels, chunk, group = data["levels"], int(data["chunk"]), int(data["group"])
        known = levels and set(levels) <= set(LEVELS)
        if not known or not 0 < chunk <= MOST or not 0 < group <= _GROUP:
            raise Damaged("it is coded in no way that there is")
        return cls(names, planes, counts, sorted(levels), chunk, group, len(model.layers))

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-max(self.counts, default=0) // self.chunk)

    def quality(self, level: int, dtype: torch.dtype) -> Quality:
        """How a level is coded."""
        return Quality(level, self.group, self.layers, dtype)

    def piece(self, chunk: int, level: int) -> str:
        """The name of the tensor that holds a chunk at a level."""
        return f"chunk{chunk:06}.level{level}"

    def of_chunk(self, chunk: int) -> list[tuple[int, int, int]]:
        """Place, first and last entry of every plane that has entries in a chunk."""
        start = chunk * self.chunk
        stops = [(place, min(n, start + self.chunk)) for place, n in enumerate(self.counts)]
        return [(place, start, stop) for place, stop in stops if stop > start]

    def decode(self, data: bytes, chunk: int, level: int, dtype: torch.dtype) -> list[Tensor]:
        """The entries of a chunk, a tensor `[heads, n, dim]` for each plane in it.

        Args:
            data: of its piece.
            chunk: which one.
            level: at which it is coded.
            dtype: of the model.

        Raises:
            Damaged: for bytes that were not written so.
        """
        places = self.of_chunk(chunk)
        planes = [self.planes[place] for place, _, _ in places]
        counts = [stop - start for _, start, stop in places]
        return decode_planes(data, planes, counts, self.quality(level, dtype), chunk)

    def chosen(self, level: int | str | None) -> int:
        """The level to be read.

        Args:
            level: which is asked for; None is the best.

        Raises:
            SessionError: where it is not stored.
        """
        if level is None:
            return self.levels[-1]
        if level_of(level) not in self.levels:
            stored = ", ".join(map(shown_level, self.levels))
            raise SessionError(f"level {level} is not stored in it; stored are {stored}")
        return level_of(level)


__all__ = [
    "CacheGen", "Coded", "CodecLike", "code", "codec_of", "level_of", "same_once", "shown_level",
]  # fmt: skip
