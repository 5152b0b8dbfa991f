"""ThinK: each KV head drops the key channels that matter least for the logits.

Xu et al., "ThinK: Thinner Key Cache by Query-Driven Pruning", ICLR 2025, arXiv:2407.21018.

Many channels of a key hardly matter for the logits. When the prompt has been read, each KV head
drops the share lambda of its key channels. It drops those that contribute least to the logits of
the last queries:

    Score[c] = mean over the window of q_c^2  *  mean over the keys of k_c^2

This is the square of the paper's |Q_S[:, c] K[:, c]^T|_F up to a constant. Queries and keys are
rotated, as attention sees them. Prompt keys lose floor(lambda d) channels, and the scale of the
logits stays 1/sqrt(d). The newest `recent` keys of the prompt and all later ones stay whole. Values
stay whole too.

Where query heads share keys, the paper repeats the keys. Here q_c^2 is averaged over the group, so
a KV head has one mask and really stores [n, kept] numbers. A removed channel decodes to zero, which
gives the logits of q[mask] . K_pruned. Segments that hold merged entries are left whole.

The authors ship two combinations, and both are recipes here. In `think + kivi`, what KIVI quantises
has lost its channels first. Later tokens lose them too, when they leave KIVI's residual. The
authors' code needs a prompt longer than the residual. Here a shorter one is never pruned. Their
scores look only at the keys that are quantised, ours at all keys of the prompt.

In `think + h2o`, channels are chosen from what H2O has kept of the prompt. The authors' H2O chooses
once, at the prompt's end. Ours goes on while decoding, so pruned entries can be deleted one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class Think(Method):
    """Key channels of the prompt really removed; ratio 0 leaves everything as it is."""

    name: ClassVar[str] = "think"
    question: ClassVar[Question] = Question.CODECS
    paper: ClassVar[Paper] = Paper(
        "ThinK: Thinner Key Cache by Query-Driven Pruning",
        "Xu et al.",
        2025,
        arxiv="2407.21018",
        venue="ICLR",
        code="https://github.com/SalesforceAIResearch/ThinK",
    )
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True
    deletable: ClassVar[bool] = True

    ratio: float = option(0.4, "share of key channels to drop (lambda)", low=0.0, high=0.95)
    recent: int = option(32, "newest tokens of the prompt whose keys stay whole", low=0)
    window: int = option(32, "last queries of the prompt that score the channels", low=1)

    @classmethod
    def identity(cls, length: int) -> Think:
        return cls(ratio=0.0)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Think:
        layer = next((each for each in model.layers if each.window is None), model.layers[0])
        keys = layer.num_kv_heads * layer.head_dim / layer.entry_numbers
        pruned = max(1, length - self.recent) / max(1, length)
        # Values stay whole, so no ratio comes to less than their share of the bytes.
        return replace(self, ratio=round(min(0.95, (1 - share) / keys / pruned), 4))

    def start_channels(self, layer: LayerFacts) -> ThinkChannels | None:
        if not int(layer.head_dim * self.ratio):
            return None
        return ThinkChannels(self.ratio, self.recent, self.window)

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens, birth ids included."""
        plain = layer.entry_numbers * dtype.itemsize + 4
        dropped = int(layer.head_dim * self.ratio)
        if n <= self.recent or not dropped:
            return plain
        saved = (n - self.recent) * dropped * dtype.itemsize - 8 * (layer.head_dim - dropped)
        return plain - layer.num_kv_heads * saved / n


class ThinkChannels:
    """Choice of one layer: none but the settings."""

    def __init__(self, ratio: float, recent: int, window: int) -> None:
        self.ratio = ratio
        self.recent = recent
        self.window = window

    def kept(self, head_dim: int) -> int:
        return head_dim - int(head_dim * self.ratio)

    def choose(self, queries: Tensor, key: Tensor) -> Tensor:
        scores = self.scores(queries, key)
        return scores.topk(self.kept(key.shape[-1]), -1).indices.sort(-1).values

    def scores(self, queries: Tensor, key: Tensor) -> Tensor:
        """How much each channel matters, float32 `[kv_heads, head_dim]`.

        queries `[heads, window, head_dim]` and key `[kv_heads, n, head_dim]`, both rotated.
        """
        asked: Tensor = queries.float().square().mean(1).unflatten(0, (len(key), -1)).mean(1)
        return asked * key.float().square().mean(1)
