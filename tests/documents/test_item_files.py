"""Items of a file: plain lines and JSON objects, and what is neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.documents.item_files import Item, read_items
from lengthwise.errors import DocumentError


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "items"
    path.write_bytes(data)
    return path


def test_plain_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "one\r\n\n  two two \n\u2028three".encode())
    assert read_items(path) == [Item("one", 1), Item("two two", 3), Item("three", 4)]


def test_json_lines_with_names_and_other_fields(tmp_path: Path) -> None:
    path = write(
        tmp_path, b'\n{"text": "a\\nb", "id": "x"}\n{"text": "c", "id": 7}\n{"text": "d"}\n'
    )
    assert read_items(path) == [Item("a\nb", 2, "x"), Item("c", 3, 7), Item("d", 4)]
    path = write(tmp_path, b'\xef\xbb\xbf{"body": "a", "text": 5}')
    assert read_items(path, "body") == [Item("a", 1)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty|holds no item"),
        (b" \n\n", "holds no item; write one a line"),
        (bytes(64), "items"),
        (b'{"text": "a"}\nplain\n', "line 2: no JSON object"),
        (b'{"text": "a"}\n[1]\n', "line 2: no JSON object; write"),
        (b'{"text": "a"}\n\n{"txt": "b"}\n', r'line 3: "text" must hold text.*fields here: txt'),
        (b'{"text": ""}\n', r'line 1: "text" must hold text'),
        (b'{"text": 5}\n', r'line 1: "text" must hold text'),
        (b'{"text": "a", "id": [1]}\n', r'line 1: "id" must be'),
        (b'{"text": "a", "id": true}\n', r'line 1: "id" must be'),
        (b'{"text": "a"}\n' + b"{\n" * 6, r"line 2: no JSON.*5 other lines: 3, 4, 5, 6, \.\.\."),
        (b'{"text": "a"}\n{"text": ' + b"[" * 100_000, "line 2: no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_item_is_named_with_its_line(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        read_items(write(tmp_path, data))


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nope", tmp_path):
        with pytest.raises(DocumentError, match="cannot be read"):
            read_items(path)
