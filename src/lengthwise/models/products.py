"""Products of a token with weights, made ready once, that know when they are no longer the model's.

On a CPU in bfloat16 weights may be reordered into oneDNN's blocked layout, where that was timed to
pay (`packing.py`). The packed copy lives beside the originals, which the model keeps for its own
use. Elsewhere several weights that read the same input are joined: the joined
tensor takes the place of the originals, which become views of it. A single one is used as it is,
and so are several that lie in memory which is not theirs alone (an optimiser's flat buffer, say).

What is a view or the weight itself follows every write. A copy does not, so its originals are
watched. Each forward looks where they lie and how often torch counted a write (`current`). Writes
through `.data` and to tensors made in inference mode are not counted, so each text compares sums
over what they hold (`written`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from lengthwise.models.low_bit import LowBit, join
from lengthwise.models.packing import Packing, packed
from lengthwise.models.quantised import LowBitLinear, multiplication

# A weight or bias, where it lay, and how often it had been written to (None: writes are seen).
Stamp = tuple[Tensor, int, int | None]


class Product(Protocol):
    """x `[n, in]` -> `[n, sum of out]`: several linear layers that read the same input, as one.

    multiply: does it, in one call wherever the layers could be made one. packed: whether it holds a
    copy of its weights. stamps: where the weights lay.
    """

    multiply: Callable[[Tensor], Tensor]
    packed: bool
    stamps: list[Stamp]

    def current(self) -> bool:
        """Whether the weights lie where they lay, unwritten as far as torch counts."""
        ...

    def written(self) -> bool:
        """Whether a copy no longer holds what its originals do."""
        ...

    def release(self) -> None:
        """Gives the linear layers memory of their own again, where they still have ours."""
        ...


class WideProduct:
    """x `[n, in]` -> `[n, sum of out]`: several linear layers that read the same input, as one.

    rows: from how many rows on a packed copy does not serve; 0 is no copy, None a copy for all.
    """

    def __init__(self, *linears: nn.Linear, rows: int | None = 0) -> None:
        weights = [linear.weight for linear in linears]
        biases = [linear.bias for linear in linears if linear.bias is not None]
        self.packed = rows != 0
        self._rows = rows
        self._held = [*weights, *biases]
        self._joined = not self.packed and len(linears) > 1 and all(map(_alone, self._held))
        self._apart = [(linear.weight, linear.bias) for linear in linears]
        self._weight: Tensor = weights[0]
        self._bias: Tensor | None = biases[0] if biases else None
        self._sums: list[Tensor] = []
        self.stamps: list[Stamp] = []
        if self.packed:
            # Noted first, so that what is written while it is copied counts as written later.
            self.stamps = [(t, t.data_ptr(), _writes(t)) for t in self._held]
            self._sums = [_sums(tensor) for tensor in self._held]
            self._weight = packed(torch.cat([weight.data for weight in weights]))
            self._bias = torch.cat([bias.data for bias in biases]) if biases else None
        elif self._joined:
            self._weight = _join(weights)
            self._bias = _join(biases) if biases else None
            self.stamps = [(t, t.data_ptr(), None) for t in self._held]
        self.multiply = self._multiplication()

    def _multiplication(self) -> Callable[[Tensor], Tensor]:
        weight, bias, rows = self._weight, self._bias, self._rows
        if not self.packed:
            joined = self._joined or len(self._apart) == 1
            return partial(F.linear, weight=weight, bias=bias) if joined else self._one_by_one
        copy = partial(
            torch.ops.mkldnn._linear_pointwise, W=weight, B=bias, attr="none", scalars=[],
            algorithm="",
        )  # fmt: skip
        if rows is None:
            return copy
        return lambda x: copy(x) if len(x) < rows else self._one_by_one(x)

    def _one_by_one(self, x: Tensor) -> Tensor:
        """By the weights of the layers themselves."""
        outs = [F.linear(x, *each) for each in self._apart]
        return outs[0] if len(outs) == 1 else torch.cat(outs, -1)

    def current(self) -> bool:
        """Whether the weights lie where they lay, unwritten as far as torch counts."""
        return unmoved(self.stamps)

    def written(self) -> bool:
        """Whether a copy no longer holds what its originals do. Reads all of them."""
        return any(
            not torch.equal(before, _sums(tensor))
            for before, tensor in zip(self._sums, self._held, strict=bool(self._sums))
        )

    def release(self) -> None:
        """Gives the linear layers memory of their own again, where they still have ours."""
        if self._joined:
            for tensor, place, _ in self.stamps:
                if tensor.data_ptr() == place:
                    tensor.data = tensor.data.clone()


class LowBitProduct:
    """The same of layers that hold their weights in fewer bits, which are joined where their forms
    allow it: the joined tensors take the place of the originals, which become views."""

    packed = False

    def __init__(self, *linears: LowBitLinear) -> None:
        self._linears = linears
        weights = [linear.low_bit() for linear in linears]
        whole = weights[0] if len(weights) == 1 else join(weights)
        self._joined = whole is not None and len(weights) > 1
        if whole is None:
            self.multiply: Callable[[Tensor], Tensor] = self._one_by_one
        else:
            if self._joined:
                _become_parts(linears, whole)
            biases = [linear.bias for linear in linears if linear.bias is not None]
            bias = torch.cat(biases) if biases else None
            self.multiply = multiplication(whole, linears[0].rows, bias)
        held = [t for linear in linears for t in (linear.data, linear.scale)]
        self.stamps: list[Stamp] = [(t, t.data_ptr(), None) for t in held]

    def _one_by_one(self, x: Tensor) -> Tensor:
        return torch.cat([linear(x) for linear in self._linears], -1)

    def current(self) -> bool:
        return unmoved(self.stamps)

    def written(self) -> bool:
        return False

    def release(self) -> None:
        if not self._joined:
            return
        places = {place for _, place, _ in self.stamps}
        for linear in self._linears:
            if {linear.data.data_ptr(), linear.scale.data_ptr()} <= places:
                linear.data, linear.scale = linear.data.clone(), linear.scale.clone()


def _become_parts(linears: Sequence[LowBitLinear], whole: LowBit) -> None:
    """Has layers hold their parts of joined tensors."""
    sizes = [linear.out_features for linear in linears]
    # Of int4 the scales are `[groups, out, 2]`.
    scales = whole.scale.split(sizes, whole.scale.dim() // 2)
    datas = whole.data.split([len(linear.data) for linear in linears])
    for linear, data, scale in zip(linears, datas, scales, strict=True):
        linear.data, linear.scale = data, scale


def product(*linears: nn.Linear | LowBitLinear, packing: Packing | None = None) -> Product:
    """The product of these layers; a model that shares their weights with another shares it too.

    A product holds its weights, so the numbers by which it is known are not given to others.
    packing: what is packed; None is nothing.
    """
    small = [linear for linear in linears if isinstance(linear, LowBitLinear)]
    wide = [linear for linear in linears if isinstance(linear, nn.Linear)]
    assert not small or not wide, "_eligible lets no layers of both kinds be one"
    if small:
        key: tuple[int | None, ...] = (-1, *map(id, small))
    else:
        outputs = sum(len(linear.weight) for linear in wide)
        rows = 0 if packing is None else packing.rows(wide[0].weight, outputs)
        tensors = [t for linear in wide for t in (linear.weight, linear.bias) if t is not None]
        key = (rows, *(id(tensor) for tensor in tensors))
    with MAKING:
        found = _PRODUCTS.get(key)
        if found is None or not found.current() or found.written():
            found = LowBitProduct(*small) if small else WideProduct(*wide, rows=rows)
            _PRODUCTS[key] = found
    return found


_PRODUCTS: WeakValueDictionary[tuple[int | None, ...], WideProduct | LowBitProduct] = (
    WeakValueDictionary()
)
# Joining moves weights that another thread may be about to join.
MAKING = threading.RLock()


def unmoved(stamps: list[Stamp]) -> bool:
    """Whether tensors lie where they did and were written to as often."""
    for tensor, place, writes in stamps:
        if tensor.data_ptr() != place or (writes is not None and tensor._version != writes):
            return False
    return True


def _writes(tensor: Tensor) -> int | None:
    """How often a tensor was written to, where that is counted."""
    return None if tensor.is_inference() else tensor._version


# Memory of our own, made for several weights, by where it lies: what has gone may lie there anew as
# somebody else's.
_JOINED: dict[int, StorageWeakRef] = {}


def _alone(tensor: Tensor) -> bool:
    """Whether a weight may be moved: nothing else lies in its memory, unless we put it there.

    Tensors made in inference mode cannot be, outside of it.
    """
    storage = tensor.untyped_storage()
    if tensor.is_inference():
        return False
    ours = _JOINED.get(storage.data_ptr())
    return storage.nbytes() == tensor.nbytes or (ours is not None and not ours.expired())


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor of all, whose parts they become."""
    whole = torch.cat([tensor.data for tensor in tensors])
    storage = whole.untyped_storage()
    _JOINED[storage.data_ptr()] = StorageWeakRef(storage)
    for tensor, view in zip(tensors, whole.split([len(t) for t in tensors]), strict=True):
        tensor.data = view
    return whole


def _sums(tensor: Tensor) -> Tensor:
    """Sums over the bits of each row, exact, by words as wide as its layout allows."""
    bits = tensor.detach()
    whole_words = bits.shape[-1] % 4 == 0 and bits.storage_offset() % 4 == 0
    wide = torch.int64 if bits.is_contiguous() and whole_words else torch.int16
    return bits.view(wide).sum(-1)
