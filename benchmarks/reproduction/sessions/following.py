"""How far a session is from one that read everything: KL over the tokens that follow."""

from __future__ import annotations

import inspect
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from lengthwise.api.session import Session
from lengthwise.engine.loop import teacher_force


@dataclass(frozen=True)
class Distance:
    """Of a session to full reading: mean KL in nats a token over the tokens that follow, that of
    the first of them, the share whose likeliest token is the same, and the loss."""

    mean: float
    first: float
    agree: float
    loss: float


def following(session: Session, ids: Seq[int], block: int = 64) -> Tensor:
    """Log-probabilities `[len(ids), vocab]` of what follows, fed behind what was read."""
    sequence = session.held.fork()
    sequence.end_prefill()
    return teacher_force(sequence, ids, block).float().log_softmax(-1)


def distance(found: Tensor, whole: Tensor, ids: Seq[int]) -> Distance:
    """How far laws `[n, vocab]` are from those of full reading."""
    each = (whole.exp() * (whole - found)).sum(-1).clamp_min(0)
    agree = (found.argmax(-1) == whole.argmax(-1)).float().mean()
    loss = -found[range(len(ids)), list(ids)].mean()
    return Distance(float(each.mean()), float(each[0]), float(agree), float(loss))


def source_of(module: ModuleType) -> str:
    """The text of a module of the standard library."""
    return inspect.getsource(module)


def first_layer_keys(session: Session) -> Tensor:
    """Keys `[kv_heads, n, head_dim]` of the first layer."""
    tail = session.held.head_groups(0)[0].near.tail
    assert tail is not None
    return torch.as_tensor(tail.key)
