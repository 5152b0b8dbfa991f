"""Whether texts come back: decode(encode(x)) == x, on the texts given and on random Unicode.

What does not come back is sorted by the least that explains it: line ends, spaces, case,
normalisation, lost characters, or a decoder that raises.
"""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from lengthwise._utils.messages import first_line
from lengthwise.tokenization.opened import OpenTokenizer

EXAMPLES = 3
_RANDOM, _LONGEST = 300, 24
_PIECE, _PIECES = 400, 500
# No text that was read has these line ends: reading makes plain newlines of them.
_LINE_ENDS = ("one\r\ntwo\r\n", "one\rtwo\r")


@dataclass(frozen=True, slots=True)
class Failure:
    """A text that does not come back. why: in words."""

    text: str
    got: str
    why: str


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """tried: texts. failed: of them. causes: how many failed why. examples: a few, shortened."""

    tried: int
    failed: int
    causes: dict[str, int]
    examples: tuple[Failure, ...]


def round_trip(tokenizer: OpenTokenizer, texts: Seq[str]) -> RoundTrip:
    """Which texts come back.

    Args:
        tokenizer: that encodes and decodes.
        texts: any.
    """
    causes: Counter[str] = Counter()
    examples: list[Failure] = []
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        failure = _failure(tokenizer, text, ids)
        if failure is not None:
            causes[failure.why] += 1
            if causes[failure.why] == 1 or len(examples) < EXAMPLES:
                examples.append(failure)
    told = dict(causes.most_common())
    return RoundTrip(len(texts), sum(told.values()), told, tuple(examples[:EXAMPLES]))


def _failure(tokenizer: OpenTokenizer, text: str, ids: Seq[int]) -> Failure | None:
    try:
        got = tokenizer.decode(ids)
    except Exception as error:  # a broken decoder raises anything
        return Failure(text, "", f"the decoder raises {type(error).__name__}: {first_line(error)}")
    return None if got == text else Failure(text, got, _why(text, got))


def _why(text: str, got: str) -> str:
    if _plain_ends(got) == _plain_ends(text):
        return "line ends"
    if got.strip(" ") == text.strip(" "):
        return "spaces at an end"
    if "".join(got.split()) == "".join(text.split()):
        return "spaces"
    for form in ("NFC", "NFKC", "NFD"):
        same = unicodedata.normalize(form, text)
        if "".join(got.split()) == "".join(same.split()):
            return f"normalisation ({form})"
    if "".join(got.casefold().split()) == "".join(text.casefold().split()):
        return "case"
    return "lost characters" if len(got) < len(text) else "other characters"


def _plain_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def pieces_of(texts: Seq[str]) -> list[str]:
    """Pieces of texts, evenly from all over them, that are tried for them.

    Args:
        texts: any.
    """
    starts = [
        (number, at) for number, text in enumerate(texts) for at in range(0, len(text), _PIECE)
    ]
    step = max(1, len(starts) // _PIECES)
    return [texts[number][at : at + _PIECE] for number, at in starts[::step]][:_PIECES]


def random_unicode(seed: int = 0, count: int = _RANDOM) -> list[str]:
    """Texts of characters drawn from all that Unicode assigns, ASCII and spaces among them.

    Two texts with the line ends of other systems stand behind them.

    Args:
        seed: of the draws.
        count: of texts that are drawn.
    """
    rng = random.Random(seed)

    def drawn() -> str:
        plane = rng.random()
        if plane < 0.3:
            return chr(rng.randrange(0x20, 0x7F))
        while True:
            found = chr(rng.randrange(0x10000 if plane < 0.8 else 0x20000))
            if unicodedata.category(found) not in ("Cn", "Cs", "Co"):
                return found

    texts = ["".join(drawn() for _ in range(rng.randint(1, _LONGEST))) for _ in range(count)]
    return [*texts, *_LINE_ENDS]


__all__ = ["Failure", "RoundTrip", "pieces_of", "random_unicode", "round_trip"]
