"""Attention in Triton over keys and values in 2, 4 or 8 bits, which are decoded tile by tile.

To decode all of them first writes and reads them once more in 16 bits, which is what few bits were
to save. Here a tile is decoded in registers:

    x = minimum + scale code

in float32, rounded to the dtype of the query for its product.
"""

from __future__ import annotations

from torch import Tensor

from lengthwise.engine.kernels import tree
from lengthwise.engine.kernels.attempts import attempt, works
from lengthwise.engine.kernels.choice import chosen
from lengthwise.engine.kernels.compiled import Grid, flat, in_spans, programs, runs, width
from lengthwise.engine.kernels.part import Answer, Asked, Coded, Codes, Part
from lengthwise.engine.kernels.plain import plain

NAME = "dequantise"


def can(asked: Coded) -> bool:
    """Whether Triton runs there, in the dtype of the query."""
    size = max(asked.key.channels, asked.value.channels)
    return runs(asked.query.device.type, asked.query.dtype, size)


def serves(asked: Part | Coded) -> bool:
    """Whether entries of a codec are to be read as they are stored, and not decoded first.

    A part is what a codec gives whose entries lack channels: that is a matter of the query alone.
    On a CPU any kernel reads it, in plain products or better. Elsewhere Triton has to: other flash
    kernels want as many channels as values have.
    """
    codes = asked.key if isinstance(asked, Part) else asked.key.codes
    if chosen("coded", asked.query, codes) != NAME:
        return False
    if isinstance(asked, Part) and asked.query.device.type == "cpu":
        return True
    if not works(NAME, asked.query, codes):
        return False
    if isinstance(asked, Part):
        return tree.can(asked.query, asked.key, asked.value)
    return can(asked)


def attend(asked: Coded, scaling: float, softcap: float | None = None) -> Answer | None:
    """Output and LSE, as of a `Part`; None where that fails here."""
    return attempt(
        NAME, asked.query, asked.key.codes, lambda: run(asked, scaling, softcap),
        lambda: plain(Asked([asked.part()], scaling, softcap, need_lse=True)),
    )  # fmt: skip


def run(asked: Coded, scaling: float, softcap: float | None = None) -> Answer:
    """`attend`, which raises what it raises."""
    query, key, value = flat(asked.query), asked.key, asked.value
    heads, queries, _ = query.shape
    key_heads, keys, _ = key.codes.shape
    group = heads // key_heads
    grid = Grid.of(group * queries, keys, key_heads, query.device)

    def fill(out: Tensor, lse: Tensor) -> None:
        programs().attend_codes[grid.programs](
            query, *_tensors(key), *_tensors(value), out, lse, scaling, softcap or 1.0,
            heads, queries, keys, grid.span, grid.bucket, *query.stride()[:2],
            *_strides(key), *_strides(value),
            FOLD=group, DIM=key.channels, VALUE=value.channels, ROWS=grid.rows,
            D=width(key.channels), V=width(value.channels), CAPPED=softcap is not None,
            K_BITS=key.bits, K_TOKENS=key.tokens, K_EACH=key.each, K_SIGNED=key.minimum is None,
            V_BITS=value.bits, V_TOKENS=value.tokens, V_EACH=value.each,
            V_SIGNED=value.minimum is None,
        )  # fmt: skip

    return in_spans(heads, queries, value.channels, query.dtype, grid, query.device, fill)


def _tensors(codes: Codes) -> list[Tensor]:
    """Codes, scales and minima; where there are none, a pointer that is never followed."""
    scale = codes.scale.contiguous()
    return [
        flat(codes.codes),
        scale,
        scale if codes.minimum is None else codes.minimum.contiguous(),
    ]


def _strides(codes: Codes) -> list[int]:
    """Of heads and rows: of the codes, and of scales and minima."""
    return [*flat(codes.codes).stride()[:2], *codes.scale.contiguous().stride()[:2]]


__all__ = ["NAME", "attend", "can", "run", "serves"]
