"""One row on several ranks: DeepSpeed-Ulysses sequence parallelism.

Jacobs et al., "DeepSpeed Ulysses: System Optimizations for Enabling Training of Extreme Long
Sequence Transformer Models", 2023, arXiv:2309.14509.

Each of N ranks holds one stretch of every row. All but attention acts on single tokens and needs no
other stretch. Attention exchanges stretches for heads. The first all-to-all gives a rank the whole
row for 1/N of the heads. It attends as one rank alone would, and the second all-to-all goes back.

    [rows, heads, length / N, dim] -> [rows, heads / N, length, dim] -> attention -> back

The paper has as many key heads as query heads. Where N does not divide the key heads, each is
repeated until it does, so that a rank has the keys of its queries.

transformers calls attention by a name in its config, which is ours only while a shared row goes
through the model: evaluation, growth and saved configs never see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lengthwise._utils.papers import Paper
from lengthwise.training.config import TrainingError

PAPER = Paper(
    "DeepSpeed Ulysses: System Optimizations for Enabling Training of Extreme Long Sequence "
    "Transformer Models",
    "Jacobs et al.",
    2023,
    arxiv="2309.14509",
    code="https://github.com/deepspeedai/DeepSpeed",
)
NAME = "lengthwise_ulysses"
SILENT = "lengthwise_silent"
"""Attention that returns zeros."""
_LENGTHY_ROPES = {"dynamic", "longrope"}
"""Rotations that depend on the last position, which differs between stretches."""


class Context:
    """The group of `size` consecutive ranks that `rank` of `world` shares its rows with.

    All ranks make it together. Raises TrainingError unless `size` divides `world`.
    """

    def __init__(self, size: int, rank: int, world: int) -> None:
        if world % size:
            raise TrainingError(
                f"parallel.context={size}: it needs a multiple of {size} ranks, and there is "
                f"{world}: start with torchrun --nproc-per-node {size} --no-python lengthwise "
                "train CONFIG, or leave it at 1"
            )
        self.size = size
        self._positions: Tensor | None = None
        for first in range(0, world, size):
            # Every rank takes part in making every group.
            group = dist.new_group(list(range(first, first + size)))
            if first <= rank < first + size:
                self._group = group
        ALL_ATTENTION_FUNCTIONS.register(NAME, self.attend)
        ALL_ATTENTION_FUNCTIONS.register(SILENT, _silent)
        ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, self.mask)

    @contextmanager
    def over(self, config: Any, positions: Tensor) -> Iterator[None]:
        """Within it a model of `config` attends over whole rows of `positions` [rows, length].

        Raises TrainingError for a config whose rotation differs between stretches.
        """
        ropes = getattr(config, "rope_parameters", None) or {}
        # One for the model, or one for each kind of layer.
        kinds = {each.get("rope_type") for each in (ropes, *ropes.values()) if hasattr(each, "get")}
        for kind in _LENGTHY_ROPES & kinds:
            raise TrainingError(
                f"parallel.context={self.size}: rope_type {kind!r} rotates by the length of a row, "
                "of which a rank sees a stretch: leave one of them out"
            )
        self._positions = positions
        try:
            with attending_by(config, NAME):
                yield
        finally:
            self._positions = None

    def mask(
        self, *, local_size: int | None = None, config: Any = None, use_vmap: bool = False,
        **_: Any,
    ) -> Tensor | None:  # fmt: skip
        """Which keys each token of the whole row sees: bool [rows, 1, length, length].

        Called by transformers in place of its own masks, which would be of the stretch. None for
        rows of one document without a window. local_size: of a window. use_vmap: whether the
        family adds something of its own. Raises TrainingError for a mask of another kind.
        """
        positions, window = self._positions, getattr(config, "sliding_window", None)
        if positions is None or use_vmap or local_size not in (None, window):
            raise TrainingError(
                f"parallel.context={self.size}: family {config.model_type!r} has a mask that is "
                "neither causal nor a sliding window: leave it at 1, or take another family"
            )
        length = positions.shape[1]
        # A document goes on where a position is one more than the one before.
        number = (positions.diff(prepend=positions[:, :1] - 1) != 1).cumsum(-1)
        packed = bool(number.any())
        if not packed and (local_size is None or local_size >= length):
            return None
        seen = torch.ones(length, length, dtype=torch.bool, device=positions.device).tril()
        if local_size is not None:
            seen = seen.triu(1 - local_size)
        if not packed:
            return seen[None, None]
        return (seen & (number[:, :, None] == number[:, None, :]))[:, None]

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor,
        attention_mask: Tensor | None, dropout: float = 0.0, scaling: float | None = None,
        **other: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        """transformers' attention function, of a stretch of the row: outputs [rows, length / N,
        heads, dim].

        query, key, value: [rows, heads or key heads, length / N, dim]. attention_mask: by `mask`.
        Raises TrainingError for heads that do not divide and for a bias by position.
        """
        heads, key_heads = query.shape[1], key.shape[1]
        if heads % self.size:
            raise TrainingError(
                f"parallel.context={self.size} does not divide the model's {heads} attention "
                f"heads: set it to a divisor of {heads}"
            )
        if other.pop("position_bias", None) is not None:
            raise TrainingError(
                f"parallel.context={self.size}: this model adds a bias by position to its "
                "attention, which is not shared among ranks: leave it at 1"
            )
        # Of a stretch, which may be one token, this would not be known.
        other.pop("is_causal", None)
        repeats = self.size // math.gcd(key_heads, self.size)
        if repeats > 1:
            key, value = (each.repeat_interleave(repeats, dim=1) for each in (key, value))
        query, key, value = (self._exchanged(each) for each in (query, key, value))
        length = query.shape[2]
        if attention_mask is not None and attention_mask.shape[-2:] != (length, length):
            raise TrainingError(
                f"parallel.context={self.size}: this model makes a mask of its own, which knows of "
                "one rank's part of a row only: leave it at 1, or take another family"
            )
        here: Any = SimpleNamespace(
            num_key_value_groups=query.shape[1] // key.shape[1],
            is_causal=getattr(module, "is_causal", True),
        )
        found, _ = sdpa_attention_forward(
            here, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **other
        )
        return self._exchanged(found), None

    def _exchanged(self, values: Tensor) -> Tensor:
        """[rows, N a, b, dim], of which every rank has other b, to [rows, a, N b, dim]."""
        parts = values.unflatten(1, (self.size, -1)).movedim(1, 0)
        found: Tensor = _AllToAll.apply(parts, self._group)  # type: ignore[no-untyped-call]
        return found.movedim(0, 2).flatten(2, 3)


@contextmanager
def attending_by(config: Any, name: str) -> Iterator[None]:
    """Within it a model of `config` has the attention that transformers knows by `name`."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def _silent(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    rows, heads, length, _dim = query.shape
    return value.new_zeros(rows, length, heads, value.shape[-1]), None


class _AllToAll(torch.autograd.Function):
    """Part i of each rank goes to rank i, and so do gradients: [N, ...] to [N, ...]."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, group: Any) -> Tensor:
        ctx.group = group
        parts = parts.contiguous()
        found = torch.empty_like(parts)
        dist.all_to_all_single(found, parts, group=group)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _AllToAll.forward(ctx, gradients[0], ctx.group), None
