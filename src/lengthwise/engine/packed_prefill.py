"""Prompts of unequal length read together: several to a forward, none of them padded.

Zhao et al., "Prepacking: A Simple Method for Fast Prefilling and Increased Throughput in Large
Language Models", AISTATS 2025, arXiv 2404.09529. Prompts are packed into bins of as many tokens as
one forward reads; positions restart with each, and each sees itself alone.

The paper packs rows of a padded batch and unpacks what they kept. Here a forward reads one row of
tokens in any case and each prompt has a cache of its own, so a bin is one forward and nothing has
to be unpacked. A bin holds as many tokens as the device reads at once, not as the longest prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence as Seq
from functools import partial

import torch

from lengthwise._utils.bins import best_fit_decreasing
from lengthwise._utils.messages import ran_out
from lengthwise._utils.timings import Timings, Ways
from lengthwise.engine import loop
from lengthwise.engine.beside import take_back, takes_back
from lengthwise.engine.chunks import chunk_of
from lengthwise.engine.kernels import choice
from lengthwise.engine.kernels.tuning import SMALL, shape_of
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.limits import require_positions
from lengthwise.models.quantised import numbers

# Prompts, and tokens of each, for which both ways are timed: questions, and pages.
SPOTS = ((8, 16), (4, 128))

# A sequence, and tokens that it reads on.
Prompt = tuple[Sequence, Seq[int]]


def bins(prompts: Seq[Prompt], chunk: int | None = None) -> list[list[int]]:
    """Which prompts are read together, by number; those that are read alone stand alone.

    Args:
        prompts: the rows of a batch; of one model.
        chunk: tokens of a forward; None leaves it to the device.

    Returns:
        Every prompt once, the bin of the first one first.
    """
    together = [n for n, prompt in enumerate(prompts) if packs(*prompt, chunk)]
    found = [[n] for n in range(len(prompts)) if n not in set(together)]
    if together:
        model = prompts[together[0]][0].model
        lengths = {n: len(prompts[n][1]) for n in together}
        for each in pack(lengths, chunk or chunk_of(model.device, False)):
            paying = len(each) == 1 or pays(model, [lengths[n] for n in each])
            found += [each] if paying else [[n] for n in each]
    return sorted(found)


def pack(lengths: Mapping[int, int], room: int) -> list[list[int]]:
    """Which prompts fill which bin, by number, best-fit decreasing.

    Args:
        lengths: tokens of each prompt by its number, none of them more than `room`.
        room: tokens of a bin.
    """
    falling = sorted(lengths, key=lambda n: -lengths[n])
    rows = best_fit_decreasing((lengths[n] for n in falling), room)
    found: list[list[int]] = [[] for _ in set(rows)]
    for n, row in zip(falling, rows, strict=True):
        found[row].append(n)
    return [sorted(each) for each in found]


def packs(sequence: Sequence, tokens: Seq[int], chunk: int | None = None) -> bool:
    """Whether a prompt can be read beside others: alone it would take one forward, of which nothing
    but the last logits is wanted.

    Args:
        sequence: what read its beginning, or nothing yet.
        tokens: the rest.
        chunk: tokens of a forward; None leaves it to the device.
    """
    limits = (chunk or chunk_of(sequence.model.device, False), sequence.max_block())
    return (
        0 < len(tokens) <= min(limit for limit in limits if limit is not None)
        and sequence.prompt_length is None
        and not sequence.wants_token_nll
        and sequence.noted is None
        # Else what it holds would be wrong after a forward that failed.
        and takes_back(sequence)
        # Else all that it holds is read again first, with other frequencies.
        and (not len(sequence) or sequence.phase(len(tokens)) == sequence.read_with)
    )


def read_together(prompts: Seq[Prompt]) -> list[torch.Tensor | Exception]:
    """Reads prompts in one forward; does not end them.

    Args:
        prompts: that `packs` holds for.

    Returns:
        Of each the logits `[vocab]` after its last token, or why it could not be kept: memory that
            ran out.

    Raises:
        Refused: where the model has no positions for as many tokens.
    """
    for sequence, tokens in prompts:
        sequence.reading = max(sequence.reading, len(sequence) + len(tokens))
        require_positions(sequence.model, max(sequence.reading, sequence.expected - 1))
    try:
        logits, steps = loop.extend([(sequence, tokens, None) for sequence, tokens in prompts])
    except Exception:
        for sequence, _ in prompts:
            take_back(sequence)
        raise
    found: list[torch.Tensor | Exception] = []
    for (sequence, tokens), after, metadata in zip(prompts, logits, steps, strict=True):
        try:
            sequence.commit(metadata, tokens)
        except Exception as error:
            if not ran_out(error):
                raise
            found.append(error)
            continue
        sequence.last_logits = after[-1].clone()
        found.append(sequence.last_logits)
    return found


def pays(model: AdaptedModel, lengths: Seq[int]) -> bool:
    """Whether reading prompts together is faster here than one after another. Timed once for a
    model of some shape and kept (`_utils.timings`); what is not timed is read together.

    Args:
        model: that reads.
        lengths: tokens of the prompts.
    """
    timed = _timed(model)
    if not timed:
        return True
    tokens = math.log2(sum(lengths) / len(lengths))
    spot = min(timed, key=lambda each: abs(math.log2(each[1]) - tokens))
    return timed[spot]["together"] <= timed[spot]["apart"]


_TIMED: dict[str, dict[tuple[int, int], Mapping[str, float]]] = {}


def _timed(model: AdaptedModel) -> dict[tuple[int, int], Mapping[str, float]]:
    """Seconds of both ways by spot; none of models and devices that are not timed (`tuning`)."""
    weights = numbers(model.model)
    if weights < SMALL or model.device.type not in ("cpu", "cuda") or choice.fixed():
        return {}
    name = f"prompts {shape_of(model)} {len(model.layers)} layers {weights} {model.dtype_text}"
    if name not in _TIMED:
        timings = Timings(model.device)
        _TIMED[name] = {
            (rows, tokens): timings.seconds(
                f"{name} {rows}x{tokens}", partial(_ways, model, rows, tokens)
            )
            for rows, tokens in SPOTS
        }
        timings.save()
    return _TIMED[name]


def _ways(model: AdaptedModel, rows: int, tokens: int) -> Ways:
    texts = [[(row + 7 * n) % model.vocab_size for n in range(tokens)] for row in range(rows)]

    def begun() -> list[Prompt]:
        return [(Sequence(model, expected=tokens), text) for text in texts]

    ways: dict[str, Callable[[], object]] = {
        "together": lambda: read_together(begun()),
        "apart": lambda: [read_together([prompt]) for prompt in begun()],
    }
    return ways


def waste(lengths: Seq[int]) -> float:
    """The share of a padded batch's tokens that are padding.

    Args:
        lengths: tokens of its prompts.
    """
    return 1 - sum(lengths) / (len(lengths) * max(lengths))


__all__ = ["Prompt", "bins", "pack", "packs", "pays", "read_together", "waste"]
