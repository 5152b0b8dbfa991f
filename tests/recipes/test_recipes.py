"""Recipes read back as they print, errors point at the place, impossible pairs are refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.engine.kv_cache.placement import ORDINARY
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.base import Method
from lengthwise.methods.budget import Budget, bytes_in
from lengthwise.methods.options import Option, options, show
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.recipes import Recipe, parse, resolve
from lengthwise.recipes.registry import methods
from lengthwise.testing.laws import law_model
from lengthwise.testing.matrix import EXACT, REFUSED, judge, pairs
from lengthwise.testing.tiny import tiny

LIMIT = 1 << 20


def values(each: Option) -> st.SearchStrategy[Any]:
    low = -LIMIT if each.low is None else each.low
    high = LIMIT if each.high is None else each.high
    kinds: dict[type, st.SearchStrategy[Any]] = {
        int: st.integers(math.ceil(low), math.floor(high)),
        float: st.floats(low, high, allow_nan=False),
        bool: st.booleans(),
        str: st.text(min_size=1),
        Budget: budgets(),
    }
    found = st.sampled_from(each.choices) if each.choices is not None else kinds[each.type]
    return found | st.none() if each.optional else found


def budgets() -> st.SearchStrategy[Budget]:
    amounts = st.floats(0.001, 1e15, allow_nan=False)
    return st.one_of(
        st.builds(Budget, st.integers(1, LIMIT).map(float)),
        st.builds(Budget, st.floats(0.001, 100), st.just("%")),
        st.builds(Budget, amounts, st.sampled_from(["B", "KB", "MB", "GB", "KIB", "MIB", "GIB"])),
    )


@st.composite
def a_method(draw: st.DrawFn) -> Method:
    cls = draw(st.sampled_from(list(methods().values())))
    given_options = {each.name: draw(values(each)) for each in options(cls) if draw(st.booleans())}
    try:
        return cls(**given_options)
    except RecipeError:
        # Options that are each allowed may still not go together.
        return cls()


@settings(deadline=None)
@given(st.lists(a_method(), max_size=4))
def test_a_recipe_reads_back_as_it_prints(found: list[Method]) -> None:
    recipe = Recipe(tuple(found))
    assert parse(str(recipe)) == recipe
    assert str(parse(str(recipe))) == str(recipe)


@given(budgets())
def test_a_budget_reads_back_as_it_prints(budget: Budget) -> None:
    assert Budget.parse(str(budget)) == budget


@given(st.text(min_size=1))
def test_any_word_can_be_written(word: str) -> None:
    assert Option("word", str, "").read(word) == word or word.lower() == "none"
    assert "\n" not in show("plain")


def test_of_a_quoted_text_quotes_and_backslashes_alone_are_escaped() -> None:
    """A regular expression, or a path of Windows, is what it looks like."""
    for written, meant in (
        (r'"[a-z ]+\."', r"[a-z ]+\."), (r'"\d{3}"', r"\d{3}"), (r'"C:\new"', r"C:\new"),
        (r'"a\"b"', 'a"b'), (r'"a\\b"', r"a\b"),
    ):  # fmt: skip
        (method,) = parse(f"grammar(regex={written})").methods
        assert method.regex == meant
        assert parse(str(method)).methods == (method,)


def test_full_is_the_empty_recipe() -> None:
    assert parse("full") == Recipe() == parse(" full + full ")
    assert str(Recipe()) == "full"
    assert str(parse("full + lookup")) == "lookup"


def test_only_what_differs_from_the_default_is_printed_in_field_order() -> None:
    recipe = parse("kivi( residual = 64,bits=4 , group=32)+snapkv(budget=64MB)")
    assert str(recipe) == "kivi(bits=4, residual=64) + snapkv(budget=64MB)"


def test_budgets_are_tokens_bytes_or_a_share() -> None:
    assert [parse(f"h2o(budget={b})").methods[0].budget for b in ("2048", "64MiB", "25%")] == [
        Budget(2048), Budget(64, "MIB"), Budget(25, "%"),
    ]  # fmt: skip


@pytest.mark.parametrize("recipe", ["streaming(window={})", "kivi(group={})"])
def test_a_number_beyond_numbers_is_refused(recipe: str) -> None:
    for digits in (20, 400):
        with pytest.raises(RecipeError, match="beyond|allowed"):
            parse(recipe.format("9" * digits))
    with pytest.raises(RecipeError, match="beyond 9,223,372,036,854,775,807"):
        methods()["streaming"](window=10**400)


@pytest.mark.parametrize("unit", ["", "B", "GB", "GiB", "%"])
def test_a_budget_beyond_numbers_is_refused(unit: str) -> None:
    with pytest.raises(RecipeError, match="no machine holds so much"):
        parse(f"snapkv(budget={'9' * 400}{unit})")
    with pytest.raises(RecipeError):
        bytes_in(f"{'9' * 400}{unit}")
    assert bytes_in("4000000000") == bytes_in("4GB") == 4 * 10**9


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("yran(factor=4)", 0, "did you mean 'yarn'?"),
        (
            "full + yarn(fctor=4)",
            12,
            "did you mean 'factor'? Allowed: factor=4 (number, at least 1)",
        ),
        ("yarn(4)", 5, "yarn(factor=4)"),
        ("yarn(factor)", 11, "expected '=' and number, at least 1"),
        ("yarn(factor=x)", 12, "allowed is number, at least 1"),
        ("yarn(factor=0.5)", 12, "allowed is number, at least 1"),
        ("yarn(factor=)", 12, "needs a value"),
        ("yarn(factor=4", 13, "')' is missing"),
        ("yarn(factor=4, factor=5)", 15, "given twice"),
        ("yarn factor", 5, "expected '+' or the end"),
        ("yarn + ", 6, "found the end"),
        ("+ yarn", 0, "the name of a method"),
        ("full(x=1)", 4, "no options"),
        ("kivi(bits=3)", 10, "2, 4, 8, 16"),
        ("snapkv(budget=0)", 14, "nothing could be kept"),
        ("snapkv(budget=200%)", 14, "at most 100%"),
        ("snapkv(budget=3 apples)", 16, "expected ',' or ')'"),
        ('yarn(factor="4', 12, "closing quote"),
    ],
)
def test_an_error_points_at_the_place(text: str, at: int, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text)
    message, shown, caret = str(caught.value).split("\n")
    assert says in message
    assert shown == f"  {text}"
    assert caret.index("^") == at + 2


def test_an_empty_recipe_is_told_of_full() -> None:
    with pytest.raises(RecipeError, match="'full'"):
        parse("  ")


def test_python_values_are_checked_like_written_ones() -> None:
    assert (
        InfLLM(budget=4096)
        == InfLLM(budget=Budget(4096))
        == parse("infllm(budget=4096)").methods[0]
    )
    for bad in ({"window": "8"}, {"window": 2.5}, {"window": True}, {"budget": 1.5}):
        with pytest.raises(RecipeError, match="infllm"):
            InfLLM(**bad)


@pytest.mark.parametrize(
    ("idle", "served"),
    [
        ("rapid(mask=q)", "rapid(mask=q, mode=augmented)"),
        ("rapid(eta=3)", "rapid(eta=3, mode=augmented)"),
        ("aded(eta=0.5)", "aded(eta=0.5, learn=logits)"),
        ("lm_infinite(top_k_at=64)", "lm_infinite(top_k_at=64, top_k=5)"),
        ("lm_infinite(top_k_from=0)", "lm_infinite(top_k_from=0, top_k=1)"),
        ("infllm(cached=4)", "infllm(cached=4, offload=cpu)"),
        ("osd(every=0, loss=reverse)", "osd(every=1, loss=reverse)"),
        ("rsd(kind=constant, width=3)", "rsd(width=3)"),
        ('rsd(branching="2,1")', 'rsd(kind=constant, branching="2,1")'),
        ("sam(bias=2)", "sam(bias=2, datastore=corpus)"),
        ("swift(trials=0, seed=3)", "swift(trials=1, seed=3)"),
        ("window(chunk=4)", "window(chunk=4, retrieved=64)"),
        ("window(sinks=0, retrieved=64)", "window(sinks=0)"),
        ("window(window=8, recipe=kivi)", "window(window=8)"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(idle: str, served: str) -> None:
    with pytest.raises(RecipeError, match="does nothing without"):
        parse(idle)
    assert parse(str(parse(served))) == parse(served)


def test_heads_that_are_named_are_read_even_where_none_guess() -> None:
    model = tiny("llama")
    for recipe in ("medusa(nodes=0, path=/nowhere)", "eagle(depth=0, path=/nowhere)"):
        with pytest.raises(LengthwiseError, match="nowhere"):
            for method in parse(recipe).methods:
                method.check(model)


def test_resolve_takes_text_recipes_and_methods() -> None:
    model = tiny("llama")
    for recipe in ("yarn", parse("yarn"), parse("yarn").methods):
        assert resolve(recipe, model).text == "yarn"
    assert resolve("full", model).placement == ORDINARY
    assert resolve("full + lookup", model).lossless


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("yarn + ntk", "both decide the rotary frequencies"),
        ("self_extend + lm_infinite", "at which positions far tokens stand"),
        ("lm_infinite + infllm", "at which positions far tokens stand"),
        ("quest + hip", "both decide which keys a query reads"),
        ("snapkv + h2o", "both decide what is kept"),
        ("kivi + int8", "both decide how keys and values are stored"),
        ("lookup + lookup", "given twice"),
        ("dynamic_ntk + think", "as the text grows"),
        ("sirllm + kivi", "deletes at every step"),
        ("h2o + kivi", "deletes at every step"),
        ("h2o + self_extend", "near and at its ordinary position"),
        ("snapkv + quest", "has not deleted"),
        ("razor + infllm", "has not deleted"),
        ("streaming + quest", "nothing to work on"),
        ("lm_infinite + kivi", "nothing to work on"),
    ],
)
def test_what_cannot_work_is_refused_with_reason_and_way_out(recipe: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as caught:
        resolve(recipe, tiny("llama"))
    assert caught.value.remedy


@pytest.mark.parametrize(
    "recipe",
    [
        "yarn(factor=4) + infllm + kivi(bits=4) + lookup",
        "dynamic_ntk(length=8192) + think",
        "snapkv + think",
        "think + kivi",
        "int8 + think",
        "h2o + think",
        "sirllm + int8",
        "self_extend + quest",
        "ntk + razor",
    ],
)
def test_what_composes_is_allowed(recipe: str) -> None:
    assert resolve(recipe, tiny("llama")).text == str(parse(recipe))


def test_a_positions_method_places_what_a_selection_selects_from() -> None:
    plan = resolve("quest(window=32) + self_extend(window=512)", tiny("llama"))
    assert plan.placement.window == 512


def test_positions_are_refused_where_there_are_none_to_change() -> None:
    with pytest.raises(Refused, match="'gpt2'"):
        resolve("yarn", tiny("gpt2"))


def test_a_model_of_windows_alone_leaves_methods_nothing_to_do() -> None:
    with pytest.raises(Refused, match="window of its own"):
        resolve("kivi", tiny("mistral"))
    assert resolve("lookup", tiny("mistral")).drafters


def named(pair: tuple[type[Method], type[Method]]) -> str:
    return "+".join(cls.name for cls in pair)


@pytest.mark.parametrize(
    "pair",
    [
        # One in four soon, and not always the same methods.
        pytest.param(pair, marks=pytest.mark.slow if crc32(named(pair).encode()) % 4 else [])
        for pair in pairs()
    ],
    ids=lambda pair: named(pair),
)
def test_every_pair_is_refused_or_runs(pair: tuple[type[Method], type[Method]]) -> None:
    first, second = (cls.example() for cls in pair)
    verdict = judge((first, second), law_model("llama"))
    if verdict.kind == REFUSED:
        assert verdict.reason
    elif all(cls.chunking_exact and cls.decoding_exact for cls in pair):
        assert verdict.kind == EXACT


def test_methods_are_frozen_and_equal_by_value() -> None:
    for cls in methods().values():
        assert cls() == cls()
        for field in dataclasses.fields(cls):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(cls(), field.name, None)
