"""From bytes to what is asked: every mistake is one error that names it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.recipes import parse
from lengthwise.serving.errors import ApiError
from lengthwise.serving.naming import Names
from lengthwise.serving.protocol import UNSERVED, ChatRequest, CompletionRequest
from lengthwise.serving.reading import parse_json, read_as

HI = [{"role": "user", "content": "hi"}]


def refused(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_json(body)
    return caught.value


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (b"", "empty_body", "empty"),
        (b"{", "invalid_json", "line 1, column 2"),
        (b'{"a": 1,\n "b": }', "invalid_json", "line 2, column 7"),
        (b"[1]", "invalid_json", "array"),
        (b"3", "invalid_json", "number"),
        (b"null", "invalid_json", "null"),
        (b"\xff\xfe", "invalid_utf8", "byte 0 is 0xff"),
        (b'{"a": "\xc3\x28"}', "invalid_utf8", "byte 7 is 0xc3"),
        (b'{"a": NaN}', "invalid_json", "NaN"),
        (b'{"a": -Infinity}', "invalid_json", "-Infinity"),
        (b"[" * 200_000, "invalid_json", "levels"),
        (b'{"a": ' + b"9" * 5000 + b"}", "invalid_json", ""),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_json_object_is_told_with_its_place(body: bytes, code: str, told: str) -> None:
    error = refused(body)
    assert (error.status, error.code) == (400, code)
    assert told in error.message and "\n" not in error.message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_an_error(body: bytes) -> None:
    try:
        assert isinstance(parse_json(body), dict)
    except ApiError as error:
        json.loads(error.body())


@pytest.mark.parametrize(
    ("change", "param", "told"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "developer"),
        ({"messages": [{**HI[0], "foo": 1}]}, "messages[0].foo", "no field of messages[0]"),
        ({"messages": [{**HI[0], "name": "x"}]}, "messages[0].name", "not served"),
        ({"messages": [{**HI[0], "tool_calls": [1]}]}, "messages[0].tool_calls", "not served"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type", "text",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "list of parts"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": -1}, "max_tokens", "greater"),
        ({"max_tokens": "5"}, "max_tokens", "integer"),
        ({"max_tokens": 1.5}, "max_tokens", "integer"),
        ({"max_tokens": True}, "max_tokens", "integer"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"n": 0}, "n", "greater"),
        ({"n": 1000}, "n", "less"),
        ({"seed": 2**64}, "seed", "less"),
        ({"stop": ""}, "stop", "1 to 1,000"),
        ({"stop": 5}, "stop", "1 to 1,000"),
        ({"stop": ["a", ""]}, "stop[1]", "at least 1"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"top_logprobs": 21}, "top_logprobs", "20"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"stream_options": {"x": 1}}, "stream_options.x", "include_usage"),
        ({"recipe": ""}, "recipe", "at least 1"),
        ({"deadline_s": 0}, "deadline_s", "greater than 0"),
        ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
        ({"prompt": "x"}, "prompt", "no field"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)  # fmt: skip
def test_a_wrong_field_is_named(change: dict[str, Any], param: str, told: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_as(ChatRequest, {"messages": HI, **change})
    error = caught.value
    assert error.status == 400
    assert error.param == param
    assert told in error.message and param.rpartition(".")[2] in error.message


@pytest.mark.parametrize("prompt", [5, None, [], [[]], [1, "a"], ["a", 1], {"a": 1}, [-1], [1.5]])
def test_a_prompt_is_a_text_or_ids_or_several(prompt: Any) -> None:
    with pytest.raises(ApiError) as caught:
        read_as(CompletionRequest, {"prompt": prompt})
    assert (caught.value.param or "").startswith("prompt")


@pytest.mark.parametrize(
    ("prompt", "found"),
    [("a", ["a"]), ([1, 2], [[1, 2]]), (["a", "b"], ["a", "b"]), ([[1], [2]], [[1], [2]])],
)
def test_prompts_are_a_list_in_the_end(prompt: Any, found: Any) -> None:
    assert read_as(CompletionRequest, {"prompt": prompt}).prompts == found


# Of each field that is not served: values at which it does nothing, and one at which it would.
IDLE_AND_NOT: dict[str, tuple[Any, Any]] = {
    "audio": (None, {"voice": "x"}),
    "frequency_penalty": (0, 0.5), "function_call": ("auto", {"name": "f"}),
    "functions": ([], [{"name": "f"}]), "logit_bias": ({}, {"5": 1}),
    "modalities": (["text"], ["audio"]), "moderation": (None, {"model": "x"}),
    "parallel_tool_calls": (True, 3), "prediction": (None, {"type": "content", "content": "x"}),
    "presence_penalty": (0.0, -1), "prompt_cache_options": (None, {"mode": "x"}),
    "reasoning_effort": ("none", "high"),
    "service_tier": ("auto", "flex"), "store": (False, True), "suffix": ("", "x"),
    "tool_choice": ("none", "required"), "tools": ([], [{"type": "function"}]),
    "verbosity": ("medium", "low"), "web_search_options": (None, {"x": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSERVED)
def test_a_field_that_is_not_served_is_refused_by_name_unless_it_does_nothing(name: str) -> None:
    idle, busy = IDLE_AND_NOT[name]
    for value in (None, idle):
        assert read_as(ChatRequest, {"messages": HI, name: value}).messages
    with pytest.raises(ApiError, match="unsupported_field") as caught:
        read_as(ChatRequest, {"messages": HI, name: busy})
    assert caught.value.param == name and f"leave {name} out" in caught.value.message


def test_labels_are_taken_and_change_nothing() -> None:
    labels = {"user": "me", "metadata": {"a": "b"}, "safety_identifier": "x"}
    assert read_as(ChatRequest, {"messages": HI, **labels}) == read_as(
        ChatRequest, {"messages": HI}
    )


def test_an_answer_may_come_back_as_a_message() -> None:
    said = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "audio": None,
            "function_call": None, "tool_calls": None}  # fmt: skip
    assert read_as(ChatRequest, {"messages": [*HI, said, *HI]}).messages[1].content == "x"


def test_what_is_repeated_of_a_request_is_short() -> None:
    with pytest.raises(ApiError) as caught:
        read_as(ChatRequest, {"messages": "x" * 10**6})
    assert len(caught.value.body()) < 1000


NAMES = Names(["tiny", "org/Model:7b"], parse("lookup"))


@pytest.mark.parametrize(
    ("model", "recipe", "name", "found"),
    [
        (None, None, "tiny", "lookup"),
        ("tiny", None, "tiny", "lookup"),
        ("TINY", None, "tiny", "lookup"),
        ("tiny", "full", "tiny", "full"),
        ("tiny:full", None, "tiny:full", "full"),
        ("tiny:yarn(factor=2)+lookup", None, "tiny:yarn(factor=2) + lookup",
         "yarn(factor=2) + lookup"),
        ("tiny:kivi", "kivi", "tiny:kivi", "kivi"),
        ("org/Model:7b", None, "org/Model:7b", "lookup"),
        ("org/Model:7b:full", None, "org/Model:7b:full", "full"),
    ],
)  # fmt: skip
def test_a_recipe_stands_in_a_field_or_behind_the_name(
    model: str | None, recipe: str | None, name: str, found: str
) -> None:
    chosen = NAMES.choose(model, recipe)
    assert (chosen.name, str(chosen.recipe)) == (name, found)


@pytest.mark.parametrize(
    ("model", "recipe", "status", "param", "told"),
    [
        ("gpt-4", None, 404, "model", "known are tiny"),
        ("tinny", None, 404, "model", "did you mean 'tiny'"),
        ("tiny:", None, 422, "model", "empty"),
        ("tiny:yarm", None, 422, "model", "did you mean 'yarn'? (position 1)"),
        ("tiny", "lookup + yarn(factr=2)", 422, "recipe", "(position 15)"),
        ("tiny:kivi", "lookup", 400, "recipe", "two recipes"),
        ("tiny", "datastore(path=/etc/passwd)", 422, "recipe", "--allow-files"),
        ("tiny", "recycling(table=x)", 422, "recipe", "--allow-files"),
        ("tiny", "model(path=org/huge)", 422, "recipe", "--allow-files"),
        ("tiny", 'window(recipe="recycling(table=x)")', 422, "recipe", "--allow-files"),
        ("tiny", "osd(save=/root/x)", 422, "recipe", "--allow-files"),
    ],
)
def test_another_model_and_a_wrong_recipe_are_refused(
    model: str, recipe: str | None, status: int, param: str, told: str
) -> None:
    with pytest.raises(ApiError) as caught:
        NAMES.choose(model, recipe)
    assert (caught.value.status, caught.value.param) == (status, param)
    assert told in caught.value.message


def test_no_option_of_a_method_that_is_any_text_is_taken_from_a_call() -> None:
    """A new method's option that may name a file is refused the day it is added."""
    from lengthwise.methods.options import options
    from lengthwise.recipes.registry import find, methods
    from lengthwise.serving.naming import NESTED, NO_FILES

    harmless = {
        ("asap", "choice"),
        ("asap", "regex"),
        ("grammar", "choice"),
        ("grammar", "regex"),
        ("layers", "keep"),
        ("layers", "skip"),
        ("osd", "layers"),
        ("rasd", "layers"),
        ("rsd", "branching"),
        ("rsd", "draft"),
        ("model", "recipe"),
        ("window", "recipe"),
    }
    free = {
        (name, each.name)
        for name in methods()
        for each in options(find(name))
        if each.type is str and each.choices is None and each.name in (*NESTED, *NO_FILES)
    }  # fmt: skip
    assert free == harmless


def test_a_server_may_allow_files_and_its_own_recipe_may_name_them() -> None:
    text = "recycling(table=x)"
    assert str(Names(["tiny"], parse("full"), files=True).choose("tiny", text).recipe) == text
    own = Names(["tiny"], parse(text))
    assert str(own.choose("tiny", f"{text} + kivi").recipe) == f"{text} + kivi"
