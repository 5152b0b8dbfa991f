"""Who holds a folder, and who is told so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lengthwise._utils.locks import alone_in
from lengthwise.errors import TokenizerError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")


def test_a_second_one_is_refused_until_the_first_is_through(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    said = f"another build is at work in {folder}: wait for it, or name another folder"
    with alone_in(folder, "build"):
        with pytest.raises(TokenizerError, match=said), alone_in(folder, "build", TokenizerError):
            pass
        with alone_in(tmp_path / "other", "build"):
            pass
    with alone_in(folder, "build"):
        pass


def test_the_block_may_remove_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    for _ in range(2):
        with alone_in(folder, "build"):
            folder.rmdir()
        assert not folder.exists()


def test_a_folder_that_was_removed_between_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lengthwise._utils import locks

    folder, held = tmp_path / "a", locks.hold
    taken: list[int] = []

    def hold(handle: int, refused: TokenizerError) -> None:
        if not taken:
            folder.rmdir()
        taken.append(handle)
        held(handle, refused)

    monkeypatch.setattr(locks, "hold", hold)
    with alone_in(folder, "build"):
        assert folder.is_dir() and len(taken) == 2
        with pytest.raises(TokenizerError), alone_in(folder, "build", TokenizerError):
            pass
