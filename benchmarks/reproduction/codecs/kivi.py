"""KIVI with 8, 4 and 2 bits, unequal bits of keys and values, and keys grouped the wrong way."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.codecs.slices import COLUMNS, Start, codecs
from benchmarks.reproduction.harness import Found, check

from lengthwise.methods.codecs.kivi import Kivi, KiviCodec


class PerTokenKeys(KiviCodec):
    """KIVI with keys grouped along tokens, the paper's ablation."""

    key_axis = "token"


@check(COLUMNS)
def kivi() -> Iterator[Found]:
    """Bits of keys and values, and keys per token instead of per channel."""
    recipes = (
        Kivi(bits=8), Kivi(bits=4), Kivi(key_bits=4, value_bits=2),
        Kivi(key_bits=2, value_bits=4), Kivi(bits=2),
    )  # fmt: skip
    starts: dict[str, Start] = {str(m): m.start_codec for m in recipes}
    starts["keys per token, 4 bits"] = lambda layer: PerTokenKeys(4, 4, 32, 128)
    starts["keys per token, 2 bits"] = lambda layer: PerTokenKeys(2, 2, 32, 128)
    yield from codecs(starts)
