"""What the recipe did for a text: the figures beyond OpenAI's, in the field `lengthwise`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lengthwise.methods.retention.counting import plain_bytes

if TYPE_CHECKING:
    from lengthwise.api.generation import Generation
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.recipes import Recipe


def plain_kv_bytes(model: AdaptedModel, tokens: int) -> int:
    """Bytes of the keys and values of tokens under full attention.

    Args:
        model: whose layers hold them.
        tokens: how many were read.
    """
    return sum(
        plain_bytes(layer, model.dtype) * (tokens if layer.window is None
                                           else min(tokens, layer.window))
        for layer in model.layers
    )  # fmt: skip


def figures_of(generation: Generation, recipe: Recipe, model: AdaptedModel) -> dict[str, Any]:
    """The figures of a text.

    Args:
        generation: that is whole.
        recipe: which it was written under.
        model: that wrote it.

    Returns:
        Numbers, by name; seconds end in `_s`. `kept_tokens` is how many plain tokens take the
        bytes that are held. `ended` says why, where OpenAI's reasons are but two.
    """
    metrics = generation.metrics
    read = metrics.prompt_tokens + len(generation.token_ids)
    plain = plain_kv_bytes(model, read)
    # Beside keys and values there is an index of them, which counts as bytes and as no token.
    kept = min(read, round(read * metrics.kv_bytes / plain)) if plain else 0
    return {
        "recipe": str(recipe),
        "ended": metrics.finish_reason,
        "read_tokens": read,
        "kept_tokens": kept,
        "reused_tokens": metrics.reused_tokens,
        "kv_bytes": metrics.kv_bytes,
        "kv_peak_bytes": metrics.kv_peak_bytes,
        "plain_kv_bytes": plain,
        "ttft_s": metrics.ttft_s,
        "decode_s": metrics.decode_s,
        "decoded": metrics.decoded,
        "steps": metrics.steps,
        "tokens_per_step": metrics.accepted_per_step,
        "tokens_per_s": metrics.tokens_per_s,
        "drafted": metrics.drafted,
        "accepted": dict(metrics.accepted),
        "notes": list(metrics.notes),
    }
