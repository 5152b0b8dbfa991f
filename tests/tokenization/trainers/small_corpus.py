"""A corpus in several scripts, and texts that a tokenizer has to give back."""

from __future__ import annotations

import random

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import KINDS, TokenizerKind

_TEXT = """
the house by the river was sold in 2010 for 125000 lira and 75 kuruş ; evlerimizden geldiler ,
kitapları okudular ve gözlerini kapattılar . Ein Haus am Fluß , größer als 1984 . 東京 は 大きい
都市 です 。
Река течёт медленно ; def run ( self , **options ) : return {"a": [1, 2]}
"""
_WORDS = _TEXT.split()
HARD = (
    "", " ", "\n", "\t \r\n  x", "a" * 300, "1234567890123", "9" * 2000, "Türkçe İIıi ŞĞ",
    "👩‍👩‍👧 e\u0301 \u200b\ufeff", "## ⁀x ▁y Ġz", "\x00\x01\x7f\x85", "<s></s> <|x|>",
    "日本語のテキスト。", "مرحبا بالعالم 123", "\U0010ffff\ud7ff", "f(i) (iv) 2010 </div>   10",
    "'s 'LL don't", "ab\n\n\ncd   \n   e", "x" * 65 + "é" * 40,
)  # fmt: skip


def texts(count: int = 60, seed: int = 0) -> list[str]:
    """Documents of some lines.

    Args:
        count: of them.
        seed: of their words.
    """
    chance = random.Random(seed)
    return [
        "".join(chance.choice(_WORDS) + chance.choice(("  ", " ", " ", " ", "\n"))
                for _ in range(120))
        for _ in range(count)
    ]  # fmt: skip


def small(name: str) -> TokenizerKind:
    """A kind of the registry, as a corpus of this size can be trained with.

    Args:
        name: of its entry point.
    """
    cls = KINDS.get(name)
    assert cls is not None
    options = {"kl3m": {"custom": False, "min_frequency": 2}}
    try:
        return cls(**options.get(name, {}))
    except TokenizerError as error:
        raise AssertionError(f"{name} cannot be made with its defaults") from error


def names() -> list[str]:
    """The kinds that are registered."""
    return sorted(KINDS)
