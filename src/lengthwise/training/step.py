"""The loss of a batch, and one step's gradient from all its batches on all ranks.

A step's loss is the sum over its predicted tokens divided by their number, on all ranks and in all
parts together. Dividing each part by its own count would weigh tokens by the company they are in:
rows vary in number and length, so parts do not hold equally many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lengthwise.training.config import TrainingError
from lengthwise.training.context import SILENT, attending_by
from lengthwise.training.data import IGNORED, Batch
from lengthwise.training.parallel import Ranks


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """What the model predicts: [rows, length, vocabulary]. It never sees the targets."""
    inputs, positions = batch.input_ids, batch.position_ids
    # A cache would make transformers ignore that positions begin anew.
    if positions is None:
        plain: Tensor = model(input_ids=inputs, use_cache=False).logits
        return plain
    if _config(model)._attn_implementation.startswith("flash"):
        # transformers hands it documents apart in a batch of one row only.
        inputs, positions = inputs.view(1, -1), positions.view(1, -1)
    found: Tensor = model(input_ids=inputs, position_ids=positions, use_cache=False).logits
    return found.view(*batch.input_ids.shape, -1)


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Nats of each target: float32 [rows, length], 0 where there is none."""
    losses = F.cross_entropy(
        logits_of(model, batch).float().flatten(0, 1), batch.targets.flatten(),
        ignore_index=IGNORED, reduction="none",
    )  # fmt: skip
    return losses.view(batch.targets.shape)


def accumulate_gradients(
    model: nn.Module, batches: Sequence[Batch], ranks: Ranks
) -> tuple[float, int]:
    """Adds the step's gradient to the model's; returns nats per token and tokens predicted.

    batches: of this rank; every rank gives equally many. Where ranks share rows, each gives its
    part of them, and its gradient is that of the whole loss by way of its part.
    """
    (predicted,) = ranks.total(sum(batch.predicted for batch in batches))
    if not predicted:
        raise TrainingError("a step has no token to predict: all of its rows are masked")
    summed = 0.0
    for number, batch in enumerate(batches, 1):
        with ranks.gradients(model, last=number == len(batches)):
            batch = batch.to(ranks.device)
            with ranks.autocast(), ranks.sharing(model, batch.row_positions):
                loss = token_losses(model, batch).sum()
            # Ranks' gradients are averaged, not summed.
            (loss * (ranks.world / predicted)).backward()
        summed += float(loss.detach())
    return ranks.total(summed)[0] / predicted, int(predicted)


@torch.no_grad()
def check_documents_are_apart(model: nn.Module, vocab_size: int, ranks: Ranks) -> None:
    """Raises TrainingError for a model that lets documents in one row see each other.

    What it predicts in the second document of two rows must not change with the first.
    """
    positions = torch.tensor([[*range(6), *range(6)], [*range(4), *range(8)]])
    ids = torch.arange(24).view(2, 12) % vocab_size
    other = ids.clone()
    other[:, :4] = (ids[:, :4] + 1) % vocab_size
    training = model.training
    model.eval()
    try:
        with ranks.autocast():
            one, two = (
                logits_of(model, Batch(each, each, positions).to(ranks.device))[:, 6:]
                for each in (ids, other)
            )
        apart = torch.allclose(one.float(), two.float(), atol=1e-6, rtol=1e-6)
    except TypeError:
        # It takes no positions.
        apart = False
    finally:
        model.train(training)
    if not apart:
        raise TrainingError(
            f"family {_config(model).model_type!r} does not keep documents in one row apart (by "
            "positions that begin anew): train on a data set built by decompose or concat, or take "
            "another family"
        )


@torch.no_grad()
def check_rows_can_be_shared(model: nn.Module, vocab_size: int, ranks: Ranks) -> None:
    """Raises TrainingError for a model that would compute something else on ranks that share rows.

    Without attention no token may change what another one predicts: only there are parts of a row
    brought together. With it, each rank must predict in its part what it predicts in whole rows.
    """
    length, number = 4 * ranks.context, ranks.rank % ranks.context
    ids = torch.arange(2 * length).view(2, length) % vocab_size
    other = ids.clone()
    other[:, : length // 2] = (ids[:, : length // 2] + 1) % vocab_size
    whole = Batch(ids, ids).to(ranks.device)
    part = whole.part(number, ranks.context)
    training = model.training
    model.eval()
    try:
        with attending_by(_config(model), SILENT):
            one, two = (
                logits_of(model, Batch(each, each).to(ranks.device))[:, length // 2 :]
                for each in (ids, other)
            )
        wanted = logits_of(model, whole).unflatten(1, (ranks.context, -1))[:, number]
        with ranks.sharing(model, part.row_positions):
            found = logits_of(model, part)
        # Experts are computed in another order when other tokens go to them.
        same = _distance(one, two) < 1e-6 and _distance(found, wanted) < 1e-4
    except (AttributeError, TypeError):
        # It takes no positions, or is lost without transformers' mask.
        same = False
    finally:
        model.train(training)
    if ranks.total(not same)[0]:
        raise TrainingError(
            f"parallel.context={ranks.context}: family {_config(model).model_type!r} cannot share "
            "a row among ranks, since its tokens meet elsewhere than in transformers' attention "
            "interface: leave it at 1, or take another family"
        )


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, in the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def _config(model: nn.Module) -> Any:
    # Data parallelism wraps the model it is given.
    return getattr(model, "module", model).config
