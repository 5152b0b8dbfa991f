"""How far a model can read at all, and how far it was trained to.

Models with learned positions look them up in a table, and a token beyond its end cannot be read. No
list of families is needed: one short forward shows which embedding is asked for consecutive rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lengthwise.errors import Refused
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.plain_attention import plain_attention
from lengthwise.models.verify import FLOOR

_LIMITS: WeakKeyDictionary[AdaptedModel, int | None] = WeakKeyDictionary()
_EMBEDDINGS: WeakKeyDictionary[AdaptedModel, bool] = WeakKeyDictionary()


class _Lookups(TorchFunctionMode):
    """Notes every table that is asked for the rows c, c + 1, c + 2 ...: what is left after c."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.limits: list[int] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.nn.functional.embedding:
            self._note(args[1], args[0])
        elif func is Tensor.__getitem__:
            chosen = args[1][0] if isinstance(args[1], tuple) and args[1] else args[1]
            # The few tokens of this forward are no table.
            if isinstance(chosen, Tensor) and args[0].dim() and len(args[0]) > 4 * self.count:
                self._note(args[0], chosen)
        return func(*args, **(kwargs or {}))

    def _note(self, table: Tensor, chosen: Tensor) -> None:
        if chosen.dtype.is_floating_point or chosen.numel() != self.count:
            return
        rows = [int(row) for row in chosen.reshape(-1).tolist()]
        if rows == list(range(rows[0], rows[0] + self.count)):
            self.limits.append(int(table.shape[0]) - rows[0])


def position_limit(model: AdaptedModel) -> int | None:
    """Tokens a model has positions for; None where any number will do."""
    if model not in _LIMITS:
        # Rotary angles are computed for any position.
        _LIMITS[model] = None if model.rope is not None else _ask(model)
    return _LIMITS[model]


def _ask(model: AdaptedModel) -> int | None:
    count = 4
    positions = torch.arange(count, device=model.device)
    with _Lookups(count) as seen:
        model.forward(torch.zeros_like(positions), positions, plain_attention(model, positions))
    return min(seen.limits, default=None)


def require_positions(model: AdaptedModel, tokens: int) -> None:
    """Raises Refused where the model has no positions for so many tokens."""
    limit = position_limit(model)
    if limit is not None and tokens > limit:
        raise Refused(
            f"{tokens:,} tokens are to be read, and {model.family} has learned positions for "
            f"{limit:,}, which no recipe can add to",
            "give a shorter text, or fewer new tokens",
        )


def require_room(model: AdaptedModel, prompt: int, new: int) -> None:
    """Raises Refused where a prompt, or the text after it, goes beyond the positions.

    The last new token is said and not read, so it needs no position.
    """
    limit = position_limit(model)
    if limit is None or prompt + new - 1 <= limit:
        return
    if prompt > limit:
        raise Refused(
            f"the prompt has {prompt:,} tokens, and {model.family} has learned positions for "
            f"{limit:,}, which no recipe can add to",
            "give a shorter prompt",
        )
    raise Refused(
        f"a prompt of {prompt:,} tokens and max_new_tokens={new} go beyond the {limit:,} learned "
        f"positions of {model.family}",
        f"give max_new_tokens={limit - prompt + 1} at most",
    )


def takes_embeddings(model: AdaptedModel) -> bool:
    """Whether feeding `embed(ids)` gives the logits that feeding ids gives: not so in families
    that read the ids in later layers too."""
    if model not in _EMBEDDINGS:
        _EMBEDDINGS[model] = _embeddings_suffice(model)
    return _EMBEDDINGS[model]


def _embeddings_suffice(model: AdaptedModel) -> bool:
    ids = torch.arange(8, device=model.device) % model.vocab_size
    positions = torch.arange(len(ids), device=model.device)
    attention = plain_attention(model, positions)
    given = model.forward(ids, positions, attention)
    try:
        ours = model.forward(ids, positions, attention, embeddings=model.embed(ids))
    except Exception:  # Whatever a family raises that wants its ids.
        return False
    # The same products of the same numbers, but for kernels that add in no fixed order.
    error = float((ours - given).float().abs().mean() / given.float().std().clamp_min(1e-6))
    return error <= FLOOR.get(model.dtype, 1e-3)
