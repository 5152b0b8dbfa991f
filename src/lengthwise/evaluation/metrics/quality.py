"""What a recipe keeps of what full attention gives: probes, losses by position, fidelity.

Nothing here is timed. Losses by position are those of every token of the document while it is read.
Where probes stand in it, planted tokens are left out. So all recipes are asked for the same tokens
of the same text. Fidelity is taken from a continuation of hundreds of tokens, fed as decoding would
feed them, where full attention is valid.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.forced import forced
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import FULL
from lengthwise.evaluation.metrics.intervals import curve, outside, standard_error, wilson
from lengthwise.evaluation.metrics.reading import Reader
from lengthwise.evaluation.tasks.probes import ProbeSet

# Fidelity is measured in this many tokens (or the whole text, where that is shorter): far enough to
# need a cache, short enough that full attention is valid for every model of today.
FIDELITY_LENGTH = 4096
# Of them the last so many are predicted (half of them, where there are fewer): agreement of 90% is
# then known to about 2.6%.
FIDELITY_TOKENS = 512


def quality(reader: Reader) -> dict[str, Any]:
    """The quality fields of a row, on forks of readings that are not timed."""
    case = reader.case
    if not case.quality:
        return {}
    found = _probe(reader, case.probes) if case.probes is not None else _plain_curve(reader)
    # Where full attention itself could not be measured there is nothing to be faithful to.
    if case.fidelity is not None and (reader.plan.text == FULL.text or case.truth is not None):
        found |= _fidelity(reader, *case.fidelity)
    return found


def forced_loss(sequence: Sequence, tokens: Seq[int]) -> float:
    """Mean -log p of given tokens after a prompt that was read and ended, nats a token."""
    losses: list[float] = []
    for logits in forced(sequence, tokens):
        part = tokens[len(losses) : len(losses) + len(logits)]
        targets = torch.tensor(part, device=logits.device)
        losses += F.cross_entropy(logits.float(), targets, reduction="none").tolist()
    return fmean(losses)


def _probe(reader: Reader, probes: ProbeSet) -> dict[str, Any]:
    room = max(len(p.suffix) + len(p.target) for p in probes.probes)
    read = reader.read("probes", probes.context, room, Losses())
    by_name: dict[str, float] = {}
    depths: list[tuple[float, float]] = []
    reader.progress.stage(f"{reader.plan.text}: probing", len(probes.probes), "probes")
    for probe in probes.probes:
        sequence = reader.fork(read.sequence)
        loop.prefill(sequence, probe.suffix, reader.chunk)
        sequence.end_prefill()
        logits = torch.cat(list(forced(sequence, probe.target))).float()
        targets = torch.tensor(probe.target, device=logits.device)
        loss = F.cross_entropy(logits, targets, reduction="none")
        by_name[probe.name] = float(loss[probe.skip :].mean())
        if probe.name.startswith("needle"):
            depths.append((probe.depth, by_name[probe.name]))
        reader.progress.advance(1)
    return {
        "copy_loss": by_name["copy"],
        "needle_loss": fmean(loss for _, loss in depths),
        "needle_by_depth": tuple(depths),
        **_curve(reader, read.losses, outside(probes.planted, len(probes.context))),
    }


def _plain_curve(reader: Reader) -> dict[str, Any]:
    """Losses by position of a text that is too short for anything to be planted in it."""
    document = reader.case.document
    read = reader.read("text", document, 0, Losses())
    return _curve(reader, read.losses, outside((), len(document)))


def _curve(reader: Reader, losses: Losses | None, own: Seq[bool]) -> dict[str, Any]:
    if losses is None or not losses.values:
        return {}
    by_position = {
        place: loss
        for place, loss in zip(losses.positions, losses.values, strict=True)
        if own[place]
    }
    if reader.plan.text == FULL.text:
        reader.case.full_losses = by_position
    bins = curve(by_position, reader.case.full_losses, len(own))
    points = tuple(((each["start"] + each["stop"]) // 2, each["mean"]) for each in bins)
    return {"loss_by_position": points, "loss_bins": bins}


def _fidelity(reader: Reader, context: Seq[int], rest: Seq[int]) -> dict[str, Any]:
    """Top-1 agreement and KL(full || recipe) over a teacher-forced continuation."""
    read = reader.read("fidelity", context, len(rest))
    sequence = reader.fork(read.sequence)
    sequence.end_prefill()
    reader.progress.stage(f"{reader.plan.text}: comparing with full", len(rest), "tokens")
    truth = None if reader.plan.text == FULL.text else reader.case.truth
    kept: list[Tensor] = []
    agreed = 0
    divergence: list[float] = []
    for logits in forced(sequence, rest):
        done = len(divergence)
        right = logits if truth is None else truth[done : done + len(logits)]
        agreed += int((logits.argmax(-1) == right.argmax(-1)).sum())
        ours, theirs = (torch.log_softmax(each.float(), -1) for each in (logits, right))
        divergence += (theirs.exp() * (theirs - ours)).sum(-1).tolist()
        if truth is None:
            kept.append(logits.clone())
        reader.progress.advance(len(logits))
    if truth is None:
        reader.case.truth = torch.cat(kept)
    n = len(rest)
    return {
        "agreement": agreed / n,
        "agreement_interval": None if truth is None else wilson(agreed, n),
        "kl": max(0.0, fmean(divergence)),
        "kl_error": None if truth is None else standard_error(divergence),
        "fidelity_tokens": n,
        "fidelity_length": len(context) + n,
    }
