"""Probes of long-range use, planted in the user's own document.

Fidelity to full attention says nothing where full attention itself has failed, and a smooth loss
says little about whether far text can still be read. Two probes with known answers do, and a small
model passes both when its attention works:

    copy     64 random words stand near the start; at the very end they come again. A model that
             can still read them repeats them by induction. Scored from the second copy's 9th token.
    needle   "The pass key of the red door is 4081927." stands at several depths, one colour each;
             the end asks for one of them. Compared with the same question on the plain document.

All of them share one context, so each recipe prefills once and forks the cache for every probe.
Everything here is a pure function of token ids, a tokenizer and a seed.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.words import COMMON_WORDS

COPY_WORDS = 64
COPY_DEPTH = 0.02
COPY_SKIP = 8
_LEAST_FILLER = 64
_COLOURS = (
    "red",
    "green",
    "blue",
    "yellow",
    "black",
    "white",
    "brown",
    "purple",
    "orange",
    "silver",
    "golden",
    "grey",
    "pink",
    "violet",
    "crimson",
    "copper",
)


class Tokenizer(Protocol):
    """The two calls a probe needs; every transformers tokenizer has them."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`."""

    def decode(self, token_ids: list[int]) -> str:
        """Text of `token_ids`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to a shared context: feed `suffix`, then score `target`.

    name: "copy", or "needle@0.5" with the depth asked for.
    suffix: token ids of the cue that follows the context.
    target: token ids whose loss is measured, teacher-forced, after context and suffix.
    skip: target tokens at the front that are fed but not scored.
    depth: where in the context the answer stands, from 0 (start) to 1 (end).
    answer: the target as text.
    """

    name: str
    suffix: tuple[int, ...]
    target: tuple[int, ...]
    skip: int
    depth: float
    answer: str


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """One context that holds the answers to all its probes.

    context: token ids, the document with everything planted in it.
    control: as many token ids of the plain document, in which nothing is planted.
    probes: what to ask, the copy probe first, needles by depth.
    planted: positions of the context, as half-open ranges in their order, whose tokens are not the
        document's.
    """

    context: tuple[int, ...]
    control: tuple[int, ...]
    probes: tuple[Probe, ...]
    planted: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Plant:
    ids: tuple[int, ...]
    probe: Probe


def probe_context(
    document_ids: Sequence[int],
    tokenizer: Tokenizer,
    length: int,
    depths: Sequence[float] = (0.1, 0.5, 0.9),
    seed: int = 0,
    copy: bool = True,
) -> ProbeSet:
    """The copy probe and one needle per depth in a single context of the user's document.

    The context has exactly `length` minus the longest suffix-with-target tokens, so context, suffix
    and target together never exceed `length`. What is planted stands after the end of a line or a
    sentence where one is near, else exactly at its depth.

    Args:
        document_ids: token ids of the document, special tokens as the model wants them. Only the
            start that fits is used.
        tokenizer: of the model.
        length: in tokens.
        depths: where needles stand, each from 0 to 1.
        copy: whether the copy probe is among them.
        seed: of the words, colours and keys.

    Returns:
        The context with its probes.

    Raises:
        DocumentError: when the document is too short for `length`.
        LengthwiseError: when `length` is too short for the probes, or the depths are not usable.
    """
    rng = random.Random(seed)
    plants = [_copy_plant(tokenizer, rng)] if copy else []
    plants += _needle_plants(tokenizer, depths, rng)
    return _plant_all(document_ids, tokenizer, length, plants)


def copy_probe(
    document_ids: Sequence[int], tokenizer: Tokenizer, length: int, seed: int = 0
) -> ProbeSet:
    """Only the copy probe; context length, arguments and errors as in `probe_context`."""
    plants = [_copy_plant(tokenizer, random.Random(seed))]
    return _plant_all(document_ids, tokenizer, length, plants)


def continuation(
    document_ids: Sequence[int], length: int, tokens: int = 64
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The first `length` tokens of the document as (context, its last `tokens` tokens).

    The second part is fed teacher-forced to compare a recipe's predictions with full attention's.
    Raises DocumentError when the document is shorter than `length`.
    """
    if not 0 < tokens < length:
        raise LengthwiseError(
            f"a continuation of {tokens} tokens does not fit a length of {length}: "
            f"allowed are 1 to {length - 1}"
        )
    _require(document_ids, length, f"a length of {length:,}")
    cut = length - tokens
    return tuple(document_ids[:cut]), tuple(document_ids[cut:length])


def position_bins(n: int, bins: int = 16) -> list[tuple[int, int]]:
    """`n` positions cut into at most `bins` half-open ranges whose sizes differ by at most one."""
    if n < 1 or bins < 1:
        raise LengthwiseError(f"cannot cut {n} positions into {bins} bins: both must be 1 or more")
    bins = min(n, bins)
    edges = [n * i // bins for i in range(bins + 1)]
    return list(pairwise(edges))


def mean_by_bin(
    losses: Sequence[float], bins: Sequence[tuple[int, int]]
) -> list[tuple[int, float]]:
    """(position in the middle of the bin, mean loss in nats) for each bin of `position_bins`.

    losses: loss of the token at every position, from position 0 on.
    """
    if not bins or bins[-1][1] > len(losses):
        raise LengthwiseError(f"the bins do not fit {len(losses)} losses")
    return [((a + b) // 2, float(sum(losses[a:b])) / (b - a)) for a, b in bins]


def _copy_plant(tokenizer: Tokenizer, rng: random.Random) -> _Plant:
    words = " ".join(rng.sample(COMMON_WORDS, COPY_WORDS))
    cue = _encode(tokenizer, "\nA list of words:")
    # The same ids stand in both copies, so that the second one is predictable token by token.
    target = _encode(tokenizer, " " + words)
    probe = Probe("copy", cue, target, COPY_SKIP, COPY_DEPTH, words)
    return _Plant(cue + target + _encode(tokenizer, "\n"), probe)


def _needle_plants(
    tokenizer: Tokenizer, depths: Sequence[float], rng: random.Random
) -> list[_Plant]:
    if not 0 < len(depths) <= len(_COLOURS):
        raise LengthwiseError(f"{len(depths)} depths: allowed are 1 to {len(_COLOURS)}")
    for depth in depths:
        if not 0 <= depth <= 1:
            raise LengthwiseError(f"depth {depth} is outside the context: allowed are 0 to 1")
    if len(set(depths)) < len(depths):
        raise LengthwiseError(f"depths {list(depths)} repeat: name each one once")
    colours = rng.sample(_COLOURS, len(depths))
    keys = rng.sample(range(1_000_000, 10_000_000), len(depths))
    return [
        _needle_plant(tokenizer, depth, colour, str(key))
        for depth, colour, key in zip(sorted(depths), colours, keys, strict=True)
    ]


def _needle_plant(tokenizer: Tokenizer, depth: float, colour: str, key: str) -> _Plant:
    cue = _encode(tokenizer, f"\nThe pass key of the {colour} door is")
    answer = _encode(tokenizer, f" {key}")
    # Where a tokenizer keeps the space apart it is part of the cue: predicting it is no retrieval.
    while len(answer) > 1 and not tokenizer.decode([answer[0]]).strip():
        cue, answer = (*cue, answer[0]), answer[1:]
    probe = Probe(f"needle@{depth:g}", cue, answer, 0, depth, key)
    return _Plant(cue + answer + _encode(tokenizer, ".\n"), probe)


def _plant_all(
    document_ids: Sequence[int], tokenizer: Tokenizer, length: int, plants: Sequence[_Plant]
) -> ProbeSet:
    tail = max(len(plant.probe.suffix) + len(plant.probe.target) for plant in plants)
    added = sum(len(plant.ids) for plant in plants)
    least = tail + added + _LEAST_FILLER
    if length < least:
        raise LengthwiseError(
            f"a length of {length:,} is too short for the probes: they need at least {least:,}"
        )
    context_length = length - tail
    _require(document_ids, context_length, f"probes at a length of {length:,}")
    filler = list(document_ids[: context_length - added])
    boundaries = _boundaries(filler, tokenizer, [plant.probe.depth for plant in plants])
    context: list[int] = []
    planted: list[tuple[int, int]] = []
    start = 0
    for end, plant in sorted(zip(boundaries, plants, strict=True), key=lambda pair: pair[0]):
        context += filler[start:end]
        planted.append((len(context), len(context) + len(plant.ids)))
        context += plant.ids
        start = end
    context += filler[start:]
    return ProbeSet(
        context=tuple(context),
        control=tuple(document_ids[:context_length]),
        probes=tuple(plant.probe for plant in plants),
        planted=tuple(planted),
    )


def _boundaries(ids: list[int], tokenizer: Tokenizer, depths: Sequence[float]) -> list[int]:
    """For each depth, the number of tokens to let stand before the plant."""
    reach = min(64, len(ids) // 20)
    places = []
    for depth in depths:
        exact = round(depth * len(ids))
        # The first token may be a special one that has to stay first.
        low, high = max(1, exact - reach), min(len(ids), exact + reach)
        ends = [end for end in range(low, high + 1) if _ends_sentence(ids, end, tokenizer)]
        places.append(_nearest(ends, exact) if ends else max(1, exact))
    return places


def _ends_sentence(ids: list[int], end: int, tokenizer: Tokenizer) -> bool:
    if end == len(ids):
        return True
    text = tokenizer.decode([ids[end - 1]])
    if text.endswith("\n"):
        return True
    # Decoding the pair keeps the space between the tokens, which some tokenizers drop at the front.
    after = tokenizer.decode([ids[end - 1], ids[end]]).removeprefix(text)
    return text.endswith((".", "!", "?")) and after[:1].isspace()


def _nearest(ordered: list[int], value: int) -> int:
    right = bisect.bisect_left(ordered, value)
    return min(ordered[max(0, right - 1) : right + 1], key=lambda place: abs(place - value))


def _encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _require(document_ids: Sequence[int], needed: int, what: str) -> None:
    if len(document_ids) < needed:
        raise DocumentError(
            f"{what} needs {needed:,} tokens of document and there are {len(document_ids):,}: "
            "give a longer document or a smaller --length"
        )
