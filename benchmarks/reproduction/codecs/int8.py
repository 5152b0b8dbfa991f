"""8 bits against full: see slices.py."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.codecs.slices import COLUMNS, codecs
from benchmarks.reproduction.harness import Found, check

from lengthwise.methods.codecs.int8 import Int8


@check(COLUMNS)
def int8() -> Iterator[Found]:
    """8 bits beside full attention."""
    yield from codecs({"int8": Int8().start_codec})
