"""Models of any kind as workflows see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.api.loading import load
from lengthwise.api.text_model import LocalText
from lengthwise.api.text_models import as_text_model, identity
from lengthwise.engine.sampling import Sampling
from lengthwise.testing.prompting import letters
from tests.workflows.text_models import Words


def test_one_of_ours_gets_its_recipe_and_its_sampling() -> None:
    hot = Sampling(temperature=0.9, seed=5)
    found = as_text_model(letters(), "lookup", hot)
    assert isinstance(found, LocalText) and found.sampling == hot and found.plan.drafters
    again = as_text_model(found, "full", Sampling())
    assert isinstance(again, LocalText) and again.sampling == Sampling()
    assert again.plan is found.plan and found.sampling == hot


def test_any_other_is_as_it_is() -> None:
    words = Words()
    assert as_text_model(words) is words and identity(words) == "words"


def test_one_of_ours_is_told_by_its_weights() -> None:
    name, mark, dtype = identity(LocalText(letters())).split()
    assert name == "letters" and len(mark) == 16 and dtype == "float32"


def test_a_model_that_was_moved_is_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = letters()
    (tmp_path / "a" / "mine").mkdir(parents=True)
    model.adapted.model.save_pretrained(tmp_path / "a" / "mine")
    model.tokenizer.save_pretrained(tmp_path / "a" / "mine")
    first = identity(LocalText(load(str(tmp_path / "a" / "mine"))))
    monkeypatch.chdir((tmp_path / "a").rename(tmp_path / "b"))
    assert identity(LocalText(load("mine"))) == first
    assert first.startswith("mine ") and str(tmp_path) not in first
    (tmp_path / "b" / "mine").rename(tmp_path / "b" / "other")
    assert identity(LocalText(load("other"))) == first.replace("mine", "other")
