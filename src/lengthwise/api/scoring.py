"""Log-probabilities of given tokens under a recipe: the work of `Model.score`."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from lengthwise.api.held_model import HeldModel
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses
from lengthwise.errors import LengthwiseError
from lengthwise.models.limits import require_positions
from lengthwise.recipes import RecipeLike


def score_ids(
    model: HeldModel, ids: Seq[int] | Tensor, recipe: RecipeLike, prompt: int | None,
    chunk: int | None, block: int,
) -> Tensor:  # fmt: skip
    """See `Model.score`, whose arguments these are.

    Args:
        model: that scores.
        ids: two tokens or more.
        recipe: under which.
        prompt: how many of them are one; None is all of them.
        chunk: tokens of a prefill forward; None leaves it to the device.
        block: tokens of a forward behind the prompt.

    Raises:
        LengthwiseError: as `Model.score` does.
    """
    for name, given in (("prompt", prompt), ("chunk", chunk), ("block", block)):
        if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
            raise LengthwiseError(f"{name}={given!r}: give a whole number")
        if given is not None and given < 1:
            raise LengthwiseError(f"{name}={given}: give at least 1")
    if prompt is None and block != 1:
        raise LengthwiseError(f"block={block} is of what follows a prompt; give prompt= too")
    tokens = model.encode(ids)
    if len(tokens) < 2:
        raise LengthwiseError("score needs at least two tokens")
    require_positions(model.adapted, len(tokens))
    plan = model.plan(recipe)
    plan.check_prompt(len(tokens) if prompt is None else prompt)
    sequence = Sequence(model.adapted, plan, expected=len(tokens))
    if prompt is None:
        losses = Losses()
        loop.prefill(sequence, tokens, chunk, losses=losses)
        return -torch.tensor(losses.values, dtype=torch.float32)
    if not 0 < prompt < len(tokens):
        raise LengthwiseError(f"prompt={prompt}: allowed is 1 to {len(tokens) - 1}")
    loop.prefill(sequence, tokens[:prompt], chunk)
    sequence.end_prefill()
    rest = tokens[prompt:]
    logits = loop.teacher_force(sequence, rest, block).float()
    targets = torch.tensor(rest, device=logits.device)[:, None]
    return torch.log_softmax(logits, -1).gather(1, targets)[:, 0].cpu()


__all__ = ["score_ids"]
