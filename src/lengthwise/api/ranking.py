"""Candidates behind one prompt, ranked by the model in one pass: the work of `Model.rank`.

Uni-Encoder (Song et al., Findings of ACL 2023, arXiv 2106.01263) reads a context once and lets all
candidate replies look at it under an arrow mask: positions begin anew behind the context, and no
candidate sees another. Of a decoder the candidates are branches of one tree, and the figures are
those of reading each behind the prompt. Its trained head, and a context that looks at candidates,
are an encoder's and have no place here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

from lengthwise.api.continuations import Scored, score_continuations
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt, Shield, given_ids, require_text
from lengthwise.documents.document import Document
from lengthwise.engine.branches import TOKENS
from lengthwise.errors import LengthwiseError
from lengthwise.models.limits import position_limit
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import RecipeLike

NORMALISE = ("sum", "mean")
Candidate = str | Seq[int] | Any


@dataclass(frozen=True)
class Ranked:
    """A candidate, with what the model says of it.

    index: its place among those given. text: as it was given, or decoded. token_ids: `[n]`.
    logprobs: natural log-probability of each token. greedy: whether each is the likeliest one where
    it stands. score: what it was ranked by. without: its log-probability behind the prompt that
    stands for none, where one was given.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    greedy: bool
    score: float
    without: float | None = None

    @property
    def total(self) -> float:
        """Log-probability of all tokens together."""
        return math.fsum(self.logprobs)

    @property
    def mean(self) -> float:
        """Log-probability a token."""
        return self.total / len(self.logprobs)


@no_autocast()
def rank(
    model: HeldModel, prompt: Prompt, candidates: Seq[Candidate], recipe: RecipeLike = "full", *,
    normalise: str = "sum", against: Prompt | None = None, special: str | None = None,
    chunk: int | None = None, most: int = TOKENS,
) -> list[Ranked]:  # fmt: skip
    """See `Model.rank`, whose arguments these are.

    Args:
        model: that ranks.
        prompt, candidates, recipe, normalise, against, special, chunk, most: as there.

    Raises:
        LengthwiseError: as `Model.rank` does.
    """
    if normalise not in NORMALISE:
        raise LengthwiseError(f"normalise={normalise!r}: allowed are {', '.join(NORMALISE)}")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise LengthwiseError(f"most={most!r}: give a whole number of tokens, 1 at least")
    given = _given(candidates)
    prompts = [prompt] if against is None else [prompt, against]
    contexts = [model.encode(each, special) for each in prompts]
    pairs = []
    for before, context in zip(prompts, contexts, strict=True):
        for number, candidate in enumerate(given):
            ids = _behind(model, before, context, candidate, number, special)
            _require_room(model, len(context), len(ids), number)
            pairs.append((context, ids))
    found = score_continuations(model, pairs, recipe, chunk=chunk, most=most)
    behind = found[: len(given)]
    alone: Seq[Scored | None] = found[len(given) :] or [None] * len(given)
    ranked = [
        _ranked(model, number, candidate, tuple(pairs[number][1]), normalise, scored, without)
        for number, (candidate, scored, without) in enumerate(
            zip(given, behind, alone, strict=True)
        )
    ]
    return sorted(ranked, key=lambda each: -each.score)


def _given(candidates: Seq[Candidate]) -> list[Candidate]:
    listed = isinstance(candidates, Seq) and not isinstance(candidates, (str, bytes, bytearray))
    if not listed and getattr(candidates, "ndim", 0) < 2:
        raise LengthwiseError(
            f"candidates={candidates!r:.60}: give a list of texts, or of lists of token ids"
        )
    if not len(candidates):
        raise LengthwiseError("there are no candidates; give at least one text or list of ids")
    for number, each in enumerate(candidates):
        if isinstance(each, str):
            require_text(f"candidate {number}", each)
            continue
        if isinstance(each, (int, float, bytes, bytearray, dict)) or not hasattr(each, "__len__"):
            raise LengthwiseError(
                f"candidate {number} is {each!r:.60}, a {type(each).__name__}; allowed are texts "
                "and lists of token ids"
            )
        try:
            given_ids(each)
        except LengthwiseError as error:
            raise LengthwiseError(f"candidate {number}: {error}") from None
    return list(candidates)


def _behind(
    model: HeldModel, prompt: Prompt, context: list[int], candidate: Candidate, number: int,
    special: str | None,
) -> list[int]:  # fmt: skip
    """Ids of a candidate as it stands behind its prompt.

    Behind a text it is encoded with that text, as one would read on; where the tokens of the two
    then differ from the prompt's at the border, and behind chat messages and ids, by itself.
    """
    if not isinstance(candidate, str):
        ids = given_ids(candidate)
    else:
        ids = _text_behind(model, prompt, context, candidate, special)
    if not ids:
        raise LengthwiseError(f"candidate {number} is empty; give it a token or more")
    try:
        return model.encode(ids)
    except LengthwiseError as error:
        raise LengthwiseError(f"candidate {number}: {error}") from None


def _text_behind(
    model: HeldModel, prompt: Prompt, context: list[int], candidate: str, special: str | None
) -> list[int]:
    if isinstance(prompt, Document):
        prompt, special = prompt.text, special or "text"
    if isinstance(prompt, str):
        whole = model.encode(prompt + candidate, special)
        if whole[: len(context)] == context:
            return whole[len(context) :]
    shield = Shield(model._tokenizer())
    text = candidate if isinstance(prompt, str) and special != "text" else shield.text(candidate)
    return shield.encode(text)


def _require_room(model: HeldModel, prompt: int, tokens: int, number: int) -> None:
    limit = position_limit(model.adapted)
    if limit is not None and prompt + tokens - 1 > limit:
        raise LengthwiseError(
            f"candidate {number} has {tokens:,} tokens behind a prompt of {prompt:,}, and "
            f"{model.adapted.family} has learned positions for {limit:,}; give shorter ones"
        )


def _ranked(
    model: HeldModel, number: int, candidate: Candidate, ids: tuple[int, ...],
    normalise: str, scored: Scored, without: Scored | None,
) -> Ranked:  # fmt: skip
    text = candidate if isinstance(candidate, str) else ""
    if not isinstance(candidate, str) and model.tokenizer is not None:
        text = str(model.tokenizer.decode(list(ids)))
    score, alone = math.fsum(scored.logprobs), None
    if without is not None:
        alone = math.fsum(without.logprobs)
        # Two impossible ones tell nothing of each other.
        score = score - alone if math.isfinite(alone) else score
    if normalise == "mean":
        score /= len(ids)
    return Ranked(number, text, ids, scored.logprobs, scored.greedy, score, alone)


__all__ = ["TOKENS", "Candidate", "Ranked", "rank"]
