"""Where a folder is put: what was there goes, and the folder itself stays what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.folder import is_ours, place


def write(aside: Path) -> None:
    (aside / "sub").mkdir(parents=True)
    (aside / "sub" / "a.txt").write_text("a")
    (aside / "model.safetensors").write_text("new")


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


WRITTEN = ["model.safetensors", "sub", "transplanted.json"]


def test_the_working_folder_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    place(Path("."), write, {})
    assert names(Path(".")) == names(tmp_path / "here") == WRITTEN
    assert names(tmp_path) == ["here"]


def test_a_link_to_a_folder_stays_one_and_old_contents_go(tmp_path: Path) -> None:
    (tmp_path / "real" / "old").mkdir(parents=True)
    (tmp_path / "real" / "old.txt").write_text("old")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "b.txt").write_text("b")
    (tmp_path / "real" / "other").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to("real")
    place(tmp_path / "link", write, {})
    assert (tmp_path / "link").is_symlink() and is_ours(tmp_path / "link")
    assert names(tmp_path / "real") == WRITTEN
    assert names(tmp_path) == ["kept", "link", "real"] and names(tmp_path / "kept") == ["b.txt"]


def test_what_cannot_be_made_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(aside: Path) -> None:
        write(aside)
        raise OSError("the disk is full")

    place(tmp_path / "made", write, {"by": "mean"})
    with pytest.raises(TokenizerError, match="the disk is full"):
        place(tmp_path / "made", fail, {})
    assert names(tmp_path) == ["made"] and names(tmp_path / "made") == WRITTEN
