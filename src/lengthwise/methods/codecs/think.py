"""ThinK: Thinner Key Cache by Query-Driven Pruning (Xu et al., 2024, arXiv 2407.21018).

Many channels of a key hardly matter for the logits. When the prompt has been read, each KV head
drops the share lambda of key channels that contributes least to what the last queries ask for:

    Score[c] = mean over the window of q_c^2  *  mean over the keys of k_c^2

which is the square of the paper's |Q_S[:, c] K[:, c]^T|_F up to a constant; queries and keys are
rotated, as attention sees them. Prompt keys lose floor(lambda d) channels and the scale of the
logits stays 1/sqrt(d). The newest `recent` keys of the prompt and all later ones stay whole, values
too. Where query heads share keys the paper repeats the keys; here q_c^2 is averaged over the group,
so a KV head has one mask and really stores [n, kept] numbers. A removed channel decodes to zero,
which gives the logits of q[mask] . K_pruned. Segments that hold merged entries are left whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.entries import Entries, Segment
from lengthwise.engine.roles import Moment
from lengthwise.methods.base import Method, Question, option
from lengthwise.models.probe import LayerFacts


@dataclass(frozen=True)
class Think(Method):
    """Key channels of the prompt really removed; ratio 0 leaves everything as it is."""

    name: ClassVar[str] = "think"
    question: ClassVar[Question] = Question.CODECS
    paper: ClassVar[str] = "ThinK: Thinner Key Cache by Query-Driven Pruning (arXiv 2407.21018)"
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True

    ratio: float = option(0.4, "share of key channels to drop (lambda)", low=0.0, high=0.95)
    recent: int = option(32, "newest tokens of the prompt whose keys stay whole", low=0)
    window: int = option(32, "last queries of the prompt that score the channels", low=1)

    @classmethod
    def identity(cls, length: int) -> Think:
        return cls(ratio=0.0)

    def start_codec(self, layer: LayerFacts) -> ThinkCodec | None:
        return ThinkCodec(self.ratio, self.recent, self.window) if self.ratio else None

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens, birth ids included."""
        plain = layer.entry_numbers * dtype.itemsize + 4
        dropped = int(layer.head_dim * self.ratio)
        if n <= self.recent or not dropped:
            return plain
        saved = (n - self.recent) * dropped * dtype.itemsize - 8 * (layer.head_dim - dropped)
        return plain - layer.num_kv_heads * saved / n


class ThinkCodec:
    """State of one layer: none but the settings."""

    def __init__(self, ratio: float, recent: int, window: int) -> None:
        self.ratio = ratio
        self.recent = recent
        self.window = window

    def encode(self, segment: Segment, moment: Moment) -> None:
        tail = segment.tail
        if moment.kind != "prefill" or tail is None or tail.log_weight is not None:
            return
        count = len(tail) - self.recent
        dropped = int(tail.key.shape[-1] * self.ratio)
        if count <= 0 or not dropped or moment.queries is None:
            return
        scores = self.scores(moment.queries[:, -self.window :], tail.key)
        kept = scores.topk(tail.key.shape[-1] - dropped, -1).indices.sort(-1).values
        segment.close(ThinkBlock.make(tail.slice(0, count), kept), count)

    def room(self, segment: Segment) -> int | None:
        return None

    def scores(self, queries: Tensor, key: Tensor) -> Tensor:
        """How much each channel matters, float32 `[kv_heads, head_dim]`.

        queries `[heads, window, head_dim]` and key `[kv_heads, n, head_dim]`, both rotated.
        """
        asked: Tensor = queries.float().square().mean(1).unflatten(0, (len(key), -1)).mean(1)
        return asked * key.float().square().mean(1)


@dataclass(frozen=True)
class ThinkBlock:
    """key `[kv_heads, n, kept]`: the channels `kept` int64 `[kv_heads, kept]` of head_dim."""

    key: Tensor
    value: Tensor
    index: Tensor
    kept: Tensor
    head_dim: int

    @classmethod
    def make(cls, entries: Entries, kept: Tensor) -> ThinkBlock:
        where = kept[:, None].expand(-1, len(entries), -1)
        key = entries.key.gather(2, where)
        value, index = entries.value.clone(), entries.index.clone()
        return cls(key, value, index, kept, entries.key.shape[-1])

    def __len__(self) -> int:
        return self.key.shape[1]

    def tensors(self) -> list[Tensor]:
        return [self.key, self.value, self.index, self.kept]

    def decode(self) -> Entries:
        # Spreading by a product with zeros and ones is exact and twice as fast as a scatter.
        one_hot = torch.nn.functional.one_hot(self.kept, self.head_dim).to(self.key.dtype)
        return Entries(torch.bmm(self.key, one_hot), self.value, self.index)
