"""ThinK's channels by queries and keys, by keys alone and by nothing; and beside other codecs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from benchmarks.reproduction.codecs.slices import COLUMNS, WINDOW, Start, codecs, recipes
from benchmarks.reproduction.harness import Found, check
from torch import Tensor

from lengthwise.methods.codecs.pruned import PruneCodec
from lengthwise.methods.codecs.think import Think, ThinkChannels
from lengthwise.models.layer_facts import LayerFacts


class NormChannels(ThinkChannels):
    """ThinK that looks at the keys alone."""

    def scores(self, queries: Tensor, key: Tensor) -> Tensor:
        return key.float().square().mean(1)


class RandomChannels(ThinkChannels):
    """ThinK that drops channels blindly."""

    def scores(self, queries: Tensor, key: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(len(key), key.shape[-1], generator=generator)


@check(COLUMNS)
def think() -> Iterator[Found]:
    """Channels scored by queries and keys, by keys alone, and by nothing."""
    starts: dict[str, Start] = {
        str(m): m.start_codec for m in (Think(ratio=0.2), Think(ratio=0.3), Think(ratio=0.4))
    }
    for name, kind in (("key norm", NormChannels), ("random", RandomChannels)):
        starts[f"{name}, ratio=0.4"] = partial(_fixed, kind)
    yield from codecs(starts)


def _fixed(kind: type[ThinkChannels], layer: LayerFacts) -> PruneCodec:
    return PruneCodec(kind(0.4, 32, WINDOW))


@check(COLUMNS)
def pairs() -> Iterator[Found]:
    """ThinK with KIVI and int8, each beside the format alone."""
    formats = ("int8", "kivi(bits=4)", "kivi(bits=2)")
    yield from recipes([r for f in formats for r in (f, f"think(ratio=0.2) + {f}", f"think + {f}")])


@check(COLUMNS)
def h2o() -> Iterator[Found]:
    """H2O alone, and with ThinK and int8 over what it keeps."""
    kept = "h2o(budget=50%)"
    others = ("think(ratio=0.2)", "think", "int8", "think(ratio=0.2) + int8")
    yield from recipes([kept, *(f"{kept} + {other}" for other in others)])
