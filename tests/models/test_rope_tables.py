"""Frequencies that a model chooses by the length of the text, and whose they are: every score is
that of a fresh stock pass, whatever was read before, and the user's module is never written to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import lengthwise
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import Refused
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model, tokens

SWITCH = 64
LONG = [1.0 + 3 * i for i in range(8)]
LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": LONG, "rope_theta": 1e4,
    "original_max_position_embeddings": SWITCH,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
STILL = {
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
             "original_max_position_embeddings": SWITCH},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": SWITCH},
    "proportional": {"rope_type": "proportional", "factor": 2.0, "rope_theta": 1e4,
                     "partial_rotary_factor": 0.5},
    "default": {"rope_type": "default", "rope_theta": 1e4},
}  # fmt: skip


def of(family: str, rope: Any, **changes: Any) -> PreTrainedModel:
    dynamic = "dynamic" in str(rope)
    if family == "phi3":
        changes["original_max_position_embeddings"] = SWITCH
    length = SWITCH if dynamic else 64 * SWITCH
    return tiny_model(
        family, rope_parameters=rope, **{"max_position_embeddings": length, **changes}
    )


def partial(rope: dict[str, Any]) -> dict[str, Any]:
    """The same for heads of which half the channels turn."""
    halved = {key: value[:4] if isinstance(value, list) else value for key, value in rope.items()}
    return {**halved, "partial_rotary_factor": 0.5}


def by_layer(rope: dict[str, Any]) -> dict[str, Any]:
    return {"full_attention": rope, "sliding_attention": {**STILL["default"], "rope_theta": 1e3}}


CHANGING = {
    "phi3 longrope": lambda: of("phi3", LONGROPE),
    "llama longrope": lambda: of("llama", LONGROPE),
    "phi partial longrope": lambda: of("phi", partial(LONGROPE)),
    "gemma3 longrope in its full layers": lambda: of("gemma3_text", by_layer(LONGROPE)),
    "llama dynamic": lambda: of("llama", DYNAMIC),
    "stablelm partial dynamic": lambda: of("stablelm", partial(DYNAMIC)),
    "gemma3 dynamic in its full layers": lambda: of("gemma3_text", by_layer(DYNAMIC)),
    "gemma3 dynamic in its windows": lambda: of(
        "gemma3_text",
        {"full_attention": STILL["default"], "sliding_attention": DYNAMIC},
    ),
}


@torch.no_grad()
def stock_logits(model: PreTrainedModel, text: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([text]), use_cache=False).logits[0]


def stock_scores(model: PreTrainedModel, text: list[int]) -> torch.Tensor:
    logs = stock_logits(model, text).log_softmax(-1)[:-1]
    return logs.gather(1, torch.tensor(text)[1:, None])[:, 0]


def buffers(model: PreTrainedModel) -> dict[str, Any]:
    """All that the rotary modules hold."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        if "rotary" in name:
            found |= {f"{name}.{k}": v.clone() for k, v in module.named_buffers(recurse=False)}
            found |= {
                f"{name}.{k}": v for k, v in vars(module).items() if isinstance(v, int | float)
            }
    assert found
    return found


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


@pytest.mark.parametrize("case", CHANGING)
def test_short_long_short_each_equal_stock_and_the_module_is_left_alone(case: str) -> None:
    model, stock = CHANGING[case](), CHANGING[case]()
    before = buffers(model)
    with lengthwise.wrap(model) as wrapped:
        assert same(before, buffers(model))
        for length in (20, 3 * SWITCH, 20, SWITCH, SWITCH + 1, 2 * SWITCH, 20):
            text = tokens(length, length)
            found = wrapped.score(text)
            torch.testing.assert_close(found, stock_scores(stock, text), rtol=0, atol=2e-5)
            assert same(before, buffers(model)), "while our model is open"
    assert same(before, buffers(model))
    text = tokens(30)
    assert torch.equal(stock_logits(model, text), stock_logits(CHANGING[case](), text))


@pytest.mark.parametrize("case", CHANGING)
def test_what_the_user_reads_with_the_model_changes_nothing_of_ours(case: str) -> None:
    model, stock = CHANGING[case](), CHANGING[case]()
    long, short = tokens(3 * SWITCH, 1), tokens(20, 2)
    stock_logits(model, long)  # Before it is wrapped,
    wrapped = lengthwise.wrap(model)
    torch.testing.assert_close(wrapped.score(short), stock_scores(stock, short), rtol=0, atol=2e-5)
    stock_logits(model, long)  # and after.
    torch.testing.assert_close(wrapped.score(short), stock_scores(stock, short), rtol=0, atol=2e-5)


@pytest.mark.parametrize("rope", STILL)
def test_every_still_rope_type_equals_stock(rope: str) -> None:
    for family in ("llama", "qwen3"):
        model, stock = of(family, STILL[rope]), of(family, STILL[rope])
        wrapped = lengthwise.wrap(model)
        for length in (20, 3 * SWITCH):
            text = tokens(length, length)
            torch.testing.assert_close(
                wrapped.score(text), stock_scores(stock, text), rtol=0, atol=2e-5
            )


@pytest.mark.parametrize("case", CHANGING)
def test_a_prompt_read_in_chunks_equals_one_pass(case: str) -> None:
    model = CHANGING[case]()
    wrapped = lengthwise.wrap(model)
    text = tokens(2 * SWITCH + 9)
    for chunk in (17, SWITCH, 1):
        found = wrapped.score(text, chunk=chunk)
        torch.testing.assert_close(found, stock_scores(CHANGING[case](), text), rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", [case for case in CHANGING if "longrope" in case])
@pytest.mark.parametrize(
    "recipe", ["full", "lookup", "layers", "kivi(bits=16)", "h2o(budget=4000)"]
)
def test_decoding_over_the_switch_is_what_a_fresh_pass_gives(case: str, recipe: str) -> None:
    model, stock = CHANGING[case](), CHANGING[case]()
    wrapped = lengthwise.wrap(model)
    prompt = (tokens(9) * 6)[: SWITCH - 10]
    found = wrapped.generate(prompt, recipe, max_new_tokens=30, stop_ids=[])
    text = list(prompt)
    for _ in range(30):
        text.append(int(stock_logits(stock, text)[-1].argmax()))
    assert found.token_ids == text[len(prompt) :]
    assert any(f"beyond {SWITCH} tokens" in note for note in found.metrics.notes)


def forced_over_the_switch_as_stock(
    adapted: AdaptedModel, stock: PreTrainedModel, beyond: int
) -> None:
    """Tokens given one by one, until `beyond` the switch, have the logits of a fresh pass."""
    text = tokens(SWITCH + beyond)
    sequence = Sequence(adapted)
    prefill(sequence, text[: SWITCH - 8])
    sequence.end_prefill()
    found = teacher_force(sequence, text[SWITCH - 8 :])
    for index, logits in enumerate(found):
        expected = stock_logits(stock, text[: SWITCH - 8 + index])[-1]
        torch.testing.assert_close(logits, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", [case for case in CHANGING if "longrope" in case])
def test_given_tokens_over_the_switch_have_the_logits_of_a_fresh_pass(case: str) -> None:
    model, stock = CHANGING[case](), CHANGING[case]()
    forced_over_the_switch_as_stock(lengthwise.wrap(model).adapted, stock, 8)


@pytest.mark.parametrize("recipe", ["lookup", "recycling", "layers"])
@pytest.mark.parametrize("case", [case for case in CHANGING if "dynamic" in case])
def test_drafting_stays_lossless_where_frequencies_grow(case: str, recipe: str) -> None:
    wrapped = lengthwise.wrap(CHANGING[case]())
    prompt = (tokens(9) * 6)[: SWITCH - 10]
    plain = wrapped.generate(prompt, max_new_tokens=30, stop_ids=[])
    found = wrapped.generate(prompt, recipe, max_new_tokens=30, stop_ids=[])
    assert found.token_ids == plain.token_ids


def test_growing_frequencies_turn_the_keys_that_are_kept() -> None:
    # In one layer keys depend on no earlier attention, so turned keys are those of a fresh pass.
    def one() -> PreTrainedModel:
        return of("llama", DYNAMIC, num_hidden_layers=1)

    model, stock = one(), one()
    forced_over_the_switch_as_stock(lengthwise.wrap(model).adapted, stock, 20)


def test_recipes_that_cannot_follow_a_growing_model_are_refused_by_name() -> None:
    dynamic, longrope = lengthwise.wrap(of("llama", DYNAMIC)), lengthwise.wrap(of("phi3", LONGROPE))
    for recipe in ("quest", "hip", "think"):
        with pytest.raises(Refused, match="'llama' model turns them with every token beyond 64"):
            dynamic.plan(recipe)
        longrope.plan(recipe)
    for model in (dynamic, longrope):
        for recipe in ("ntk(factor=2)", "yarn(factor=2)", "pi(factor=2)", "dynamic_ntk"):
            with pytest.raises(Refused, match="already changes them with the length"):
                model.plan(recipe)
        with pytest.raises(Refused, match="reads mixtures of tokens"):
            model.plan("superposed")


@pytest.mark.parametrize(
    "recipe", ["snapkv(budget=16, window=8)", "streaming(window=24)", "self_extend(window=16)"]
)
def test_an_eviction_over_the_switch_is_that_of_the_text_so_far(recipe: str) -> None:
    wrapped = lengthwise.wrap(of("phi3", LONGROPE))
    prompt = tokens(SWITCH - 10)
    whole = wrapped.generate(prompt, recipe, max_new_tokens=30, stop_ids=[])
    # What is read again is the text up to the switch, with the frequencies of what follows.
    text = [*prompt, *whole.token_ids]
    sequence = Sequence(wrapped.adapted, wrapped.plan(recipe))
    sequence.reading = SWITCH + 1
    prefill(sequence, text[:SWITCH])
    sequence.end_prefill()
    logits = teacher_force(sequence, text[SWITCH:])
    assert logits[1:].argmax(-1).tolist() == text[SWITCH + 1 :]
