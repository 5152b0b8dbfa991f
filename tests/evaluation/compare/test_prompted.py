"""Recipes that choose what is read stand beside all others, with what choosing took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import lengthwise
from lengthwise.api.document_prompt import build_prompt
from lengthwise.evaluation.compare.comparison import compare
from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.choice import choose
from lengthwise.evaluation.reports.columns import READ, worth_showing
from lengthwise.testing.tiny import tiny_model
from tests.tiny_tokenizers import byte_level

LENGTH = 1400
TEXT = " ".join(f"Line {n} of the log says {n * n % 97}, and all is well." for n in range(200))
RECIPES = ("bm25(budget=200)", "bm25(budget=200) + kivi(bits=4, residual=32)", "bm25(budget=9999)",
           "xl3m(budget=200, segment=300)", "xl3m(budget=200, segment=9999)")  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Iterator[lengthwise.Model]:
    tiny = tiny_model("llama", vocab_size=512, max_position_embeddings=2048)
    with lengthwise.wrap(tiny, byte_level()) as model:
        yield model


@pytest.fixture(scope="module")
def rows(model: lengthwise.Model) -> Comparison:
    return compare(model, TEXT, ["Line 3?", "Line 9?"], RECIPES, [LENGTH], max_new_tokens=4)


def test_every_recipe_has_a_row_a_question(rows: Comparison) -> None:
    assert [row.recipe for row in rows if row.question == "Line 9?"] == ["full", *RECIPES]
    assert [row.recipe for row in rows if row.refused] == [RECIPES[-1]] * 2
    assert "give a smaller segment" in str(rows[-1].refused)


def test_tokens_that_choosing_read_are_counted(rows: Comparison) -> None:
    read = {row.recipe: row for row in rows if row.question == "Line 3?"}
    full, chosen, sure = (read[name] for name in ("full", RECIPES[0], RECIPES[3]))
    assert full.tokens_read == full.prompt_tokens and chosen.tokens_read == chosen.prompt_tokens
    assert chosen.prompt_tokens is not None and chosen.prompt_tokens < 250
    # Every segment once, each with a question behind it, and then the prompt.
    assert sure.tokens_read is not None and sure.tokens_read > LENGTH + (sure.prompt_tokens or 0)
    assert worth_showing(READ, list(rows), full)
    assert not worth_showing(READ, [full, full], full)


def test_a_budget_of_all_gives_the_row_of_full(rows: Comparison) -> None:
    read = {(row.recipe, row.question): row for row in rows}
    for question in ("Line 3?", "Line 9?"):
        full, whole = read["full", question], read["bm25(budget=9999)", question]
        assert whole.answer == full.answer and whole.prompt_tokens == full.prompt_tokens
        assert whole.lossless and not read[RECIPES[0], question].lossless
        for name in ("copy_loss", "needle_loss"):
            assert getattr(whole, name) == pytest.approx(getattr(full, name), abs=1e-4)


def test_what_stands_beside_it_in_the_recipe_acts(rows: Comparison) -> None:
    read = {row.recipe: row for row in rows}
    plain, coded = read[RECIPES[0]], read[RECIPES[1]]
    assert plain.prompt_tokens == coded.prompt_tokens
    assert plain.kv_bytes and coded.kv_bytes and coded.kv_bytes < 0.6 * plain.kv_bytes


def test_the_prompt_is_that_of_the_passages(model: lengthwise.Model) -> None:
    found = lengthwise.answer(model, TEXT, "Line 77?", RECIPES[0], max_new_tokens=3)
    assert any("Line 77 of" in each.text for each in found.sources)
    for each in found.sources:
        assert TEXT[each.start : each.stop] == each.text
    text = "\n\n".join(each.text for each in found.sources)
    prompt = build_prompt(model, model.encode(text, special="text"), ["Line 77?"])
    again = model.generate([*prompt.prefix, *prompt.suffixes[0]], max_new_tokens=3)
    assert again.token_ids == found.token_ids


def test_it_is_judged_by_its_probes_alone(rows: Comparison) -> None:
    """It was sooner and smaller, and no pick said so, for it had no KL."""
    own = [row for row in rows if row.question == "Line 3?"]
    full = own[0]
    good = replace(full, recipe="bm25", kl=None, agreement=None, fidelity_tokens=0,
                   kv_bytes=(full.kv_bytes or 0) // 4, ttft_s=(full.ttft_s or 0) / 4)  # fmt: skip
    bad = replace(good, recipe="xl3m", needle_loss=(full.needle_loss or 0) + 3, kv_bytes=8)
    for goal in ("speed", "memory"):
        assert choose([full, good, bad], full_is_valid=True, goal=goal).recipe == "bm25"
    unknown = replace(good, fidelity_tokens=None)
    assert choose([full, unknown], full_is_valid=True, goal="memory").recipe is None
