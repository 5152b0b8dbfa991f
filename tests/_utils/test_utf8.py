"""Bytes of a text, and the one text that has none."""

from __future__ import annotations

import pytest

from lengthwise._utils.utf8 import utf8
from lengthwise.errors import TokenizerError


def test_half_a_surrogate_pair_is_named_with_its_place() -> None:
    assert utf8("\u00fcb\U0001f600") == b"\xc3\xbcb\xf0\x9f\x98\x80"
    with pytest.raises(TokenizerError, match=r"character 2 .*U\+D800"):
        utf8("ab\ud800")
