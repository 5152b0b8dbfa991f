"""Models of any kind as workflows see them."""

from __future__ import annotations

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
