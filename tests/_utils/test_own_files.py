"""Files of a folder that we write anew: ours are exchanged, others' stay, and kills lose none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lengthwise._utils.own_files import exchange, files_in
from lengthwise.errors import TokenizerError

MARK = "mark.json"


def made(folder: Path, *names: str, text: str = "new", listed: bool = True) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    told = {"files": files_in(folder)} if listed else {}
    (folder / MARK).write_text(json.dumps({"by": text, **told}))
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in files_in(folder) if name != MARK}


def test_ours_are_exchanged_and_others_stay(tmp_path: Path) -> None:
    old = made(tmp_path / "old", "a", "sub/b", "sub/c", "gone/d", text="old")
    (old / "mine").write_text("mine")
    (old / "sub" / "mine").write_text("mine")
    exchange(made(tmp_path / "new", "a", "sub/c", "e/f"), old, MARK, TokenizerError)
    assert texts(old) == {
        "a": "new", "sub/c": "new", "e/f": "new", "mine": "mine", "sub/mine": "mine",
    }  # fmt: skip
    assert json.loads((old / MARK).read_text()) == {"by": "new", "files": ["a", "e/f", "sub/c"]}
    assert not (old / "gone").exists() and not (tmp_path / "new").exists()


def test_a_folder_that_is_missing_is_the_new_one(tmp_path: Path) -> None:
    exchange(made(tmp_path / "new", "a"), tmp_path / "old", MARK, TokenizerError)
    assert texts(tmp_path / "old") == {"a": "new"}


@pytest.mark.parametrize("folder", [False, True])
def test_a_name_of_others_that_is_needed_is_refused(tmp_path: Path, folder: bool) -> None:
    old = made(tmp_path / "old", "a", text="old")
    mine = old / "b"
    if folder:
        mine.mkdir()
    else:
        mine.write_text("mine")
    before = files_in(old), (old / MARK).read_text()
    with pytest.raises(TokenizerError, match="old holds b, which lengthwise did not write"):
        exchange(made(tmp_path / "new", "a", "b"), old, MARK, TokenizerError)
    assert before == (files_in(old), (old / MARK).read_text())
    assert (old / "a").read_text() == "old"


def test_of_an_older_version_weights_go_and_others_stay(tmp_path: Path) -> None:
    names = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json")
    old = made(tmp_path / "old", *names, "notes.txt", text="old", listed=False)
    new = made(tmp_path / "new", "model.safetensors", "config.json")
    exchange(new, old, MARK, TokenizerError)
    assert texts(old) == {"model.safetensors": "new", "config.json": "new", "notes.txt": "old"}


def test_a_mark_that_names_files_elsewhere_touches_none(tmp_path: Path) -> None:
    old = made(tmp_path / "old", "a", text="old")
    (tmp_path / "outside").write_text("mine")
    (old / MARK).write_text(json.dumps({"files": ["a", "../outside"]}))
    exchange(made(tmp_path / "new", "b"), old, MARK, TokenizerError)
    assert texts(old) == {"b": "new"} and (tmp_path / "outside").read_text() == "mine"


@pytest.mark.parametrize("moved", range(4))
def test_cut_short_anywhere_it_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    old = made(tmp_path / "old", "a", "gone", text="old")
    (old / "mine").write_text("mine")
    real, left = shutil.move, [moved]

    def move(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        if not left[0]:
            raise OSError("killed")
        left[0] -= 1
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "move", move)
        with pytest.raises(OSError, match="killed"):
            exchange(made(tmp_path / "new", "a", "b", "c"), old, MARK, TokenizerError)
    assert "by" not in json.loads((old / MARK).read_text())
    shutil.rmtree(tmp_path / "new")
    exchange(made(tmp_path / "new", "a", "c"), old, MARK, TokenizerError)
    assert texts(old) == {"a": "new", "c": "new", "mine": "mine"}
