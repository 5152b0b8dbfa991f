"""A source that was swapped for another is told from it, whatever its size and time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lengthwise.sequences.documents import Sources
from lengthwise.sequences.files import glimpse
from lengthwise.sequences.records import Fields


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))
    return path


@pytest.mark.parametrize("size", [10, 70_000, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("where", ["start", "end", "everywhere"])
def test_a_swapped_file_of_the_same_size_and_time_has_another_fingerprint(
    tmp_path: Path, size: int, where: str
) -> None:
    place = put(tmp_path / "text.txt", b"a" * size)

    def seen() -> str:
        return Sources((str(place),), Fields()).survey().fingerprint

    before = seen()
    assert seen() == before
    other = {"start": b"b" + b"a" * (size - 1), "end": b"a" * (size - 1) + b"b",
             "everywhere": b"c" * size}[where]  # fmt: skip
    put(place, other)
    assert seen() != before
    put(place, b"a" * size)
    assert seen() == before


def test_a_small_file_is_seen_whole_and_a_large_one_in_parts(tmp_path: Path) -> None:
    small = bytearray(1 << 20)
    before = glimpse(put(tmp_path / "small", bytes(small)))
    small[(1 << 19) + 7] = 1
    assert glimpse(put(tmp_path / "small", bytes(small))) != before
    assert glimpse(put(tmp_path / "empty", b"")) == glimpse(put(tmp_path / "none", b""))
    # A stretch of an eighth of a large file cannot be missed.
    large = bytearray(8 << 20)
    before = glimpse(put(tmp_path / "large", bytes(large)))
    for start in range(0, 8 << 20, 1 << 20):
        changed = large.copy()
        changed[start : start + (1 << 20)] = b"\1" * (1 << 20)
        assert glimpse(put(tmp_path / "large", bytes(changed))) != before
