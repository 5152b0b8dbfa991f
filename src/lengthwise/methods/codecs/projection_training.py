"""Training of orthogonal bases, so that truncated predictions are the whole model's.

    Cayley     U = U_0 (I - A/2)^-1 (I + A/2),  A = X - X^T: orthogonal whatever X is, U_0 at X = 0
    loss       1/4 KL(p || p_r) + 3/4 cross entropy of p_r,  p of the whole model, p_r truncated
    ranks      of each head, of keys and of values, drawn anew at each step: multiples of d/8

These are the authors' weights, ranks, rate (0.001, by Adam) and norm of gradients (1). They train
the means as well, on some 10^7 tokens, 2,048 at once. Ours are few and short, so that a small model
takes minutes, and their rate is larger. A query sees the `recent` newest keys as they are, as it
does in the cache; the authors truncate all.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.methods.codecs.projections import (
    AllBases,
    AllRanks,
    Bases,
    Progress,
    Reading,
    Truncated,
    start_of,
    text_of,
)
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.frozen import frozen


@dataclass(frozen=True)
class Training:
    """How bases are trained.

    length: tokens of a text; one is read at a step. recent: newest keys that a query sees whole.
    rate: of Adam, for X. divergence, loss: weights of the two losses. parts: ranks are multiples of
    a head's size over this. warm: steps in which the rate rises; it falls as a cosine behind them.
    """

    steps: int = 30
    length: int = 256
    recent: int = 32
    rate: float = 0.005
    divergence: float = 0.25
    loss: float = 0.75
    parts: int = 8
    warm: int = 5
    seed: int = 0


def cayley(skewed: Tensor) -> Tensor:
    """The orthogonal matrices of X; 0 gives I.

    Args:
        skewed: any numbers `[..., d, d]`.
    """
    a = (skewed - skewed.mT) / 2
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    found: Tensor = torch.linalg.solve(eye - a, eye + a)
    return found


def train(
    model: AdaptedModel, bases: AllBases, how: Training | None = None,
    progress: Progress | None = None,
) -> AllBases:  # fmt: skip
    """Turns bases so that truncated predictions are the whole model's.

    Args:
        model: the adapted model, which stays as it is.
        bases: where training starts.
        how: None is the setting of `lengthwise calibrate matryoshka`.
        progress: is given steps done and in all.

    Returns:
        The trained bases; means stay.
    """
    how = how or Training()
    ids = text_of(model, how.steps * how.length)
    length = min(how.length, len(ids), model.trained_length - 1)
    draw = torch.Generator().manual_seed(how.seed)
    turns = [None if pair is None else [torch.zeros_like(b.basis, requires_grad=True) for b in pair]
             for pair in bases]  # fmt: skip
    flat = [x for pair in turns if pair is not None for x in pair]
    optimizer = torch.optim.Adam(flat, lr=how.rate)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, how))
    with torch.inference_mode(False), torch.enable_grad(), frozen(model.model):
        for step in range(how.steps):
            begin = step * length % max(1, len(ids) - length + 1)
            found = _loss(model, bases, turns, ids[begin : begin + length], how, draw)
            found.backward()
            torch.nn.utils.clip_grad_norm_(flat, 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            if progress is not None:
                progress(step + 1, how.steps)
    with torch.no_grad():
        return _turned(bases, turns)


def _share(step: int, how: Training) -> float:
    """Of the rate: it rises over the first steps and falls as a cosine over the others."""
    if step < how.warm:
        return (step + 1) / how.warm
    done = (step - how.warm) / max(1, how.steps - how.warm)
    return 0.5 + 0.5 * float(torch.cos(torch.tensor(done * torch.pi)))


def _turned(bases: AllBases, turns: Seq[list[Tensor] | None]) -> AllBases:
    found: AllBases = []
    for pair, turn in zip(bases, turns, strict=True):
        if pair is None or turn is None:
            found.append(None)
            continue
        key, value = (Bases(b.mean, b.basis @ cayley(x)) for b, x in zip(pair, turn, strict=True))
        found.append((key, value))
    return found


def drawn(model: AdaptedModel, parts: int, draw: torch.Generator) -> AllRanks:
    """Ranks at random.

    Args:
        model: whose heads have them.
        parts: multiples of a head's size over this, and one at least.
        draw: by which chance.
    """

    def some(size: int, heads: int) -> list[int]:
        each = torch.randint(1, parts + 1, (heads,), generator=draw).tolist()
        return [max(1, size * n // parts) for n in each]

    return [[some(f.head_dim, f.num_kv_heads), some(f.value_dim, f.num_kv_heads)]
            for f in model.layers]  # fmt: skip


def _loss(
    model: AdaptedModel, bases: AllBases, turns: Seq[list[Tensor] | None], ids: Tensor,
    how: Training, draw: torch.Generator,
) -> Tensor:  # fmt: skip
    start = start_of(model, len(ids), float(torch.rand(1, generator=draw)))
    full = Reading(model, len(ids), start)
    student = Truncated(
        model, len(ids), _turned(bases, turns), [drawn(model, how.parts, draw)], start, how.recent
    )
    divergence, loss = distances(model, ids, full, student)
    return how.divergence * divergence + how.loss * loss


def distances(
    model: AdaptedModel, ids: Tensor, full: Reading, student: Reading
) -> tuple[Tensor, Tensor]:
    """KL of a text's predictions to those of the whole model, and their loss, in nats a token.

    Args:
        model: the adapted model.
        ids: one text.
        full: the whole model's attention.
        student: through which gradients go.
    """
    places = full.places(len(ids))
    with torch.no_grad():
        truth = model.with_gradients(ids, places, full).float().log_softmax(-1)
    logits = model.with_gradients(ids, places, student).float().log_softmax(-1)
    apart = F.kl_div(logits, truth, log_target=True, reduction="none").sum(-1).mean()
    return apart, F.nll_loss(logits[:-1], ids[1:])


__all__ = ["Training", "cayley", "distances", "drawn", "train"]
