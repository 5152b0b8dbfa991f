"""Training with logits that grow with the position, which no config of transformers can say.

transformers calls attention by a name in its config. The name is ours while a batch goes through
the model, so saved configs, growth and whatever else looks at it find the model's own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lengthwise.engine.kv_cache.query_scale import QueryScale
from lengthwise.training.config import TrainingError

NAME = "lengthwise_scaled"
_SCALE = "lengthwise_query_scale"


def attach_scale(model: nn.Module, scale: QueryScale) -> None:
    """From now on each forward of a model has its queries multiplied by `scale`.

    Raises TrainingError for a model whose attention is not transformers' SDPA.
    """
    config: Any = model.config
    if config._attn_implementation != "sdpa":
        raise TrainingError(
            f"[positions] logits by position go with model.attention='sdpa' and not "
            f"{config._attn_implementation!r}: leave model.attention out"
        )
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    for module in model.modules():
        if hasattr(module, "layer_idx"):
            setattr(module, _SCALE, scale)

    def before(*_: Any) -> None:
        config._attn_implementation = NAME

    def after(*_: Any) -> None:
        config._attn_implementation = "sdpa"

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after, always_call=True)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    **info: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' SDPA of scaled queries `[rows, heads, length, dim]`; layers with a window of
    their own and those before the first keep theirs."""
    scale: QueryScale = getattr(module, _SCALE)
    if module.layer_idx >= scale.first and info.get("sliding_window") is None:
        positions = info.get("position_ids")
        if positions is None:
            raise TrainingError(
                f"family {module.config.model_type!r} does not tell its attention where tokens "
                "stand, so logits cannot grow with the position: take another family, such as llama"
            )
        factor = scale.factor(positions).to(query.dtype)
        query = query * factor[:, None, :, None]
    found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **info)
    return found, None
