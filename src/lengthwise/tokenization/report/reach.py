"""Tokens that a vocabulary holds and no text yields, and tokens that a model may not have learned.

Unreachable: the token's own text, alone and behind a few others, is never encoded with it. Why is
told as far as it can be:

    twin      another token has the same bytes
    merges    the model's merges do not end in it (its parts are merged otherwise)
    split     the merges would, but the text is cut or changed before they see it
    bytes     a byte that no UTF-8 text has, or one that always stands in a longer token

Glitch candidates ("Fishing for Magikarp", arXiv 2405.05417, 2024): tokens that training hardly saw
keep the embedding they began with. Where a model is given, tokens whose embeddings are nearest the
mean of those that nothing yields come first. Without any such those of the smallest norm do, which
says little: nothing shows there what an embedding that was not trained looks like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.plural import many
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.opened import OpenTokenizer
from lengthwise.tokenization.report.texts import Counts

# What a token's text is put behind: nothing, a mark that merges with little, a line, a letter ...
_BEFORE = ("", "«", "\n", "a", "1", " ")
_NO_UTF8 = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})
GLITCHES = 20


@dataclass(frozen=True, slots=True)
class Reach:
    """tokens: ids that nothing yields. causes: how many why. partial: tokens of incomplete
    characters that could not be tried. examples: a few, as (id, text, why)."""

    tokens: tuple[int, ...]
    causes: dict[str, int]
    partial: int
    examples: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True)
class Glitches:
    """never_used: tokens that the texts do not have, and their share of the vocabulary. by: how
    the candidates were found. candidates: (id, text, score), the most suspicious first."""

    never_used: int
    share: float
    by: str
    candidates: tuple[tuple[int, str, float], ...]


def unreachable(tokenizer: OpenTokenizer) -> Reach:
    """The tokens that no text yields.

    Args:
        tokenizer: whose bytes of tokens are told.
    """
    texts, parts = _by_kind(tokenizer)
    left = dict(texts)
    for before in _BEFORE:
        asked = list(left.items())
        for (token, _), ids in zip(
            asked, tokenizer.encode([before + text for _, text in asked]), strict=True
        ):
            if token in ids:
                del left[token]
    owners = Counter(each for each in tokenizer.spelled if each)
    why = {token: _why(tokenizer, token, owners) for token in left}
    untried = 0
    for token, data in parts:
        merged = tokenizer.merged(token)
        if len(data) == 1:
            if data[0] in _NO_UTF8:
                why[token] = "bytes"
        elif merged is None:
            untried += 1
        elif merged != [token]:
            why[token] = "merges"
    tokens = sorted(why)
    return Reach(
        tuple(tokens), dict(Counter(why.values()).most_common()), untried,
        tuple((token, shown(tokenizer, token), why[token]) for token in _spread(tokens)),
    )  # fmt: skip


def _by_kind(tokenizer: OpenTokenizer) -> tuple[dict[int, str], list[tuple[int, bytes]]]:
    """Tokens that are text by themselves, and those that are bytes within characters."""
    texts, parts = {}, []
    for token, data in enumerate(tokenizer.spelled):
        if data:
            try:
                texts[token] = data.decode()
            except UnicodeDecodeError:
                parts.append((token, data))
    return texts, parts


def _why(tokenizer: OpenTokenizer, token: int, owners: Counter[bytes]) -> str:
    data = tokenizer.spelled[token] or b""
    if owners[data] > 1:
        return "twin"
    merged = tokenizer.merged(token)
    if merged is None:
        return "bytes" if len(data) == 1 else "split"
    return "split" if merged == [token] else "merges"


def _spread(tokens: Seq[int], most: int = 8) -> list[int]:
    return list(tokens[:: max(1, len(tokens) // most)])[:most]


def shown(tokenizer: OpenTokenizer, token: int) -> str:
    """A token as people read it: its text, or its bytes.

    Args:
        tokenizer: that has it.
        token: an id.
    """
    data = tokenizer.spelled[token]
    if data is None:
        return f"<{token}>"
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.hex(" ")


def glitches(
    tokenizer: OpenTokenizer,
    counts: Counts,
    reach: Reach | None = None,
    embeddings: NDArray[Any] | None = None,
) -> Glitches:
    """Tokens that training may not have seen.

    Args:
        tokenizer: the model's.
        counts: how often each token stands in the texts, `[vocabulary]`.
        reach: which tokens nothing yields; they are no candidates, but what others are held to.
        embeddings: of a model's input, `[vocabulary or more, width]`; None without a model.

    Raises:
        TokenizerError: for embeddings of fewer rows than the vocabulary has tokens that are text.
    """
    never = int(np.count_nonzero(counts == 0))
    share = never / max(len(counts), 1)
    if embeddings is None:
        return Glitches(never, share, "never used on the texts", ())
    gone = set(reach.tokens if reach is not None else ())
    tokens = [t for t, each in enumerate(tokenizer.spelled) if each and t not in gone]
    if tokens and len(embeddings) <= max(tokens):
        raise TokenizerError(
            f"the model has {many(len(embeddings), 'embedding')} and {tokenizer.name} "
            f"{many(tokenizer.size, 'token')}: give the tokenizer of that model"
        )
    table = np.asarray(embeddings, dtype=np.float32)
    unused = sorted(token for token in gone if token < len(table))
    scores, by = _scores(table, unused)
    order = sorted(tokens, key=lambda token: float(scores[token]))[:GLITCHES]
    return Glitches(
        never, share, by,
        tuple((token, shown(tokenizer, token), float(scores[token])) for token in order),
    )  # fmt: skip


def _scores(table: NDArray[np.float32], unused: Seq[int]) -> tuple[NDArray[np.float32], str]:
    """A number a token, small where it is suspicious."""
    if not unused:
        return np.linalg.norm(table, axis=1), (
            "the smallest norm of an embedding (a weak sign: no token here is one that nothing "
            "yields, to hold others to)"
        )
    centred = table - table.mean(0)
    goal = centred[list(unused)].mean(0)
    lengths = np.linalg.norm(centred, axis=1) * np.linalg.norm(goal)
    near = 1 - centred @ goal / np.maximum(lengths, 1e-12)
    untrained = many(len(unused), "embedding")
    return near, f"nearest the mean of {untrained} of tokens that nothing yields (cosine)"


def require_own(tokenizer: OpenTokenizer, own: OpenTokenizer) -> None:
    """Refuses a tokenizer whose ids are other texts than a model's own has them be.

    Args:
        tokenizer: that is reported.
        own: the model's.

    Raises:
        TokenizerError: for another tokenizer.
    """
    theirs = [*own.spelled, *[None] * (tokenizer.size - own.size)]
    apart = [
        token
        for token, (mine, other) in enumerate(zip(tokenizer.spelled, theirs, strict=False))
        # One that is a mark to either is no text to compare.
        if mine and mine != other and token not in own.specials
    ]
    if apart and own.tells_bytes:
        raise TokenizerError(
            f"{tokenizer.name} is not the model's tokenizer: {many(len(apart), 'token')} of "
            f"{tokenizer.size:,} differ, such as {apart[0]:,}, which is "
            f"{shown(tokenizer, apart[0])!r} here; name the model's own tokenizer first"
        )


__all__ = ["Glitches", "Reach", "glitches", "require_own", "shown", "unreachable"]
