"""What `compare` says of a recipe rests on the same tokens for all, on enough of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.compare import answering, comparison as module
from lengthwise.evaluation.compare.comparison import compare
from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.intervals import curve, wilson
from lengthwise.evaluation.tasks.probes import probe_context
from lengthwise.testing.tiny import tiny_model
from tests.tiny_tokenizers import byte_level

TRAINED = 2048
LENGTH = 1400
TEXT = " ".join(f"Line {n} of the log says {n * n % 97}, and all is well." for n in range(200))
RECIPES = ("streaming(window=64)", "snapkv(budget=25%)", "yarn(factor=2)", "lookup")


def wrapped(dtype: torch.dtype = torch.float32, trained: int = TRAINED) -> lengthwise.Model:
    model = tiny_model("llama", vocab_size=512, max_position_embeddings=trained)
    return lengthwise.wrap(model.to(dtype), byte_level())


@pytest.fixture(scope="module")
def model() -> Iterator[lengthwise.Model]:
    with wrapped() as model:
        yield model


@pytest.fixture(scope="module")
def rows(model: lengthwise.Model) -> Comparison:
    return compare(model, TEXT, ["Who?", "Why?"], RECIPES, [LENGTH], max_new_tokens=4)


def by_recipe(rows: Comparison) -> dict[str, Any]:
    return {row.recipe: row for row in reversed(rows)}


# The curve.


@pytest.mark.parametrize("chunk", [252, 100])
def test_chunks_do_not_decide_the_curve(
    model: lengthwise.Model, rows: Comparison, chunk: int
) -> None:
    whole = rows[0]
    (parts,) = compare(model, TEXT, ["Who?"], [], [LENGTH], max_new_tokens=1, chunk=chunk)
    assert whole.loss_by_position is not None and parts.loss_by_position is not None
    # Bins of which every token is planted have none of the document.
    assert 8 < len(whole.loss_by_position) <= 16
    for (place, loss), (there, other) in zip(
        whole.loss_by_position, parts.loss_by_position, strict=True
    ):
        assert place == there and loss == pytest.approx(other, abs=1e-4)


def test_every_recipe_has_the_losses_of_every_token_of_the_document(
    model: lengthwise.Model, rows: Comparison
) -> None:
    ids = model.encode(TEXT, special="text")[:LENGTH]
    probes = probe_context(ids, byte_level(), LENGTH)
    planted = sum(stop - start + 1 for start, stop in probes.planted)
    for row in rows:
        assert row.loss_bins is not None
        # All but the first token, what is planted, and the token after each plant.
        assert sum(each["n"] for each in row.loss_bins) == len(probes.context) - 1 - planted
        edges = [edge for each in row.loss_bins for edge in (each["start"], each["stop"])]
        assert edges == sorted(edges)
        assert all(each["error"] > 0 for each in row.loss_bins)


def test_what_is_planted_is_no_part_of_the_curve(model: lengthwise.Model) -> None:
    ids = model.encode(TEXT, special="text")[:LENGTH]
    probes = probe_context(ids, byte_level(), LENGTH)
    assert len(probes.planted) == 4
    edges = [0, *itertools.chain(*probes.planted), len(probes.context)]
    own = [t for a, b in zip(edges[::2], edges[1::2], strict=True) for t in probes.context[a:b]]
    assert own == ids[: len(own)]
    for probe in probes.probes:
        said = [probes.context[start:stop] for start, stop in probes.planted]
        assert sum(probe.target == s[len(probe.suffix) :][: len(probe.target)] for s in said) == 1
    # A plant that no model can guess would be seen in the curve of the text.
    losses = {place: 9.0 if probes.planted[0][0] <= place < probes.planted[0][1] else 1.0
              for place in range(1, len(probes.context))}  # fmt: skip
    bins = curve(losses, None, len(probes.context))
    assert max(each["mean"] for each in bins) > 2


def test_what_a_recipe_loses_over_full_is_told_token_by_token(rows: Comparison) -> None:
    found = by_recipe(rows)
    full, streaming = found["full"].loss_bins, found["streaming(window=64)"].loss_bins
    assert all(each["over_full"] == 0 for each in full)
    for ours, theirs in zip(streaming, full, strict=True):
        assert ours["over_full"] == pytest.approx(ours["mean"] - theirs["mean"], abs=1e-9)
    # Within its window nothing is lost; the error of the difference is not that of the text.
    assert abs(streaming[0]["over_full"]) < abs(streaming[-1]["over_full"])
    assert 0 < streaming[-1]["over_full_error"] < streaming[-1]["error"]
    assert found["snapkv(budget=25%)"].reads_as_full and not found["yarn(factor=2)"].reads_as_full


# Agreement and KL.


def test_agreement_and_kl_rest_on_hundreds_of_tokens(rows: Comparison) -> None:
    for row in rows:
        assert (row.fidelity_tokens, row.fidelity_length) == (512, LENGTH)
        if row.recipe == "full":
            assert row.agreement == 1 and row.agreement_interval is None and row.kl_error is None
            continue
        assert row.agreement is not None and row.agreement_interval is not None
        assert row.agreement_interval == wilson(round(row.agreement * 512), 512)
        assert row.kl_error is not None
    streaming, lookup = (by_recipe(rows)[name] for name in ("streaming(window=64)", "lookup"))
    assert streaming.kl > 0 and streaming.kl_error > 0 and lookup.kl < 1e-6


def test_half_of_a_short_text_is_compared(model: lengthwise.Model) -> None:
    (row,) = compare(model, TEXT, ["Who?"], [], [200], max_new_tokens=1)
    assert (row.fidelity_tokens, row.fidelity_length) == (100, 200)


# A text that is too short for probes.


@pytest.mark.parametrize("length", [1, 2, 40])
def test_a_short_text_is_measured_without_probes(model: lengthwise.Model, length: int) -> None:
    found = compare(model, TEXT, ["Who?"], ["streaming(window=64)"], [length], max_new_tokens=2)
    for row in found:
        assert row.refused is None and row.answer is not None
        assert row.copy_loss is None and row.needle_loss is None
        assert "too short for the probes" in " ".join(row.notes)
        assert (row.loss_bins is None) == (length == 1)
        assert row.fidelity_tokens == (length // 2 or None)
    assert found.best().recipe is None


def test_probes_that_are_asked_for_are_not_left_out(model: lengthwise.Model) -> None:
    with pytest.raises(LengthwiseError, match="too short for the probes.*--no-probes"):
        compare(model, TEXT, ["Who?"], [], [40], probes=True)


# What was asked, and what is known.


def test_rows_say_what_was_read_asked_and_said(rows: Comparison, model: lengthwise.Model) -> None:
    for row in rows:
        assert row.prompt_tokens == LENGTH + len(
            byte_level().encode(f"\n\n{row.question}\nAnswer:", add_special_tokens=False)
        )
        assert row.max_new_tokens == 4 and 0 <= (row.answer_tokens or 0) <= 4
        assert row.kv_offloaded_bytes == 0 and row.expected is None


def test_expected_answers_are_looked_for_and_their_loss_measured(model: lengthwise.Model) -> None:
    (plain,) = compare(model, TEXT, ["Who?"], [], [300], max_new_tokens=3, probes=False)
    one, other = compare(
        model, TEXT, ["Who?", "Why?"], [], [300], max_new_tokens=3, probes=False,
        expect=["a b", "Nobody"],
    )  # fmt: skip
    assert (one.expected, other.expected) == ("a b", "Nobody")
    assert other.expected_found is False
    assert one.answer == plain.answer
    prompt = [*model.encode(TEXT, special="text")[:300],
              *byte_level().encode("\n\nWho?\nAnswer:", add_special_tokens=False)]  # fmt: skip
    target = byte_level().encode(" a b", add_special_tokens=False)
    log_p = model.score([*prompt, *target], prompt=len(prompt))
    assert one.expected_loss == pytest.approx(-float(log_p.mean()), abs=1e-4)


@pytest.mark.parametrize("expect", [["a"], ["a", "b", "c"], ["a", " ! "]])
def test_an_expected_answer_goes_with_each_question(
    model: lengthwise.Model, expect: list[str]
) -> None:
    with pytest.raises(LengthwiseError, match="expect"):
        compare(model, TEXT, ["Who?", "Why?"], [], [300], expect=expect)


def test_one_expected_answer_may_be_given_as_text(model: lengthwise.Model) -> None:
    (row,) = compare(model, TEXT, ["Who?"], [], [300], max_new_tokens=1, probes=False, expect="abc")
    assert row.expected == "abc"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0: give at least 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5: give a whole number"),
        ({"chunk": 0}, "chunk=0: give at least 1"),
        ({"lengths": True}, "lengths=True: give a whole number"),
        ({"lengths": "64"}, "lengths='64': give a whole number"),
        ({"lengths": 64.5}, "lengths=64.5: give a whole number"),
        ({"lengths": [64, 0]}, "lengths=0: give at least 1"),
    ],
)
def test_numbers_that_are_none_are_refused_before_anything_runs(
    model: lengthwise.Model, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(LengthwiseError, match=re.escape(words)):
        lengthwise.compare(model, "some text " * 40, **given)


def test_an_unknown_goal_is_refused_before_anything_runs(model: lengthwise.Model) -> None:
    with pytest.raises(LengthwiseError, match="quality, speed, memory"):
        compare(model, "no-such-text", [], [], goal="cheap")


# Texts that differ, and notes.


def test_a_text_that_left_plain_decoding_is_known_and_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipes = ["snapkv(budget=25%) + lookup", "typical + lookup"]
    with wrapped(torch.bfloat16) as model:
        arguments = (model, TEXT, ["Who?"], ["lookup", *recipes], [400])
        found = by_recipe(compare(*arguments, max_new_tokens=8, probes=False))
        said = {
            recipe: model.generate(
                [*model.encode(TEXT, special="text")[:400],
                 *byte_level().encode("\n\nWho?\nAnswer:", add_special_tokens=False)],
                recipe, max_new_tokens=8,
            ).token_ids
            for recipe in ("full", "lookup")
        }  # fmt: skip
        assert found["lookup"].same_text == (said["full"] == said["lookup"])
        assert found["full"].same_text is None and found["typical + lookup"].same_text is None
        monkeypatch.setattr(answering.Answers, "_write_plainly", lambda *_: (1, 2))
        found = by_recipe(compare(*arguments, max_new_tokens=8, probes=False))
    assert found[recipes[0]].same_text is False
    assert any(note.startswith("*") for note in found[recipes[0]].notes)


def test_a_text_beyond_the_trained_length_is_said_once() -> None:
    with wrapped(trained=256) as model:
        found = compare(model, TEXT, ["Who?"], ["snapkv(budget=25%)", "lookup"], [500],
                        max_new_tokens=3, probes=False)  # fmt: skip
    beyond = [[note for note in row.notes if "256 tokens" in note] for row in found]
    assert len(beyond) == 3 and all(len(notes) == 1 for notes in beyond)
    assert len({notes[0] for notes in beyond}) == 1


def test_when_full_cannot_be_measured_nothing_stands_in_for_it(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = module.quality

    def failing(reader: Any) -> dict[str, Any]:
        if reader.plan.text == "full":
            raise lengthwise.errors.NotFinite(3, dtype="float16")
        return measured(reader)

    monkeypatch.setattr(module, "quality", failing)
    full, other = compare(model, TEXT, ["Who?"], ["streaming(window=64)"], [600], max_new_tokens=1)
    assert full.refused is not None
    assert other.refused is None and other.agreement is None and other.kl is None
    assert other.loss_bins is not None and other.loss_bins[0]["over_full"] is None
