"""Lists of words that a user names."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.terms import read_terms


def test_lines_are_words_each_once(tmp_path: Path) -> None:
    file = tmp_path / "w"
    file.write_bytes("\ufeffone\n\n two words \none\r\n".encode())
    assert read_terms(str(file)) == ["one", "two words"]


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"\xff\xfe", "no text in UTF-8"), (b"a\0b", "binary"), (b"\n \n", "has no words")],
)
def test_what_is_no_list_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    file = tmp_path / "w"
    file.write_bytes(data)
    with pytest.raises(TokenizerError, match=told):
        read_terms(str(file))
