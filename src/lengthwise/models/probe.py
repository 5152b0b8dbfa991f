"""What a model does, learned by asking it rather than by knowing its name.

Four forwards of a few tokens tell of every layer: its heads, its scaling, its window, and how cos
and sin enter each channel. Attention is stubbed out, so that hidden states do not depend on it. A
last pair of forwards compares logits with the stock model; a family that differs is refused with
the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lengthwise.architectures import MODEL_TYPES
from lengthwise.errors import UnsuitableModel, UnsupportedModel
from lengthwise.models import attention_hook, obstacles
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import RotaryLayout

TOKENS = 8
# Far enough that no trained window reaches back to the first key.
FAR = 1 << 20
# What the first probing mask is filled with; no mask of a model holds it, and any dtype does.
FIRST_MASK = 8
RECURRENT = ("linear", "mamba", "recurrent", "conv", "hybrid", "deltanet")


@dataclass(eq=False)
class _Seen:
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    info: dict[str, Any]


class _Windows:
    """Makes masks that say which window they were made for. A number that tells it fills them, as
    masks that go to another device arrive as copies."""

    def __init__(self) -> None:
        self._found: list[int | None] = []

    def mask(self, *_: Any, mask_function: Callable[..., Any], q_length: int, kv_length: int,
             device: Any = None, **__: Any) -> Tensor:  # fmt: skip
        """A mask for the window that is found by asking the family's own function."""
        keys = torch.arange(FAR + 1, device=device)
        zero = torch.zeros((), dtype=torch.long, device=device)
        visible = mask_function(zero, zero, torch.tensor(FAR, device=device), keys)
        visible = torch.as_tensor(visible, device=device).expand(FAR + 1)
        count = int(visible.sum())
        contiguous = bool(visible[FAR + 1 - count :].all())
        self._found.append((None if count == FAR + 1 else count) if contiguous else -1)
        number = float(FIRST_MASK + len(self._found) - 1)
        return torch.full((1, 1, q_length, kv_length), number, device=device)

    def of(self, mask: Any) -> tuple[bool, int | None]:
        """Whether a mask is one of these, and its window; -1 is a mask that is no window."""
        if not isinstance(mask, Tensor) or not mask.is_floating_point():
            return False, None
        number = int(mask.flatten()[0].nan_to_num(0.0, 0.0, 0.0)) - FIRST_MASK
        known = 0 <= number < len(self._found) and bool((mask == number + FIRST_MASK).all())
        return known, self._found[number] if known else None


def refuse_by_config(model: PreTrainedModel) -> None:
    """Refuses what can be told without running the model."""
    config = model.config.get_text_config()
    family = config.model_type
    if family in MODEL_TYPES:
        raise UnsuitableModel(
            family,
            "its attention is no plain softmax, and recipes are ways to compute that one",
            "read it by transformers, after lengthwise.architectures.register(), and train it by "
            "`lengthwise train`; for recipes take a family such as llama",
        )
    types = set(getattr(config, "layer_types", None) or ())
    recurrent = sorted(t for t in types if any(word in t for word in RECURRENT))
    if recurrent:
        raise UnsupportedModel(
            family, f"its {', '.join(recurrent)} layers keep a state that is not keys and values"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModel(family, "it is an encoder-decoder; only causal models are adapted")
    if getattr(config, "num_kv_shared_layers", 0):
        raise UnsupportedModel(family, "its later layers read the keys of earlier ones")
    if any("chunked" in t for t in types):
        raise UnsupportedModel(family, "its layers attend in chunks, which are not windows")


def layer_facts(model: PreTrainedModel) -> list[LayerFacts]:
    """Asks the model; raises UnsupportedModel with the reason where it cannot be adapted."""
    refuse_by_config(model)
    family = model.config.get_text_config().model_type
    modules = attention_hook.rotary_modules(model)
    if len(modules) > 1:
        raise UnsupportedModel(family, "it has several rotary modules")
    windows = _Windows()
    one = _run(model, lambda c: (torch.ones_like(c), torch.zeros_like(c)), windows.mask)
    if not one:
        raise UnsupportedModel(family, "it does not use the attention interface of transformers")
    swap = _run(model, lambda c: (torch.zeros_like(c), torch.ones_like(c)))
    ramp = [
        _run(model, lambda c: (_ramp(c), torch.zeros_like(c))),
        _run(model, lambda c: (torch.zeros_like(c), _ramp(c))),
    ]
    wanted = model.config.get_text_config().num_hidden_layers
    if len(one) != wanted or len({id(s.module) for s in one}) != wanted:
        raise UnsupportedModel(
            family, f"{len(one)} of its {wanted} layers use the attention interface"
        )
    facts: list[LayerFacts] = []
    typed = bool(modules) and _takes_layer_type(modules[0])
    for index, seen in enumerate(one):
        layout = None
        if modules:
            layout = _rotary_layout(
                family, seen.query, swap[index].query, *(r[index].query for r in ramp)
            )
            layout = _shared(layout, facts)
        facts.append(_facts(family, index, seen, layout, typed, windows))
    return facts


def _takes_layer_type(module: nn.Module) -> bool:
    """Whether a rotary module is told which type of layer asks."""
    return "layer_type" in inspect.signature(type(module).forward).parameters


def _ramp(like: Tensor) -> Tensor:
    """Distinct exact numbers along the last dimension: 1, 2, 3, ..."""
    return torch.arange(1, like.shape[-1] + 1, dtype=like.dtype, device=like.device).expand_as(like)


def _run(
    model: PreTrainedModel,
    values: Callable[[Tensor], tuple[Tensor, Tensor]],
    mask: Callable[..., Tensor] | None = None,
) -> list[_Seen]:
    seen: list[_Seen] = []

    def handler(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **info: Any
    ) -> Tensor:
        seen.append(_Seen(module, query[0], key[0], value[0], info))
        # The mean value: an output that depends on neither queries nor keys.
        groups = query.shape[1] // value.shape[1]
        mean = value.repeat_interleave(groups, 1).mean(2, keepdim=True)
        return mean.expand(-1, -1, query.shape[2], -1).transpose(1, 2)

    def rotary(original: attention_hook.RotaryForward) -> attention_hook.RotaryForward:
        def forward(x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
            result = original(x, position_ids, *args, **kwargs)
            if not isinstance(result, tuple) or result[0].is_complex() or result[0].dim() != 3:
                raise UnsupportedModel(family, "its rotary module does not give cos and sin")
            return values(result[0])

        return forward

    family = model.config.get_text_config().model_type
    config = model.config.get_text_config()
    device = obstacles.device_of(model)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, config.vocab_size, (1, TOKENS), generator=generator).to(device)
    cache = attention_hook.PassThroughCache(config.num_hidden_layers)
    positions = torch.arange(TOKENS, device=device)[None]
    try:
        with attention_hook.engaged(model, handler, rotary, mask), torch.no_grad():
            model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)
    except UnsupportedModel:
        raise
    except Exception as error:
        raise UnsupportedModel(
            family, f"its forward fails under the attention hook ({type(error).__name__}: {error})"
        ) from error
    return seen


def _rotary_layout(
    family: str, one: Tensor, swap: Tensor, cos_ramp: Tensor, sin_ramp: Tensor
) -> RotaryLayout | None:
    """Solves for the rotation from queries `[heads, n, head_dim]` under chosen cos and sin.

    With y1 at cos=1, sin=0: y(cos, sin)[d] = cos[c(d)] y1[d] + s(d) sin[m(d)] y1[partner(d)].
    """
    flat, swapped = (x.float().reshape(-1, x.shape[-1]) for x in (one, swap))
    by_cos, by_sin = (x.float().reshape(-1, x.shape[-1]) for x in (cos_ramp, sin_ramp))
    size = flat.shape[-1]
    scale = flat.abs().max().clamp_min(1e-20)
    fixed = (by_cos - flat).abs().amax(0) + (swapped - flat).abs().amax(0) <= 1e-6 * scale
    if bool(fixed.all()):
        return None
    # distances[d, e]: how far the swapped channel d is from plus or minus channel e.
    plus = (swapped.T[:, None] - flat.T[None]).abs().amax(-1)
    minus = (swapped.T[:, None] + flat.T[None]).abs().amax(-1)
    best = torch.minimum(plus, minus)
    partner = best.argmin(1)
    here = torch.arange(size, device=flat.device)
    sign = torch.where(plus[here, partner] <= minus[here, partner], 1.0, -1.0)
    columns = torch.arange(1, size + 1, device=flat.device).float()
    cos_of = _column(by_cos, flat, columns)
    sin_of = _column(by_sin, sign * flat[:, partner], columns)
    sign = torch.where(fixed, 0.0, sign)
    error = torch.where(fixed, 0.0, best[here, partner]).max() / scale
    if float(error) > 2e-2:
        raise UnsupportedModel(
            family,
            "its queries are changed after rotation (a norm after RoPE, say), so keys cannot be "
            "kept un-rotated",
        )
    partner = torch.where(fixed, here, partner)
    half = size // 2
    halves = size % 2 == 0 and torch.equal(partner, (here + half) % size)
    return RotaryLayout(partner, sign, cos_of, sin_of, halves)


def _column(scaled: Tensor, base: Tensor, columns: Tensor) -> Tensor:
    """For each channel the column c whose value c makes base * c nearest to scaled."""
    ratio = (scaled * base).sum(0) / base.square().sum(0).clamp_min(1e-20)
    return (ratio[:, None] - columns[None]).abs().argmin(1)


def _shared(layout: RotaryLayout | None, facts: list[LayerFacts]) -> RotaryLayout | None:
    """The equal layout of an earlier layer where there is one, so that tables are shared."""
    for fact in facts:
        other = fact.layout
        if layout is not None and other is not None and _equal(layout, other):
            return other
    return layout


def _equal(a: RotaryLayout, b: RotaryLayout) -> bool:
    alike = a.partner.shape == b.partner.shape and a.partner.device == b.partner.device
    return alike and all(
        torch.equal(x, y)
        for x, y in (
            (a.partner, b.partner),
            (a.sign, b.sign),
            (torch.where(a.rotated, a.cos_of, 0), torch.where(b.rotated, b.cos_of, 0)),
            (torch.where(a.rotated, a.sin_of, 0), torch.where(b.rotated, b.sin_of, 0)),
        )
    )


def _facts(
    family: str, index: int, seen: _Seen, layout: RotaryLayout | None, typed: bool,
    windows: _Windows,
) -> LayerFacts:  # fmt: skip
    config = getattr(seen.module, "config", None)
    types = getattr(config, "layer_types", None)
    declared = seen.info.get("sliding_window")
    known, window = windows.of(seen.info.get("attention_mask"))
    if window == -1:
        raise UnsupportedModel(family, f"layer {index} has a mask that is not a window")
    sliding = types is not None and types[index] == "sliding_attention"
    if not known:
        window = declared or (getattr(config, "sliding_window", None) if sliding else None)
    if sliding and window is None:
        raise UnsupportedModel(family, f"the window of its sliding layer {index} cannot be found")
    scaling = seen.info.get("scaling")
    sinks = seen.info.get("s_aux")
    head_dim = seen.query.shape[-1]
    return LayerFacts(
        index=index,
        num_heads=seen.query.shape[0],
        num_kv_heads=seen.key.shape[0],
        head_dim=head_dim,
        value_dim=seen.value.shape[-1],
        scaling=head_dim**-0.5 if scaling is None else float(scaling),
        softcap=seen.info.get("softcap"),
        sinks=None if sinks is None else sinks.detach(),
        window=window,
        layer_type=types[index] if types is not None else None,
        layout=layout,
        rotary_type=types[index] if typed and types is not None else None,
        device=seen.query.device,
    )
