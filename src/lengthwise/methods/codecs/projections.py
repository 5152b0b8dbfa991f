"""Orthogonal bases of keys and values, trained so that their first coordinates say most.

    PCA        mu = mean of x,  U_0 = eigenvectors of its covariance, the largest first
    Cayley     U = U_0 (I - A/2)^-1 (I + A/2),  A = X - X^T, which is orthogonal whatever X is
    truncated  x_r = mu + (x - mu) U_r U_r^T,  U_r the first r columns of U
    training   KL(p || p_r) + loss of p_r, with ranks drawn anew for every head at each step
    search     in rounds: how far the last hidden state moves where one head alone loses d/4; the
               three quarters of the heads that move it least lose them

There is one basis a layer, key head, and kind. Keys are rotated ones. What is kept of the search is
the order in which heads lost coordinates, so any share of the numbers can be had of it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.documents.files import read_document
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

# Tokens that the means and covariances are of, of a window of them that is trained on, of the text
# that ranks are searched on, and copies of that text that are read in one forward.
SAMPLE, WINDOW, SEARCHED, COPIES = 4096, 128, 128, 8
STEPS, LEARNING_RATE = 80, 2e-3
# A head loses 1 / PARTS of its coordinates at a time, in the search and in the draws of training.
PARTS, DRAWN_PARTS = 4, 8
# The share of the heads that lose some in a round (the authors' 24 of 32).
ROUND = 0.75

Progress = Callable[[int, int], None]


@dataclass
class Bases:
    """Bases of one kind (keys or values) of one layer.

    mean: `[kv_heads, d]`; basis: `[kv_heads, d, d]`, columns by what they matter. float32.
    """

    mean: Tensor
    basis: Tensor

    def truncated(self, x: Tensor, ranks: Seq[int] | Tensor) -> Tensor:
        """x `[kv_heads, n, d]` by its first `ranks[head]` coordinates, in the dtype of x."""
        size = self.basis.shape[-1]
        ranks = torch.as_tensor(ranks, device=x.device)
        kept = torch.arange(size, device=x.device) < ranks[:, None]
        centred = x.float() - self.mean[:, None]
        found = ((centred @ self.basis) * kept[:, None]) @ self.basis.mT + self.mean[:, None]
        return found.to(x.dtype)


# By layer (None for one with a window of its own): bases of keys and of values.
AllBases = list[tuple[Bases, Bases] | None]
# By layer: ranks `[2][kv_heads]` of keys and values.
AllRanks = list[list[list[int]]]


def cayley(skewed: Tensor) -> Tensor:
    """The orthogonal matrices `[..., d, d]` of X, any numbers of that shape; 0 gives I."""
    a = (skewed - skewed.mT) / 2
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return torch.linalg.solve(eye - a, eye + a)


def text_of(model: AdaptedModel, count: int) -> Tensor:
    """Ids of a text to measure on: the default document, or random ones without a tokenizer."""
    if model.tokenizer is None:
        draw = torch.Generator().manual_seed(0)
        return torch.randint(0, model.vocab_size, (count,), generator=draw).to(model.device)
    ids = model.tokenizer.encode(read_document().text, add_special_tokens=False)
    return torch.tensor(ids[:count], device=model.device)


class Reading:
    """Attention of texts side by side, each `length` tokens and by itself; override `entries`."""

    def __init__(self, model: AdaptedModel, length: int) -> None:
        self.model, self.length = model, length

    def entries(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `[kv_heads, n, d]`, rotated, as the queries see them."""
        return key, value

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope = self.model.layers[layer], self.model.rope
        place = torch.arange(query.shape[1], device=query.device) % self.length
        if facts.layout is not None and rope is not None:
            angles = rope.angles(facts.layout, facts.rotary_type, place)
            query, key = (facts.layout.rotate(x, angles) for x in (query, key))
        key, value = self.entries(layer, key, value)
        rows = query.shape[1] // self.length
        q, k, v = (x.unflatten(1, (rows, self.length)).transpose(0, 1) for x in (query, key, value))
        out = _causal(q, k, v, facts)
        return out.transpose(0, 1).flatten(1, 2)


def _causal(query: Tensor, key: Tensor, value: Tensor, facts: LayerFacts) -> Tensor:
    """Rows of texts `[rows, heads, n, d]`, with gradients, windows, sinks and softcaps."""
    group, count = facts.num_heads // facts.num_kv_heads, query.shape[2]
    key, value = (x.repeat_interleave(group, 1) for x in (key, value))
    scores = (query @ key.mT).float() * facts.scaling
    if facts.softcap is not None:
        scores = (scores / facts.softcap).tanh() * facts.softcap
    mask = torch.ones(count, count, dtype=torch.bool, device=query.device).tril()
    if facts.window is not None:
        mask &= ~mask.tril(-facts.window)
    scores = scores.masked_fill(~mask, -torch.inf)
    if facts.sinks is not None:
        sinks = facts.sinks.float()[:, None, None].expand(len(query), -1, count, 1)
        return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1].to(value.dtype) @ value
    return scores.softmax(-1).to(value.dtype) @ value


class _Moments(Reading):
    """Sums of keys and values and of their products, in float64."""

    def __init__(self, model: AdaptedModel, length: int) -> None:
        super().__init__(model, length)
        self.sums: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self.count = 0

    def entries(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        new = [(x.double().sum(1), x.double().mT @ x.double()) for x in (key, value)]
        old = self.sums.get(layer)
        self.sums[layer] = new if old is None else [
            (a + c, b + d) for (a, b), (c, d) in zip(old, new, strict=True)
        ]  # fmt: skip
        return key, value


@torch.no_grad()
def principal(model: AdaptedModel, count: int = SAMPLE) -> AllBases:
    """Bases by PCA of the keys and values of a text of `count` tokens."""
    ids = text_of(model, count)
    length = min(512, len(ids), model.trained_length - 1)
    watch = _Moments(model, length)
    rows = len(ids) // length
    for row in range(rows):
        _run(model, ids[row * length : (row + 1) * length], watch, length)
    found: AllBases = []
    for index, facts in enumerate(model.layers):
        if facts.window is not None:
            found.append(None)
            continue
        pair = []
        for total, products in watch.sums[index]:
            mean = total / (rows * length)
            spread = products / (rows * length) - mean[:, :, None] * mean[:, None]
            basis = torch.linalg.eigh(spread).eigenvectors.flip(-1)
            pair.append(Bases(mean.float(), basis.float()))
        found.append((pair[0], pair[1]))
    return found


def _run(
    model: AdaptedModel, ids: Tensor, attention: Reading, length: int,
    states: list[Tensor] | None = None,
) -> None:  # fmt: skip
    places = torch.arange(len(ids), device=ids.device) % length
    last = None if states is not None else torch.zeros(1, dtype=torch.long, device=ids.device)
    model.forward(ids, places, attention, last, states)


class _Truncated(Reading):
    """Keys and values by their first coordinates. ranks: of each text, by layer."""

    def __init__(self, model: AdaptedModel, length: int, bases: AllBases) -> None:
        super().__init__(model, length)
        self.bases = bases
        self.ranks: list[AllRanks] = []

    def entries(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        pair = self.bases[layer]
        if pair is None:
            return key, value
        found = []
        for kind, x in enumerate((key, value)):
            rows = x.split(self.length, 1)
            each = [pair[kind].truncated(row, ranks[layer][kind])
                    for row, ranks in zip(rows, self.ranks, strict=True)]  # fmt: skip
            found.append(torch.cat(each, 1))
        return found[0], found[1]


def whole(model: AdaptedModel) -> AllRanks:
    """All coordinates of every head."""
    return [[[f.head_dim] * f.num_kv_heads, [f.value_dim] * f.num_kv_heads] for f in model.layers]


def train(
    model: AdaptedModel, bases: AllBases, steps: int = STEPS, progress: Progress | None = None,
    seed: int = 0,
) -> AllBases:  # fmt: skip
    """Turns bases so that truncated predictions are the whole model's.

    Args:
        model: the adapted model; its weights stay.
        bases: where training starts.
        steps: windows of text that it sees.
        progress: is given steps done and in all.
        seed: of the ranks.

    Returns:
        The trained bases; means stay.
    """
    ids = text_of(model, steps * WINDOW)
    length = min(WINDOW, len(ids), model.trained_length - 1)
    draw = torch.Generator().manual_seed(seed)
    asked = [each for each in model.model.parameters() if each.requires_grad]
    turns = [None if pair is None else [torch.zeros_like(b.basis, requires_grad=True) for b in pair]
             for pair in bases]  # fmt: skip
    flat = [x for pair in turns if pair is not None for x in pair]
    optimizer = torch.optim.Adam(flat, lr=LEARNING_RATE)
    try:
        for each in asked:
            each.requires_grad_(False)
        for step in range(steps):
            start = step * length % max(1, len(ids) - length)
            window = ids[start : start + length]
            with torch.inference_mode(False), torch.enable_grad():
                loss = _loss(model, bases, turns, window, _drawn(model, draw))
                loss.backward()
            torch.nn.utils.clip_grad_norm_(flat, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - step / steps)
            optimizer.step()
            optimizer.zero_grad()
            if progress is not None:
                progress(step + 1, steps)
    finally:
        for each in asked:
            each.requires_grad_(True)
    with torch.no_grad():
        return _turned(bases, turns)


def _turned(bases: AllBases, turns: Seq[list[Tensor] | None]) -> AllBases:
    found: AllBases = []
    for pair, turn in zip(bases, turns, strict=True):
        if pair is None or turn is None:
            found.append(None)
            continue
        key, value = (Bases(b.mean, b.basis @ cayley(x)) for b, x in zip(pair, turn, strict=True))
        found.append((key, value))
    return found


def _drawn(model: AdaptedModel, draw: torch.Generator) -> AllRanks:
    """Ranks at random, of multiples of d / DRAWN_PARTS."""

    def some(size: int, heads: int) -> list[int]:
        part = max(1, size // DRAWN_PARTS)
        return [min(size, part * int(n)) for n in torch.randint(1, DRAWN_PARTS + 1, (heads,),
                                                               generator=draw)]  # fmt: skip

    return [[some(f.head_dim, f.num_kv_heads), some(f.value_dim, f.num_kv_heads)]
            for f in model.layers]  # fmt: skip


def _loss(
    model: AdaptedModel, bases: AllBases, turns: Seq[list[Tensor] | None], ids: Tensor,
    ranks: AllRanks,
) -> Tensor:  # fmt: skip
    with torch.no_grad():
        teacher = model.differentiable(ids, Reading(model, len(ids))).float().log_softmax(-1)
    student = _Truncated(model, len(ids), _turned(bases, turns))
    student.ranks = [ranks]
    logits = model.differentiable(ids, student).float().log_softmax(-1)
    apart = F.kl_div(logits, teacher, log_target=True, reduction="none").sum(-1).mean()
    return apart + F.nll_loss(logits[:-1], ids[1:])


@torch.no_grad()
def search(
    model: AdaptedModel, bases: AllBases, progress: Progress | None = None
) -> list[list[int]]:
    """The order in which heads lose 1 / PARTS of their coordinates, cheapest first.

    Args:
        model: the adapted model.
        bases: of its keys and values.
        progress: is given trials done and in all.

    Returns:
        [kind (0: keys), layer, head] of every loss, until each head has one part left.
    """
    ids = text_of(model, SAMPLE)[-SEARCHED:]
    heads = [(kind, index, head) for kind in (0, 1) for index, pair in enumerate(bases)
             if pair is not None for head in range(model.layers[index].num_kv_heads)]  # fmt: skip
    parts = dict.fromkeys(heads, PARTS)
    reader, order, trials = _Truncated(model, len(ids), bases), [], 0
    total = len(heads) * -(-(PARTS - 1) * len(heads) // max(1, round(ROUND * len(heads))))
    while open_ := [head for head in heads if parts[head] > 1]:
        errors: dict[tuple[int, int, int], float] = {}
        for start in range(0, len(open_), COPIES):
            some = open_[start : start + COPIES]
            tried = [ranks_of(model, parts), *(ranks_of(model, parts | {h: parts[h] - 1})
                                               for h in some)]  # fmt: skip
            errors |= dict(zip(some, _moved(model, reader, ids, tried), strict=True))
            trials += len(some)
            if progress is not None:
                progress(min(trials, total), total)
        for head in sorted(open_, key=errors.__getitem__)[: max(1, round(ROUND * len(heads)))]:
            parts[head] -= 1
            order.append(list(head))
    return order


def ranks_of(model: AdaptedModel, parts: dict[tuple[int, int, int], int]) -> AllRanks:
    """Ranks of heads that have so many of PARTS left, by (kind, layer, head)."""
    found = whole(model)
    for (kind, layer, head), left in parts.items():
        found[layer][kind][head] = max(1, found[layer][kind][head] * left // PARTS)
    return found


def _moved(
    model: AdaptedModel, reader: _Truncated, ids: Tensor, tried: list[AllRanks]
) -> list[float]:
    """How far the last hidden states of all but the first move from those of the first."""
    reader.ranks, states = tried, []
    _run(model, ids.repeat(len(tried)), reader, len(ids), states)
    rows = torch.cat(states).float().unflatten(0, (len(tried), -1))
    return [float((row - rows[0]).norm() / rows[0].norm()) for row in rows[1:]]


def packed(tensor: Tensor) -> dict[str, Any]:
    """A tensor as JSON: float32 bytes in base64, and its shape."""
    data = tensor.detach().float().cpu().contiguous().numpy().tobytes()
    return {"shape": list(tensor.shape), "data": base64.b64encode(data).decode()}


def unpacked(found: dict[str, Any], device: torch.device) -> Tensor:
    """What `packed` was given. Raises ValueError where it is damaged."""
    numbers = np.frombuffer(base64.b64decode(found["data"], validate=True), dtype=np.float32)
    return torch.from_numpy(numbers.copy()).reshape(found["shape"]).to(device)


__all__ = [
    "PARTS", "STEPS", "AllBases", "AllRanks", "Bases", "Progress", "cayley", "packed", "principal",
    "ranks_of", "search", "train", "unpacked", "whole",
]  # fmt: skip
