"""Counts of pieces: in one order, kept, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers import piece_counts
from lengthwise.tokenization.trainers.byte_level import cutter
from lengthwise.tokenization.trainers.piece_counts import count_pieces


def _told(what: str, share: float) -> None:
    pass


def test_frequent_pieces_come_first_and_are_read_again(tmp_path: Path) -> None:
    found = count_pieces(lambda: iter(["b a b", " c"]), cutter(), tmp_path, _told)
    assert list(found.items()) == [(" a", 1), (" b", 1), (" c", 1), ("b", 1)]

    def unread() -> Iterator[str]:
        raise AssertionError("the corpus is read again")

    assert count_pieces(unread, cutter(), tmp_path, _told) == found


def test_rare_pieces_go_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piece_counts, "MOST", 50)
    rare = [" ".join(f"w{letter}{other}" for letter in "abcdefgh") + " often" * 9
            for other in "ijklmnopqr"]  # fmt: skip
    found = count_pieces(lambda: iter(rare), cutter(), tmp_path, _told)
    assert len(found) <= 50 and found[" often"] == 90


def test_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no text"):
        count_pieces(lambda: iter([]), cutter(), tmp_path, _told)
