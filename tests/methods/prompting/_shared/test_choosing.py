"""Documents are cut once for a tokenizer, whoever asks by it, and are gone with it."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.api.tokenizer_text import TokenizerText
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting._shared import choosing
from lengthwise.methods.prompting.bm25 import BM25
from lengthwise.methods.prompts import TextModel
from lengthwise.testing.prompting import letters
from tests.methods.prompting.noting import Noting

TEXT = "Bo is a dog. " * 9
METHOD = BM25(budget=Budget(20), passage=16)


def test_what_is_cut_belongs_to_a_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[str] = []
    real = choosing.passages
    monkeypatch.setattr(choosing, "passages", lambda *a: cut.append(a[1].name) or real(*a))
    other = TokenizerText(copy.deepcopy(letters().tokenizer), "other", 64)

    def ask(model: TextModel) -> int:
        METHOD.write_prompt([TEXT], "dog", model)
        return len(cut)

    before = ask(LocalText(letters()))
    assert ask(LocalText(letters())) == before
    assert ask(other) == before + 1 and cut[-1] == "other"
    assert ask(other) == ask(LocalText(letters())) == before + 1


def test_a_model_whose_tokenizer_cannot_be_held_weakly_is_held_itself() -> None:
    tokenizer = letters().tokenizer
    assert tokenizer is not None
    for other in (None, tokenizer.backend_tokenizer):
        model = Noting(str.upper)
        model.tokenizer = other  # type: ignore[attr-defined]
        assert "dog" in METHOD.write_prompt([TEXT], "dog", model).text and model in choosing._CUT


def test_a_tokenizer_is_not_kept_for_what_was_cut() -> None:
    tokenizer = copy.deepcopy(letters().tokenizer)
    METHOD.write_prompt([TEXT], "dog", TokenizerText(tokenizer, "other", 64))
    held = len(choosing._CUT)
    there = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert there() is None and len(choosing._CUT) == held - 1
