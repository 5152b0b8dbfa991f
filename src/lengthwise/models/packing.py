"""Whether weights are held a second time in oneDNN's own layout, and for how many rows that serves.

A packed copy may read faster for one token and slower for a thousand: which, and by how much, hangs
on the processor. So products of the model's own sizes are timed, once a machine
(`_utils.timings`). A second copy of a large model is not made without being asked, nor one that
would take most of the memory that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lengthwise._utils.machine import free_memory
from lengthwise._utils.timings import Timed, Timings, drawn, timing
from lengthwise.models.quantised import numbers

# Bytes of copies that are made without being asked, and the share of free memory they may take.
LARGEST = 4 << 30
SHARE = 4
# Rows that are timed: a token, a tree, a chunk.
ROWS = (1, 16, 128, 1024)
# A copy has to be this much faster for one token.
PAYS = 0.9
# Larger weights are timed by a part of their rows.
TIMED = 1 << 24
# Models with fewer parameters are packed without asking.
SMALL = 1 << 24


class Packing:
    """What is packed of one model.

    wanted: True packs whatever can be, False nothing, None what pays and fits.
    """

    def __init__(self, model: nn.Module, wanted: bool | None = None) -> None:
        self._model = model
        weights = list(model.parameters())
        self._bytes = sum(weight.nbytes for weight in weights)
        self._wanted = wanted
        # Whether anything of this model is timed.
        self.times = numbers(model) >= SMALL and timing()
        self._free = free_memory()
        self._timings: Timings | None = None
        self._found: dict[tuple[int, int], list[Mapping[str, float]]] = {}

    @property
    def fits(self) -> bool:
        """Whether copies of all weights may be made unasked."""
        return self._bytes <= LARGEST and (self._free is None or self._bytes * SHARE <= self._free)

    @property
    def note(self) -> str:
        """What is said of a model whose weights are held once for their size alone."""
        weight = next(self._model.parameters())
        if self._wanted is not None or self.fits or not can_pack(weight):
            return ""
        return (
            f"its weights are held once; a packed copy of {self._bytes / 1e9:.1f} GB beside them "
            "may decode faster (pack=True)"
        )

    def rows(self, weight: Tensor, outputs: int) -> int | None:
        """From how many rows on the plain weight serves and not its copy: 0 for no copy at all,
        None for a copy that always serves.

        Args:
            weight: `[out, in]`, the first of those that are joined.
            outputs: of all that are joined.
        """
        if not can_pack(weight) or self._wanted is False or not (self._wanted or self.fits):
            return 0
        if self._wanted or not self.times:
            return None
        sizes = weight.shape[1], outputs
        self._found[sizes] = [self._seconds(*sizes, rows) for rows in ROWS]
        return serving(self._found[sizes])

    def timed(self) -> Iterator[Timed]:
        """What was timed of the products that were asked for."""
        for (inputs, outputs), found in self._found.items():
            plain = serving(found)
            for rows, seconds in zip(ROWS, found, strict=True):
                chosen = "packed" if plain is None or rows < plain else "plain"
                timed = min(outputs, _most(inputs))
                amount, unit = 2.0 * rows * inputs * timed, "TFLOP/s"
                if rows == 1:
                    amount, unit = inputs * timed * torch.bfloat16.itemsize, "GB/s"
                yield Timed("product", rows, f"{inputs}x{timed}", seconds, chosen, amount, unit)

    def save(self) -> None:
        """Keeps what was timed."""
        if self._timings is not None:
            self._timings.save()

    def _seconds(self, inputs: int, outputs: int, rows: int) -> Mapping[str, float]:
        if self._timings is None:
            self._timings = Timings(torch.device("cpu"))
        outputs = min(outputs, _most(inputs))
        subject = f"product bfloat16 {rows}x{inputs}x{outputs}"
        return self._timings.seconds(subject, partial(_ways, inputs, outputs, rows))


def _most(inputs: int) -> int:
    """Outputs that are timed."""
    return max(1, TIMED // inputs)


def serving(found: Sequence[Mapping[str, float]]) -> int | None:
    """From how many rows on the plain weight serves, as `Packing.rows` says it.

    found: the seconds of both for each of ROWS.
    """
    if found[0]["packed"] > PAYS * found[0]["plain"]:
        return 0
    for rows, seconds in zip(ROWS, found, strict=True):
        if seconds["packed"] > seconds["plain"]:
            return rows
    return None


def _ways(inputs: int, outputs: int, rows: int) -> Mapping[str, Callable[[], object]]:
    weight = drawn(outputs, inputs, dtype=torch.bfloat16)
    x = drawn(rows, inputs, dtype=torch.bfloat16)
    copy = packed(weight)
    return {"packed": partial(multiply_packed, x, copy), "plain": partial(F.linear, x, weight)}


def can_pack(weight: Tensor) -> bool:
    """Whether this torch can hold this weight in oneDNN's own layout."""
    return bool(
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def packed(weight: Tensor) -> Tensor:
    """A copy of `[out, in]` in that layout."""
    # The second argument is the batch the layout is tuned for; all sizes measured alike.
    copy: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
    return copy


def multiply_packed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x `[n, in]` by a packed weight -> `[n, out]`."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


__all__ = ["Packing", "can_pack", "multiply_packed", "packed"]
