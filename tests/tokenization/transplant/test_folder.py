"""Where a folder is put: what was there goes, and the folder itself stays what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.folder import ORIGIN, is_ours, place


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


def test_files_of_others_in_one_of_ours_stay(tmp_path: Path) -> None:
    made = tmp_path / "made"
    place(made, write, {"by": "mean"})
    assert json.loads((made / ORIGIN).read_text())["files"] == ["model.safetensors", "sub/a.txt"]
    (made / "README.md").write_text("mine")
    (made / "sub" / "b.txt").write_text("mine, too")

    def other(aside: Path) -> None:
        aside.mkdir()
        (aside / "model.safetensors").write_text("newer")

    place(made, other, {"by": "mean"})
    assert (made / "model.safetensors").read_text() == "newer"
    assert names(made) == sorted([*WRITTEN, "README.md"]) and names(made / "sub") == ["b.txt"]
    with pytest.raises(TokenizerError, match=r"made holds sub/a\.txt, which lengthwise did not"):
        (made / "sub" / "a.txt").write_text("mine")
        place(made, write, {"by": "mean"})
    assert (made / "sub" / "a.txt").read_text() == "mine" and names(tmp_path) == ["made"]


def test_what_cannot_be_made_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(aside: Path) -> None:
        write(aside)
        raise OSError("the disk is full")

    place(tmp_path / "made", write, {"by": "mean"})
    with pytest.raises(TokenizerError, match="the disk is full"):
        place(tmp_path / "made", fail, {})
    assert names(tmp_path) == ["made"] and names(tmp_path / "made") == WRITTEN
