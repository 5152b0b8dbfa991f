"""Orthogonal bases of keys and values whose first coordinates say most, and how they are read.

    PCA        mu = mean of x,  U_0 = eigenvectors of its covariance, the largest first
    truncated  x_r = mu + (x - mu) U_r U_r^T,  U_r the first r columns of U

There is one basis a layer, key head, and kind: keys, as they are rotated, and values.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lengthwise.documents.files import read_document
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

# Tokens that means and covariances are of, tokens of one text, and positions that they stand at.
SAMPLE, TEXT, REACH = 4096, 512, 4096
# A head loses 1 / PARTS of its coordinates at a time.
PARTS = 4

Progress = Callable[[int, int], None]


@dataclass
class Bases:
    """Bases of one kind (keys or values) of one layer.

    mean: `[kv_heads, d]`; basis: `[kv_heads, d, d]`, columns by what they matter. float32.
    """

    mean: Tensor
    basis: Tensor

    def truncated(self, x: Tensor, ranks: Seq[int]) -> Tensor:
        """Projects on the first columns.

        Args:
            x: `[kv_heads, n, d]`.
            ranks: columns of each head.

        Returns:
            `[kv_heads, n, d]` in the dtype of x.
        """
        columns = torch.arange(self.basis.shape[-1], device=x.device)
        kept = columns < torch.as_tensor(ranks, device=x.device)[:, None]
        centred = x.float() - self.mean[:, None]
        found = ((centred @ self.basis) * kept[:, None]) @ self.basis.mT + self.mean[:, None]
        return found.to(x.dtype)


# By layer (None for one with a window of its own): bases of keys and of values.
AllBases = list[tuple[Bases, Bases] | None]
# By layer: ranks `[2][kv_heads]` of keys and values.
AllRanks = list[list[list[int]]]
# Kind (0: keys), layer, key head.
Head = tuple[int, int, int]


def whole(model: AdaptedModel) -> AllRanks:
    """All coordinates of every head."""
    return [[[f.head_dim] * f.num_kv_heads, [f.value_dim] * f.num_kv_heads] for f in model.layers]


def heads_of(model: AdaptedModel) -> list[Head]:
    """The heads that have bases: keys first, by layer."""
    return [(kind, f.index, head) for kind in (0, 1) for f in model.layers if f.window is None
            for head in range(f.num_kv_heads)]  # fmt: skip


def ranks_of(model: AdaptedModel, parts: dict[Head, int]) -> AllRanks:
    """Ranks where so many of PARTS are left.

    Args:
        model: whose heads they are.
        parts: of the heads that lost some.
    """
    found = whole(model)
    for (kind, layer, head), left in parts.items():
        found[layer][kind][head] = max(1, found[layer][kind][head] * left // PARTS)
    return found


def text_of(model: AdaptedModel, count: int) -> Tensor:
    """Ids of a text to measure on: the default document, or random ones without a tokenizer.

    Args:
        model: whose ids they are, and where they lie.
        count: of tokens, which a short document may not have.
    """
    if model.tokenizer is None:
        draw = torch.Generator().manual_seed(0)
        return torch.randint(0, model.vocab_size, (count,), generator=draw).to(model.device)
    ids = model.tokenizer.encode(read_document().text, add_special_tokens=False)
    return torch.tensor(ids[:count], device=model.device)


class Reading:
    """Full attention of texts side by side, each `length` tokens and by itself.

    start: position of the first token of each. Override `entries` for what queries see beyond the
    `recent` newest keys, their own included, and the `first` ones.
    """

    def __init__(
        self, model: AdaptedModel, length: int, start: int = 0, recent: int = 0, first: int = 0
    ) -> None:
        self.model, self.length, self.start = model, length, start
        self.recent, self.first = recent, first

    def entries(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor] | None:
        """Keys and values as older queries see them.

        Args:
            layer: its index.
            key: rotated, `[kv_heads, n, d]`.
            value: of the same heads and tokens.

        Returns:
            Both in the same shapes; None where all are seen as they are.
        """
        return None

    def places(self, count: int) -> Tensor:
        """Positions of `count` tokens, int64.

        Args:
            count: whole texts.
        """
        return torch.arange(count, device=self.model.device) % self.length + self.start

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope = self.model.layers[layer], self.model.rope
        if facts.layout is not None and rope is not None:
            place = self.places(query.shape[1]).to(query.device)
            angles = rope.angles(facts.layout, facts.rotary_type, place)
            query, key = (facts.layout.rotate(x, angles) for x in (query, key))
        far = self.entries(layer, key, value)
        row = [self._rows(x) for x in (query, key, value)]
        older = None if far is None else (self._rows(far[0]), self._rows(far[1]))
        out = self._attend(facts, row[0], (row[1], row[2]), older)
        return out.transpose(0, 1).flatten(1, 2)

    def _rows(self, x: Tensor) -> Tensor:
        rows: Tensor = x.unflatten(1, (-1, self.length)).transpose(0, 1)
        return rows

    def _attend(
        self, facts: LayerFacts, query: Tensor, near: tuple[Tensor, Tensor],
        far: tuple[Tensor, Tensor] | None,
    ) -> Tensor:  # fmt: skip
        """Attention of rows of texts `[rows, heads, n, d]`, with gradients."""
        group = facts.num_heads // facts.num_kv_heads
        near = near[0].repeat_interleave(group, 1), near[1].repeat_interleave(group, 1)
        distance = torch.arange(self.length, device=query.device)
        distance = distance[:, None] - distance
        scores = _scores(query, near[0], facts)
        plain = (distance < self.recent) | (torch.arange(self.length) < self.first).to(query.device)
        if far is not None:
            far = far[0].repeat_interleave(group, 1), far[1].repeat_interleave(group, 1)
            scores = torch.where(plain, scores, _scores(query, far[0], facts))
        seen = distance >= 0
        if facts.window is not None:
            seen &= distance < facts.window
        weights = _softmax(scores.masked_fill(~seen, -torch.inf), facts).to(near[1].dtype)
        if far is None:
            alone: Tensor = weights @ near[1]
            return alone
        out: Tensor = (weights * plain) @ near[1] + (weights * ~plain) @ far[1]
        return out


def _scores(query: Tensor, key: Tensor, facts: LayerFacts) -> Tensor:
    scores = (query @ key.mT).float() * facts.scaling
    if facts.softcap is not None:
        scores = (scores / facts.softcap).tanh() * facts.softcap
    return scores


def _softmax(scores: Tensor, facts: LayerFacts) -> Tensor:
    if facts.sinks is None:
        return scores.softmax(-1)
    sinks = facts.sinks.float()[:, None, None].expand(len(scores), -1, scores.shape[2], 1)
    return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]


class Truncated(Reading):
    """Older keys and values by their first coordinates. ranks: of each text, by layer."""

    def __init__(
        self, model: AdaptedModel, length: int, bases: AllBases, ranks: Seq[AllRanks] = (),
        start: int = 0, recent: int = 0, first: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(model, length, start, recent, first)
        self.bases, self.ranks = bases, ranks

    def entries(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor] | None:
        pair = self.bases[layer]
        if pair is None:
            return None
        found = []
        for kind, x in enumerate((key, value)):
            rows = x.split(self.length, 1)
            each = [pair[kind].truncated(row, ranks[layer][kind])
                    for row, ranks in zip(rows, self.ranks, strict=True)]  # fmt: skip
            found.append(torch.cat(each, 1))
        return found[0], found[1]


class _Moments(Reading):
    """Sums of keys and values and of their products, in float64."""

    def __init__(self, model: AdaptedModel, length: int) -> None:
        super().__init__(model, length)
        self.sums: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def entries(self, layer: int, key: Tensor, value: Tensor) -> None:
        new = [(x.double().sum(1), x.double().mT @ x.double()) for x in (key, value)]
        old = self.sums.get(layer)
        self.sums[layer] = new if old is None else [
            (a + c, b + d) for (a, b), (c, d) in zip(old, new, strict=True)
        ]  # fmt: skip


@torch.no_grad()
def principal(
    model: AdaptedModel, count: int = SAMPLE, progress: Progress | None = None
) -> AllBases:
    """Bases by PCA of the keys and values of some texts, which stand where texts may stand.

    Args:
        model: the adapted model.
        count: tokens in all.
        progress: is given tokens read and in all.
    """
    ids = text_of(model, count)
    length = min(TEXT, len(ids), model.trained_length - 1)
    rows = ids[: len(ids) // length * length].split(length)
    watch = _Moments(model, length)
    for at, row in enumerate(rows):
        watch.start = start_of(model, length, at / max(1, len(rows) - 1))
        read(model, row, watch, length)
        if progress is not None:
            progress((at + 1) * length, len(rows) * length)
    found: AllBases = []
    for index, facts in enumerate(model.layers):
        if facts.window is not None:
            found.append(None)
            continue
        pair = [_principal(*sums, len(rows) * length) for sums in watch.sums[index]]
        found.append((pair[0], pair[1]))
    return found


def _principal(total: Tensor, products: Tensor, count: int) -> Bases:
    mean = total / count
    spread = products / count - mean[:, :, None] * mean[:, None]
    return Bases(mean.float(), torch.linalg.eigh(spread).eigenvectors.flip(-1).float())


def start_of(model: AdaptedModel, length: int, share: float) -> int:
    """Where a text begins: a share of the way to where the last one may.

    Args:
        model: which reads it.
        length: of the text.
        share: from 0 to 1.
    """
    return int(share * max(0, min(REACH, model.trained_length - 1) - length))


def read(model: AdaptedModel, ids: Tensor, attention: Reading, every: int) -> Tensor:
    """Reads texts side by side.

    Args:
        model: the adapted model.
        ids: whole texts, int64 `[n]`.
        attention: of these texts.
        every: of how many tokens the last one is kept; a divisor of their length.

    Returns:
        The last hidden states of those tokens, `[n / every, hidden]`.
    """
    states: list[Tensor] = []
    keep = torch.arange(every - 1, len(ids), every, device=ids.device)
    model.forward(ids, attention.places(len(ids)), attention, keep, states)
    return torch.cat(states)


def packed(tensor: Tensor) -> dict[str, Any]:
    """A tensor as JSON: float32 bytes in base64, and its shape."""
    data = tensor.detach().float().cpu().contiguous().numpy().tobytes()
    return {"shape": list(tensor.shape), "data": base64.b64encode(data).decode()}


def unpacked(found: dict[str, Any], device: torch.device) -> Tensor:
    """What `packed` was given. Raises ValueError or the like where it is damaged."""
    numbers = np.frombuffer(base64.b64decode(found["data"], validate=True), dtype=np.float32)
    return torch.from_numpy(numbers.copy()).reshape(found["shape"]).to(device)


__all__ = [
    "PARTS", "AllBases", "AllRanks", "Bases", "Head", "Progress", "Reading", "Truncated",
    "heads_of", "packed", "principal", "ranks_of", "read", "start_of", "text_of", "unpacked",
    "whole",
]  # fmt: skip
