"""Several files in one text know where each of them stands; a folder of too many is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import lengthwise
from lengthwise.documents import folders
from lengthwise.errors import DocumentError


def test_a_place_in_the_text_is_one_in_a_file_and_back(tmp_path: Path) -> None:
    texts = {"a.txt": "\n\nFirst.\n", "b.txt": "Second line.\nThird.", "c.txt": "Fourth."}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    document = lengthwise.read([tmp_path / name for name in texts])
    for name, text in texts.items():
        kept = text.strip("\n")
        start = text.index(kept)
        place = document.place(name, start, start + len(kept))
        assert place is not None and document.text[slice(*place)] == kept
        assert document.places(*place) == [(name, kept, start, start + len(kept))]
    assert document.place("d.txt", 0, 1) is None and document.place("c.txt", 0, 99) is None
    assert document.place("a.txt", 0, 2) is None
    found = document.places(0, len(document.text))
    assert [(name, text) for name, text, _, _ in found] == [
        (name, text.strip("\n")) for name, text in texts.items()
    ]
    # The line between two files is of neither.
    head = document.text.index("==> b.txt")
    assert document.places(head, head + 9) == []


def test_a_text_alone_is_its_own_place() -> None:
    document = lengthwise.Document("d", "Some text.")
    assert document.places(2, 6) == [("d", "me t", 2, 6)]
    assert document.place("d", 2, 6) == (2, 6)
    assert document.place("e", 2, 6) is None is document.place("d", 2, 99)


def test_a_folder_of_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(f"Text {number}.")
    monkeypatch.setattr(folders, "MOST_FILES", 6)
    assert len(lengthwise.read(tmp_path).parts) == 6
    monkeypatch.setattr(folders, "MOST_FILES", 5)
    with pytest.raises(DocumentError, match="holds more than 5 files and folders: name a folder"):
        lengthwise.read(tmp_path)
