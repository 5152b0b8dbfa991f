"""`Model.search`: several texts, by transformers' names."""

from functools import lru_cache

import pytest

import lengthwise
from lengthwise.api.model import Model
from lengthwise.errors import LengthwiseError
from lengthwise.testing.tiny import tiny_model, tokens

ASKED = {"max_new_tokens": 6, "stop_ids": []}


@lru_cache(maxsize=1)
def model() -> Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


def texts(*args: object, **options: object) -> list[list[int]]:
    return [each.token_ids for each in model().search(*args, **ASKED, **options).drafts]


def test_names_of_transformers_are_methods_of_a_recipe() -> None:
    ids = tokens(20)

    def plainly(recipe: str) -> list[list[int]]:
        return [each.token_ids for each in model().generate(ids, recipe, **ASKED).drafts]

    assert texts(ids) == plainly("beam(width=4)")
    assert texts(ids, num_beams=3, length_penalty=0.5, early_stopping=True) == plainly(
        "beam(width=3, length_penalty=0.5, early_stopping=true)"
    )
    assert texts(ids, num_beams=4, num_beam_groups=2, diversity_penalty=0.7) == plainly(
        "dbs(width=4, groups=2, diversity_penalty=0.7)"
    )
    assert texts(ids, "streaming(sinks=2, window=8)", num_beams=2) == plainly(
        "streaming(sinks=2, window=8) + beam(width=2)"
    )
    assert texts(ids, "superposed") == plainly("superposed")


def test_as_many_texts_come_back_as_are_wanted() -> None:
    ids = tokens(20)
    assert texts(ids, num_return_sequences=2) == texts(ids)[:2]
    assert len(texts(ids, num_return_sequences=6)) == 6
    assert model().search(ids, num_return_sequences=1, **ASKED).token_ids == texts(ids)[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 of num_beams=2"),
        ({"num_beams": 0}, "width"),
        ({"num_return_sequences": 0}, "num_return_sequences=0"),
        ({"early_stopping": "soon"}, "early_stopping"),
        ({"num_beams": 4, "num_beam_groups": 3}, "no 3 groups"),
        ({"num_beam": 4}, "num_beams"),
    ],
)
def test_what_fits_no_search_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(LengthwiseError, match=said):
        model().search(tokens(20), **ASKED, **options)
    with pytest.raises(LengthwiseError, match="already"):
        model().search(tokens(20), "beam(width=2)", num_beams=3, **ASKED)
