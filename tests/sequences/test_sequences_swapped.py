"""A source that was swapped for another is told from it, whatever its size and time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lengthwise.sequences.documents import Sources
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import glimpse
from lengthwise.sequences.records import TOO_BIG, Fields
from tests.sequence_runs import run


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


def test_memory_that_leaves_out_other_files_is_another_corpus(tmp_path: Path) -> None:
    put(tmp_path / "page.html", b"<p>" + b"word " * 2_000)
    put(tmp_path / "text.txt", b"word " * 4_000)

    def seen(memory: int, *names: str) -> str:
        places = tuple(str(tmp_path / name) for name in names)
        return Sources(places, Fields(memory=memory)).survey().fingerprint

    both = "page.html", "text.txt"
    assert seen(30_000, *both) == seen(40_000, *both) != seen(70_000, *both)
    assert seen(70_000, *both) == seen(1 << 30, *both)
    # Text is read in stretches, whatever the memory.
    assert seen(30_000, "text.txt") == seen(1 << 30, "text.txt")


def test_a_build_with_more_memory_reads_what_was_left_out(tmp_path: Path) -> None:
    put(tmp_path / "page.html", b"<p>" + b"word " * 2_000)
    put(tmp_path / "text.txt", b"letters " * 100)
    sources = [tmp_path / "page.html", tmp_path / "text.txt"]
    out = tmp_path / "out"
    small = run(sources, out, "concat", fields_memory=30_000)
    assert small.manifest["skipped"][TOO_BIG]["first"] == ["page.html"]
    same = small.manifest["checksum"]
    assert run(sources, out, "concat", fields_memory=40_000).manifest["checksum"] == same
    with pytest.raises(SequenceError, match="holds something else than this build"):
        run(sources, out, "concat", fields_memory=1 << 30)
    shutil.rmtree(out)
    assert not run(sources, out, "concat", fields_memory=1 << 30).manifest["skipped"]


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
