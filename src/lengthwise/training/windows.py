"""Training under the windows of a recipe: the `[retention]` of a run.

LongGen turns a model into one whose outer layers keep first and latest tokens while it trains it.
A run is given that as a recipe is. transformers calls attention by a name in its config, which is
ours while a batch goes through the model; a layer with a window then masks what it would not keep.

    query i sees key j <= i of its document where  place of j < sinks  or  i - window < j

Masks save no time: what they hide is multiplied all the same. The trained model is read by the
recipe, since no config of transformers says such windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lengthwise.engine.kv_cache.head_policy import First, HeadPolicy
from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Question
from lengthwise.recipes.registry import find
from lengthwise.training.positions import configured

NAME = "lengthwise_windows"
_WINDOW = "lengthwise_window"


@dataclass(frozen=True)
class Window:
    """What a layer keeps: the first tokens of a document, and the latest ones."""

    sinks: int
    recent: int

    def seen(self, places: Tensor, count: int) -> Tensor:
        """Whether a query's layer keeps a key, bool `[rows, 1, n, n]`, the future included.

        Args:
            places: of the keys in their documents, int64 `[rows, n]`.
            count: n.
        """
        order = torch.arange(count, device=places.device)
        near: Tensor = order[:, None] - order < self.recent
        return near | (places < self.sinks)[:, None, None]


def window_method(name: str, settings: dict[str, Any]) -> Method:
    """The method of a `[retention]` table. Raises RecipeError where it is none, or gives no layer
    a window from the first token on."""
    cls = find(name)
    if cls.question != Question.RETENTION or cls.head_table is Method.head_table:
        raise Refused(
            f"{name} gives layers no window from the first token on, so weights cannot be trained "
            "with it",
            "train with longgen, and use it when the model reads",
        )
    return configured(cls, settings)


def windows_of(config: Any, method: Method) -> dict[int, Window]:
    """The windows that a method gives the layers of a model, by their index.

    Raises Refused where they are not windows of whole layers.
    """
    model = cast(Any, SimpleNamespace(family=config.model_type, layers=_layers(config)))
    try:
        method.check(model)
        table = method.head_table(model) or {}
        return {index: _window(*policies) for index, policies in table.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise Refused(
            f"{method} divides the heads of a layer or asks more of a model than its layers",
            "train with longgen, whose windows are those of whole layers",
        ) from error


def _layers(config: Any) -> list[SimpleNamespace]:
    """Which layers have a window of the model's own, or none that could be given one."""
    count, own = int(config.num_hidden_layers), getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kinds = ["sliding_attention" if own else "full_attention"] * count
    return [
        SimpleNamespace(index=n, window=None if kind == "full_attention" else own or 1)
        for n, kind in enumerate(kinds)
    ]


def _window(policy: HeadPolicy) -> Window:
    """Raises ValueError for heads, and for tokens that move."""
    place = policy.placement
    if policy.heads is not None or place is None or place.window is None:
        raise ValueError(policy)
    if not place.far_is_ordinary or not (place.keep_far is None or type(place.keep_far) is First):
        raise ValueError(policy)
    first = place.keep_far
    return Window(first.count if isinstance(first, First) else 0, place.window)


def attach_windows(model: nn.Module, method: Method) -> None:
    """From now on layers of a model see what `method` would keep.

    Raises Refused for a model whose attention is not transformers' SDPA, or does not go by its
    interface.
    """
    config: Any = model.config
    if config._attn_implementation != "sdpa":
        raise Refused(
            f"windows go with model.attention='sdpa' and not {config._attn_implementation!r}",
            "leave model.attention out",
        )
    windows = windows_of(config.get_text_config(), method)
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    called: set[int] = set()
    for module in model.modules():
        if (index := getattr(module, "layer_idx", None)) is not None:
            setattr(module, _WINDOW, (windows.get(index), called))

    def before(*_: Any) -> None:
        config._attn_implementation = NAME

    def after(*_: Any) -> None:
        config._attn_implementation = "sdpa"

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after, always_call=True)
    with torch.no_grad():
        device = next(model.parameters()).device
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device), use_cache=False)
    if missing := sorted(set(windows) - called):
        raise Refused(
            f"family {config.model_type!r} does not call attention by the interface of "
            f"transformers in layer {missing[0]}",
            "take another family, such as llama",
        )


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    **info: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' SDPA of queries `[rows, heads, length, dim]` under the layer's window."""
    window, called = getattr(module, _WINDOW)
    called.add(module.layer_idx)
    rows, _, count, _ = query.shape
    if window is not None and count > window.recent:
        order = torch.arange(count, device=query.device)
        causal = order[:, None] >= order
        places = info.get("position_ids")
        if places is None:
            if attention_mask is not None:
                raise Refused(
                    f"family {module.config.model_type!r} does not tell its attention where tokens "
                    "stand",
                    "take another family, such as llama, or rows of one document",
                )
            places = order[None]
        seen = causal if attention_mask is None else attention_mask
        attention_mask = (seen & window.seen(places, count)).expand(rows, -1, -1, -1)
    found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **info)
    return found, None


__all__ = ["Window", "attach_windows", "window_method", "windows_of"]
