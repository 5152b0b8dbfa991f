"""Far tokens in blocks, each of which a few much attended keys stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.selection.reading import check_budget
from lengthwise.models.adapted_model import AdaptedModel


class BlockMethod(Method):
    """A selection of blocks of far tokens, which a window and the first tokens stand beside.

    init, block, representatives: see `BlockMemory`. query_block: queries that look up together.
    """

    budget: Budget
    window: int
    init: int
    block: int
    representatives: int
    query_block: int

    def __post_init__(self) -> None:
        super().__post_init__()
        always = self.window + self.init + self.block - 1
        check_budget(self.name, self.budget, always, self.block, self.window)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Self:
        """The setting that reads a share of the tokens a step: see `Method.at_share`."""
        # The window is at most the half of the budget that it is by default; the rest shrinks too.
        tokens = max(1, round(share * length))
        window = max(1, min(self.window, tokens // 2))
        shrunk: dict[str, Any] = {
            "budget": Budget(tokens), "window": window, "init": min(self.init, tokens // 32),
            "block": max(1, min(self.block, tokens // 8)),
            "representatives": max(1, min(self.representatives, tokens // 8)),
            "query_block": min(self.query_block, window),
        }  # fmt: skip
        return replace(self, **shrunk)

    def placement(self, model: AdaptedModel) -> Placement:
        """A window; all far keys stand at its farthest distance."""
        distance = self.window - 1

        def constant(index: Tensor) -> Tensor:
            return torch.full_like(index, distance)

        return Placement(window=self.window, far_raw=True, far_query=constant)


class BlockMemory:
    """The block index of one layer.

    index: representatives `[kv_heads, blocks, head_dim]`. open_key, open_stat: what left the window
    and does not fill a block yet. Block b is far[init + b * block : init + (b + 1) * block].
    """

    last_alone = False

    def __init__(self, init: int, block: int, representatives: int) -> None:
        self.init, self.block = init, block
        self.representatives = representatives
        self.seen = 0
        self.index: Tensor | None = None
        self.open_key: Tensor | None = None
        self.open_stat: Tensor | None = None

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        """Cuts what has just left the window into blocks.

        Args:
            entries: with the attention that they received.
            far: the far entries of one layer.
        """
        start = min(max(0, self.init - self.seen), len(entries))
        self.seen += len(entries)
        assert entries.attention_mass is not None
        key, attention_mass = entries.key[:, start:], entries.attention_mass[:, start:]
        if self.open_key is not None and self.open_stat is not None:
            key = torch.cat([self.open_key, key], 1)
            attention_mass = torch.cat([self.open_stat, attention_mass], 1)
        whole = key.shape[1] // self.block * self.block
        if whole:
            found = self._represent(key[:, :whole], attention_mass[:, :whole])
            self.index = found if self.index is None else torch.cat([self.index, found], 1)
        self.open_key, self.open_stat = key[:, whole:].clone(), attention_mass[:, whole:].clone()

    def _represent(self, key: Tensor, attention_mass: Tensor) -> Tensor:
        """Mean of the keys that received most: `[kv_heads, blocks, head_dim]`."""
        count = min(self.representatives, self.block)
        best = attention_mass.unflatten(1, (-1, self.block)).topk(count, -1).indices
        rows = best[..., None].expand(-1, -1, -1, key.shape[-1])
        found: Tensor = key.unflatten(1, (-1, self.block)).gather(2, rows).mean(2)
        return found

    def tensors(self) -> list[Tensor | None]:
        """Everything the index holds, for counting bytes."""
        return [self.index, self.open_key, self.open_stat]

    def rest(self, far: KVStore) -> int:
        """First tokens, and those that fill no block: far entries that are read in any case.

        Args:
            far: the far entries of one layer.
        """
        blocks = 0 if self.index is None else self.index.shape[1]
        return len(far) - blocks * self.block

    def ids(self, blocks: Tensor, far: KVStore) -> Tensor:
        """Far ids int64 `[m]`, ascending: first tokens, some blocks, and what fills none.

        Args:
            blocks: int64 `[b]`, ascending.
            far: the far entries of one layer.
        """
        assert self.index is not None
        device = blocks.device
        inside = torch.arange(self.block, device=device)
        chosen = (blocks[:, None] * self.block + inside).flatten() + self.init
        start = self.init + self.index.shape[1] * self.block
        sinks = torch.arange(self.init, device=device)
        return torch.cat([sinks, chosen, torch.arange(start, len(far), device=device)])


__all__ = ["BlockMemory", "BlockMethod"]
