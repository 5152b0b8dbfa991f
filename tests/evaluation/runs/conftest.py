"""Models behind servers whose tokens are letters: reading the embedded tokenizer takes seconds."""

from __future__ import annotations

import pytest

from lengthwise.api import connecting
from lengthwise.testing.prompting import letters


@pytest.fixture
def letters_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "embedded_tokenizer", lambda: letters().tokenizer)
