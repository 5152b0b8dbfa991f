"""Models whose linear layers hold their weights in 8 or 4 bits (`low_bit.py`).

`quantise(model, "int4")` puts a `LowBitLinear` in the place of every linear layer. What it gives is
a model like any other: the same modules around it, its own logits, and stock transformers runs it.
Activations keep their dtype ("weight only").
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lengthwise._utils.saying import say_once
from lengthwise._utils.suggestions import closest
from lengthwise._utils.timings import Timed, Timings, drawn, timing
from lengthwise.errors import LengthwiseError, ModelError
from lengthwise.models.low_bit import DTYPES, FORMATS, GROUPS, LowBit, low_bit

# Rows that are timed: a token, a tree, a chunk.
ROWS = (1, 16, 128, 1024)
# Rows from which on weights are widened where nothing is timed.
MANY = 32
# Layers with fewer outputs, such as the router of experts, stay as they are: they weigh nothing.
FEWEST = 64
# Larger weights are timed by a part of their outputs.
TIMED = 1 << 24
# The weight of a layer, by its name, where it is known in fewer bits already; else None.
Held = Callable[[str], LowBit | None]


class LowBitLinear(nn.Module):
    """`nn.Linear` over a weight in 8 or 4 bits, for inference: it has no gradient.

    format: of `low_bit.FORMATS`. rows: from how many rows on the weight is widened; None is never.
    timed: by what that was decided.
    """

    def __init__(self, weight: LowBit, bias: Tensor | None) -> None:
        super().__init__()
        self.format = weight.name
        self.in_features, self.out_features = weight.inputs, weight.outputs
        self.data: Tensor
        self.scale: Tensor
        self.bias: Tensor | None
        self.register_buffer("data", weight.data)
        self.register_buffer("scale", weight.scale)
        held = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_parameter("bias", held)
        self.rows: int | None = MANY if weight.serves else 0
        self.timed: tuple[Timed, ...] = ()

    def low_bit(self) -> LowBit:
        """The weight as it is held."""
        return LowBit(self.format, self.data, self.scale, self.in_features, self.out_features)

    @property
    def weight(self) -> Tensor:
        """The weight `[out, in]`, widened now."""
        return self.low_bit().widen()

    def forward(self, x: Tensor) -> Tensor:
        """x `[..., in]` -> `[..., out]`.

        Args:
            x: in the dtype of the model.
        """
        flat = x.reshape(-1, self.in_features)
        out = multiplication(self.low_bit(), self.rows, self.bias)(flat)
        return out.view(*x.shape[:-1], self.out_features)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LowBitLinear:
        there = fn(torch.empty(0, device=self.data.device)).device
        if self.format == "int4" and there.type != self.data.device.type:
            raise LengthwiseError(
                f"int4 weights are packed for {self.data.device.type}: they cannot be moved to "
                f"{there.type}; load the model with device={there.type!r}"
            )
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.format}"


def multiplication(
    weight: LowBit, rows: int | None, bias: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """x `[n, in]` -> `[n, out]`, read small for fewer than `rows` rows and widened for more.

    Args:
        weight: what is multiplied by.
        rows: None reads it small for any number.
        bias: `[out]`, added.
    """

    direct, widened = weight.direct, weight.widened
    few = sys.maxsize if rows is None else rows

    def multiply(x: Tensor) -> Tensor:
        out = direct(x) if x.shape[0] < few else widened(x)
        return out if bias is None else out + bias

    return multiply


def require_format(weights: str | None) -> None:
    """Raises LengthwiseError for a format of weights that there is not."""
    if weights is None or weights in FORMATS:
        return
    near = closest(weights, FORMATS) if isinstance(weights, str) else None
    raise LengthwiseError(
        f"weights={weights!r}: weights are held as {' or '.join(FORMATS)}, or as they come (None)"
        + (f"; did you mean {near}?" if near else "")
    )


@torch.no_grad()
def quantise(
    model: PreTrainedModel, weights: str, device: torch.device | None = None,
    held: Held | None = None,
) -> None:  # fmt: skip
    """Holds the weights of a model's linear layers in 8 or 4 bits from now on.

    The layer that gives the logits is held in 8 bits in any case: it is one layer of many, and in 4
    bits costs more quality than all others together. Embeddings and norms stay as they are.

    Args:
        model: changed in place, layer by layer, so that what is replaced is freed.
        weights: of `low_bit.FORMATS`.
        device: where these layers are to be; None leaves them where they are. How int4 is packed
            hangs on it.
        held: what is known in fewer bits already; each is asked for when it is that layer's turn.

    Raises:
        LengthwiseError: for a format that there is not.
        ModelError: for a model of another dtype, or one that has no such layers.
    """
    require_format(weights)
    if model.dtype not in DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise ModelError(f"weights={weights!r} of a model in {model.dtype}: there are {allowed}")
    head = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if is_linear(module)]
    if not names and not any(low_bit_layers(model)):
        raise ModelError(
            f"weights={weights!r}: this {model.config.model_type} has no linear layers that can be "
            "held in fewer bits; load it without"
        )
    for name in names:
        layer = model.get_submodule(name)
        small = "int8" if layer is head else weights
        known = None if held is None else held(name)
        weight = known or low_bit(matrix(layer).to(device), small)
        model.set_submodule(name, LowBitLinear(weight, _bias(layer)))
    model.config.tie_word_embeddings = False
    _say_what_differs(model, weights)
    time_rows(model)


def _say_what_differs(model: PreTrainedModel, weights: str) -> None:
    """Says, once, where layers are not what was asked for, or no faster for it."""
    head, layers = model.get_output_embeddings(), list(low_bit_layers(model))
    other = sum(layer.format != weights for layer in layers if layer is not head)
    if other:
        say_once(
            f"{other} of {len(layers)} linear layers are held in int8: int4 wants inputs that "
            f"{', '.join(map(str, GROUPS[:-1]))} or {GROUPS[-1]} divides"
        )
    if slow := {layer.format for layer in layers if not layer.low_bit().serves}:
        say_once(
            f"PyTorch has no operator for {' and '.join(sorted(slow))} weights in "
            f"{str(model.dtype).removeprefix('torch.')} on {layers[0].data.device.type}: they are "
            "widened for each product, which saves memory and no time"
        )


def is_linear(module: nn.Module) -> bool:
    """Whether a layer is one of those that are held in fewer bits."""
    return type(module) in (nn.Linear, Conv1D) and len(matrix(module)) >= FEWEST


def transposed(layer: nn.Module) -> bool:
    """Whether a layer holds its weight as `[in, out]` (gpt2)."""
    return isinstance(layer, Conv1D)


def matrix(layer: nn.Module) -> Tensor:
    """The weight `[out, in]`."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.t() if transposed(layer) else weight


def _bias(layer: nn.Module) -> Tensor | None:
    bias = layer.bias
    assert bias is None or isinstance(bias, Tensor)
    return bias


def numbers(model: nn.Module) -> int:
    """Weights of a model, in however many bits they are held."""
    small = sum(layer.in_features * layer.out_features for layer in low_bit_layers(model))
    return sum(weight.numel() for weight in model.parameters()) + small


def format_of(model: nn.Module) -> str | None:
    """The format that `quantise` gave the layers of a model, as far as they could have it."""
    found = {layer.format for layer in low_bit_layers(model)}
    return min(found) if found else None


def low_bit_layers(model: nn.Module) -> Iterator[LowBitLinear]:
    """The layers of a model that hold their weights in fewer bits."""
    return (module for module in model.modules() if isinstance(module, LowBitLinear))


def time_rows(model: nn.Module) -> None:
    """Times for each size of such layers from how many rows on it serves to widen the weight.

    Args:
        model: a model without such layers is left as it is.
    """
    layers = [layer for layer in low_bit_layers(model) if layer.low_bit().serves]
    if not layers or not timing():
        return
    timings = Timings(layers[0].data.device)
    for layer in layers:
        layer.timed = tuple(_timed(layer, timings))
        layer.rows = _crossing(layer.timed)
    timings.save()


def _crossing(timed: Sequence[Timed]) -> int | None:
    """From how many rows on the widened weight is faster, on the line between those timed."""
    gains = [each.seconds["direct"] - each.seconds["widened"] for each in timed]
    before, rows = gains[0], timed[0].rows
    for gain, each in zip(gains, timed, strict=True):
        if gain > 0:
            return rows + round((each.rows - rows) * -before / (gain - before)) if before < 0 else 0
        before, rows = gain, each.rows
    return None


def timed_layers(model: nn.Module) -> Iterator[Timed]:
    """What was timed of a model's layers, each size once."""
    seen = {(each.over, each.rows): each for layer in low_bit_layers(model) for each in layer.timed}
    return iter(seen.values())


def _timed(layer: LowBitLinear, timings: Timings) -> Iterator[Timed]:
    """Products of a layer of this size, for ROWS."""
    inputs, dtype = layer.in_features, layer.scale.dtype
    outputs = min(layer.out_features, max(1, TIMED // inputs))
    bits = 8 if layer.format == "int8" else 4
    for rows in ROWS:
        kind = f"{layer.format} {str(dtype).removeprefix('torch.')}"
        make = partial(_ways, layer.format, inputs, outputs, rows, dtype, layer.data.device)
        seconds = timings.seconds(f"product {kind} {rows}x{inputs}x{outputs}", make)
        chosen = min(seconds, key=lambda name: seconds[name])
        amount, unit = 2.0 * rows * inputs * outputs, "TFLOP/s"
        if rows == 1:
            amount, unit = inputs * outputs * bits / 8, "GB/s"
        over = f"{inputs}x{outputs} {layer.format}"
        yield Timed("product", rows, over, seconds, chosen, amount, unit)


def _ways(
    name: str, inputs: int, outputs: int, rows: int, dtype: torch.dtype, device: torch.device
) -> Mapping[str, Callable[[], object]]:
    weight = low_bit(drawn(outputs, inputs, dtype=dtype).to(device), name)
    x = drawn(rows, inputs, dtype=dtype).to(device)
    return {"direct": partial(weight.direct, x), "widened": partial(weight.widened, x)}


__all__ = [
    "Held", "LowBitLinear", "format_of", "is_linear", "low_bit_layers", "matrix", "multiplication",
    "numbers", "quantise", "require_format", "time_rows", "timed_layers", "transposed",
]  # fmt: skip
