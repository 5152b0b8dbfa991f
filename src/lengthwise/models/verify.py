"""Whether a model under our hook is the stock model, told from what rounding alone does to it.

Two comparisons, neither against a fixed constant that a deep model in 16 bits may rightly pass:

- **Logits of the whole model**, over all tokens and the whole vocabulary, are held against what
  rounding does to this very model. That is found twice: stock against stock with the inputs and
  outputs of every attention changed by their last bit, and its SDPA against its eager attention.
  This sees all that enters outside attention, such as learned positions.
- **What attention gives, layer by layer**, in float32 at least. Queries are scaled so that scores
  have a spread of a few units, in both alike. Then positions, masks, windows, caps, sinks and the
  order of heads show at their full size, whatever the weights are, and rounding does not. A model
  in 16 bits is cut to one layer of each kind for this, one at a time, and only that layer is held
  in float32.

Where a model changes its frequencies with the length, both are done within the switch, beyond it,
and within it once more. Stock passes turn with a private copy of the rotary module, so the user's
is not written to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lengthwise.errors import UnsuitableModel, UnsupportedModel
from lengthwise.models import attention_hook, obstacles, plain_attention
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.frequencies import first_state
from lengthwise.models.one_layer import in_float32, kinds
from lengthwise.models.sample import count_of, sample_ids

# Share of the spread of logits that is never held against a model, by dtype.
FLOOR = {torch.float64: 1e-5, torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}
# Times what rounding does.
MARGIN = 4.0
# Share of the spread of a layer's attention, in float32 with scores of a few units.
LAYER_TOLERANCE = 1e-4
FAR = 1e3
SPREAD = 3.0


@dataclass(frozen=True)
class Distance:
    """How far two sets of logits `[tokens, vocab]` are apart, as shares of the spread of the first.

    mean: of all differences; typical: the median token's mean; agreement: share of tokens with the
    same likeliest next one. Tokens whose logits the first has not finite are left out.
    """

    mean: float
    typical: float
    agreement: float

    @classmethod
    def of(cls, reference: Tensor, other: Tensor) -> Distance:
        finite = reference.isfinite().all(-1)
        first, second = reference[finite].float(), other[finite].float()
        spread = first.std().clamp_min(1e-6)
        # What is infinite or no number on one side alone is as far away as can be told.
        difference = ((first - second).abs() / spread).nan_to_num(FAR, FAR).clamp(max=FAR)
        same = (first.argmax(-1) == second.argmax(-1)).float().mean()
        return cls(float(difference.mean()), float(difference.mean(-1).median()), float(same))

    def within(self, noise: Distance, floor: float) -> bool:
        """Whether rounding that is known to do `noise` explains this."""
        # Single tokens may take another expert for a last bit, which the mean forgives only so far.
        return self.typical <= max(floor, MARGIN * noise.typical) and self.mean <= max(
            10 * floor, 2 * MARGIN * noise.mean
        )


@dataclass(frozen=True, eq=False)
class Reading:
    """Tokens int64 `[n]`, where they stand, and the stock model's logits with what rounding does to
    them."""

    ids: Tensor
    positions: Tensor
    stock: Tensor
    noise: Distance


@contextmanager
def precisely() -> Iterator[None]:
    """Products of float32 in float32, whatever shorter format the user lets them be done in."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Verifier:
    """Compares one model with itself; stock passes are run once and used for every comparison."""

    def __init__(self, adapted: AdaptedModel) -> None:
        self.adapted = adapted
        self.stock = Stock(adapted.model)
        self.floor = FLOOR.get(adapted.dtype, 1e-3)
        if obstacles.quantised(adapted.model):
            # Products are done in 16 bits or fewer, whatever dtype goes in: a last bit of what a
            # layer reads is lost in most of them, and costs one of theirs in some.
            self.floor = max(self.floor, FLOOR[torch.bfloat16])
        ids = sample_ids(adapted, count_of(adapted))
        here = torch.arange(len(ids), device=adapted.device)
        starts = [0] if adapted.switch is None else [0, adapted.switch, 0]
        self.readings = [self._read(ids, here + start) for start in starts]

    def _read(self, ids: Tensor, positions: Tensor) -> Reading:
        stock = self.stock.logits(ids, positions)
        # Single tokens may overflow in 16 bits; a request that chooses from them says so.
        if not bool(stock.isfinite().all(-1).any()):
            raise UnsuitableModel(
                self.adapted.family,
                "for every token of a plain text its own logits are not finite (NaN, or infinite) "
                f"in {str(self.adapted.dtype).removeprefix('torch.')}",
                "load it in bfloat16 or float32, or look at its weights",
            )
        found = [Distance.of(stock, other) for other in self.stock.rounded(ids, positions)]
        return Reading(ids, positions, stock, max(found, key=lambda noise: noise.typical))

    @precisely()
    def logits(self) -> str:
        """What is wrong with our logits; "" where rounding explains every difference."""
        for reading in self.readings:
            ours = self.adapted.forward(
                reading.ids, reading.positions,
                plain_attention.plain_attention(self.adapted, reading.positions),
            )  # fmt: skip
            found = Distance.of(reading.stock, ours)
            if not found.within(reading.noise, self.floor):
                return (
                    f"its logits under the attention hook differ from the stock model's by "
                    f"{found.typical:.2g} "
                    f"of their spread, where rounding explains {reading.noise.typical:.2g}, and "
                    f"{found.agreement:.0%} of tokens keep their likeliest successor"
                )
        return ""

    def layers(self) -> str:
        """What is wrong with the attention of any kind of layer; "" where it is the stock one."""
        adapted = self.adapted
        if adapted.dtype in (torch.float32, torch.float64):
            return self._attention(adapted, self.stock, [layer.index for layer in adapted.layers])
        for index in kinds(adapted):
            alone = in_float32(adapted, index)
            if alone is None:
                adapted.notes.append(
                    f"layers of this {adapted.family!r} model cannot be held in float32 one by one:"
                    " they were compared as a whole, in their own dtype"
                )
                return ""
            found = self._attention(alone, Stock(alone.model), [index])
            if found:
                return found
        return ""

    def _attention(self, adapted: AdaptedModel, stock: Stock, names: list[int]) -> str:
        for reading in self.readings:
            ids, positions = reading.ids, reading.positions.to(adapted.device)
            if adapted is not self.adapted:
                # A model of one layer has the tokens of this text alone.
                ids = torch.arange(len(ids), device=adapted.device)
            theirs = stock.attention(adapted, ids, positions)
            ours = our_attention(adapted, ids, positions, theirs)
            for name, seen, found in zip(names, theirs, ours, strict=True):
                error = apart(seen.out, found)
                rounding = 0.0 if seen.eager is None else apart(seen.out, seen.eager)
                if not error <= max(LAYER_TOLERANCE, MARGIN * rounding):
                    return (
                        f"the attention of its layer {name} differs from the stock model's by "
                        f"{error:.2g} of its spread in {found.dtype}"
                    ).replace("torch.", "")
        return ""


def apart(reference: Tensor, other: Tensor) -> float:
    """Difference of two outputs `[heads, n, value_dim]` at the worst token, as a share of the
    spread: what is beyond a window may be few tokens."""
    spread = reference.float().std().clamp_min(1e-12)
    return float(((other.float() - reference.float()).abs().mean((0, 2)) / spread).max())


def verify(adapted: AdaptedModel) -> Verifier:
    """Raises UnsupportedModel where a model under the attention hook is not the stock model."""
    with torch.no_grad(), precisely():
        verifier = Verifier(adapted)
        found = verifier.logits() or verifier.layers()
    if found:
        raise UnsupportedModel(
            adapted.family,
            f"{found}: positions or masks enter somewhere the attention hook does not reach",
        )
    if attention_hook.drops_softcap(adapted.model.config.get_text_config()):
        adapted.notes.append(
            "attention logits are capped as the configuration says; this model's own SDPA leaves "
            "the cap out: load it with attn_implementation='eager' to compare with stock"
        )
    return verifier


# The stock model, and what rounding does to it.


@dataclass(frozen=True, eq=False)
class Seen:
    """One layer's attention: what its queries were multiplied by, and what it gave: out `[heads, n,
    value_dim]`. eager: what the family's plain attention gives, where kernels may round."""

    scale: float
    out: Tensor
    eager: Tensor | None = None


Inside = Callable[..., Tensor]


class Stock:
    """A stock model that is run without being written to."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @property
    def _kernels_round(self) -> bool:
        """Whether attention may be computed in less than the dtype of what it is given."""
        own = self.model.config.get_text_config()._attn_implementation
        return own != "eager" and self.model.device.type != "cpu"

    @contextmanager
    def _engaged(self, handler: Inside, mask: Any = None) -> Iterator[None]:
        """Attention goes to handler, masks are the family's own, positions turn as in stock."""

        def rotary(reading: Any) -> attention_hook.RotaryForward:
            # A fresh copy for each pass: what one length leaves behind, the next must not meet.
            own = first_state(reading.__self__)
            found: attention_hook.RotaryForward = type(own).forward.__get__(own)
            return found

        with attention_hook.engaged(self.model, handler, rotary, mask or attention_hook.own_mask):
            yield

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        # Where a text begins at its beginning, the model counts by itself.
        where = {} if int(positions[0]) == 0 else {"position_ids": positions[None]}
        found: Tensor = self.model(input_ids=ids[None], use_cache=False, **where).logits[0]
        return found

    def logits(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits `[n, vocab]` of the model as it is."""
        moves = any(_moves(module) for module in attention_hook.rotary_modules(self.model))
        if not moves and not attention_hook.drops_softcap(self.model.config.get_text_config()):
            return self._run(ids, positions)  # Nothing of ours is in the way.
        with self._engaged(attention_hook.own_attention):
            return self._run(ids, positions)

    def rounded(self, ids: Tensor, positions: Tensor) -> list[Tensor]:
        """Logits of the same model computed otherwise."""
        with self._engaged(_shaken(torch.finfo(self.model.dtype).eps)):
            found = [self._run(ids, positions)]
        if self._kernels_round or self.model.dtype in (torch.float16, torch.bfloat16):
            with self._engaged(attention_hook.eager_attention, attention_hook.eager_mask):
                found.append(self._run(ids, positions))
        return found

    def attention(self, adapted: AdaptedModel, ids: Tensor, positions: Tensor) -> list[Seen]:
        """What each attention gives, its queries scaled; it goes on with that."""
        order = {id(module): index for index, module in enumerate(adapted._modules)}
        found: dict[int, Seen] = {}

        def handler(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **info: Any
        ) -> Tensor:
            index = order[id(module)]
            layer = adapted.layers[index]
            scale = _scale(query[0], key[0], layer.scaling, layer.softcap)
            out = attention_hook.own_attention(module, query * scale, key, value, **info)
            found[index] = Seen(scale, out[0].transpose(0, 1))
            return out

        def again(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **info: Any
        ) -> Tensor:
            index = order[id(module)]
            seen = found[index]
            out = attention_hook.eager_attention(module, query * seen.scale, key, value, **info)
            found[index] = replace(seen, eager=out[0].transpose(0, 1))
            return seen.out.transpose(0, 1)[None]

        with self._engaged(handler):
            self._run(ids, positions)
        if self._kernels_round:
            with self._engaged(again, attention_hook.eager_mask):
                self._run(ids, positions)
        return [found[index] for index in range(len(adapted.layers))]


def our_attention(
    adapted: AdaptedModel, ids: Tensor, positions: Tensor, stock: list[Seen]
) -> list[Tensor]:
    """What our attention gives `[heads, n, value_dim]` of the same queries, keys and values; the
    model goes on with what stock gave, so that every layer is met alone."""
    attention = plain_attention.plain_attention(adapted, positions)
    found: dict[int, Tensor] = {}

    def forced(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found[layer] = attention(layer, query * stock[layer].scale, key, value)
        return stock[layer].out

    adapted.forward(ids, positions, forced)
    return [found[index] for index in range(len(stock))]


def _scale(query: Tensor, key: Tensor, scaling: float, softcap: float | None) -> float:
    """What gives scores a spread of a few units, or of a good part of their cap."""
    groups = query.shape[0] // key.shape[0]
    scores = torch.matmul(query, key.repeat_interleave(groups, 0).transpose(1, 2)) * scaling
    wanted = SPREAD if softcap is None else max(SPREAD, softcap / 3)
    return wanted / max(float(scores.float().std()), 1e-6)


def _shaken(eps: float) -> Inside:
    """The family's attention, its inputs and outputs changed by at most their last bit."""
    generator = torch.Generator().manual_seed(2)

    def shake(x: Tensor) -> Tensor:
        noise = torch.rand(x.shape, generator=generator).mul_(2).sub_(1).to(x.device)
        return (x.float() * (1 + eps * noise)).to(x.dtype)

    def handler(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **info: Any) -> Any:
        return shake(
            attention_hook.own_attention(module, shake(query), shake(key), shake(value), **info)
        )

    return handler


def _moves(module: Any) -> bool:
    own = getattr(module, "rope_type", "default")
    kinds = own.values() if isinstance(own, dict) else [own]
    return any(kind == "longrope" or "dynamic" in kind for kind in kinds)


__all__ = ["Distance", "Verifier", "verify"]
