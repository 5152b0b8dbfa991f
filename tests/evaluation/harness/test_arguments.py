"""Arguments that come as text: recipes with commas, and what a task asks of a text."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.harness.arguments import Writing, model_args, writing_of

RECIPE = "streaming(sinks=2, window=24) + kivi(bits=4)"


@pytest.mark.parametrize(
    "text",
    [
        f"recipe={RECIPE},pretrained=a/b,max_length=64",
        f'recipe="{RECIPE}",pretrained=a/b,max_length=64',
        f"pretrained=a/b, recipe='{RECIPE}', max_length=64,",
    ],
)
def test_a_recipe_with_commas_is_one_value(text: str) -> None:
    assert model_args(text) == {"recipe": RECIPE, "pretrained": "a/b", "max_length": 64}


def test_the_command_line_of_the_harness_reads_it_too() -> None:
    from lm_eval._cli.utils import key_val_to_dict

    for quote in ("", '"', "'"):
        text = f"recipe={quote}{RECIPE}{quote},pretrained=a/b"
        assert key_val_to_dict(text) == model_args(text) == {"recipe": RECIPE, "pretrained": "a/b"}


def test_values_are_what_they_look_like() -> None:
    text = 'a=True,b=none,c=1.5,d="7",e={"x": [1, 2]},f=snapkv(budget=25%)'
    found: dict[str, Any] = {"a": True, "b": None, "c": 1.5, "d": "7", "e": {"x": [1, 2]},
                             "f": "snapkv(budget=25%)"}  # fmt: skip
    assert model_args(text) == found
    assert model_args("") == {}


@pytest.mark.parametrize("text", ["x", "a=1,b", "=1", "a b=1", "a=1,a=2"])
def test_text_that_is_no_arguments_is_refused(text: str) -> None:
    with pytest.raises(LengthwiseError, match="model_args"):
        model_args(text)


def test_a_text_is_greedy_unless_it_is_hot() -> None:
    assert writing_of({"until": "a"}) == Writing(("a",), 256)
    assert writing_of({"max_new_tokens": 3, "do_sample": False, "temperature": 0.7}) == Writing(
        (), 3
    )
    several = {"max_gen_toks": 3, "max_tokens": 9, "until": ["", "b"]}
    assert writing_of(several) == Writing(("b",), 3)
    hot = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "num_beams": 1}
    assert dict(writing_of(hot).sampling) == {"temperature": 0.5, "top_p": 0.9}
    assert dict(writing_of({"temperature": 0.5}).sampling) == {"temperature": 0.5}
    assert dict(writing_of({"repetition_penalty": 1.2}).sampling) == {"repetition_penalty": 1.2}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"num_beams": 4}, "num_beams=4 is not done here"),
        ({"max_length": 9}, "give max_gen_toks"),
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"do_sample": True}, "without a temperature"),
        ({"max_gen_toks": 0}, "max_gen_toks=0"),
        ({"max_gen_toks": "x"}, "max_gen_toks='x'"),
        ({"until": [1]}, "give strings"),
        ({"temperature": "hot"}, "temperature='hot'"),
    ],
)
def test_what_is_not_done_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(LengthwiseError, match=told):
        writing_of(given)
