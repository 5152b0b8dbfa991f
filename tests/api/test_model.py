"""Load, wrap, generate and score: what the Python face promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import lengthwise
from lengthwise.engine.request import Request
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.tokenization.detokenise import TextStream

PROMPT = [5, 9, 17, 4, 33, 21, 8, 60, 12, 7]


@pytest.fixture(scope="module")
def stock() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=128, head_dim=16, max_position_embeddings=256,
        initializer_range=0.15, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def small() -> lengthwise.Model:
    """The embedded model in float32."""
    return lengthwise.load(dtype="float32")


def greedy(stock: LlamaForCausalLM, prompt: list[int], new: int) -> list[int]:
    made = stock.generate(
        torch.tensor([prompt]), max_new_tokens=new, do_sample=False, eos_token_id=None
    )
    return made[0, len(prompt) :].tolist()


def test_full_is_token_equal_to_transformers(stock: LlamaForCausalLM) -> None:
    with lengthwise.wrap(stock) as model:
        found = model.generate(PROMPT, max_new_tokens=40, stop_ids=[])
    assert found.token_ids == greedy(stock, PROMPT, 40)
    assert found.metrics.finish_reason == "length"


def test_leaving_the_context_gives_the_model_back_as_it_was(stock: LlamaForCausalLM) -> None:
    before = {name: p.clone() for name, p in stock.named_parameters()}
    with lengthwise.wrap(stock) as model:
        assert model.adapted.fast is not None
        model.generate(PROMPT, max_new_tokens=3)
        inside = stock(torch.tensor([PROMPT])).logits
    storages = [p.untyped_storage().data_ptr() for p in stock.parameters()]
    assert len(set(storages)) == len(storages)
    assert all(torch.equal(before[name], p) for name, p in stock.named_parameters())
    assert torch.equal(inside, stock(torch.tensor([PROMPT])).logits)
    assert stock.config._attn_implementation != "lengthwise"
    assert "forward" not in stock.model.rotary_emb.__dict__


def test_score_is_the_log_probability_of_stock(stock: LlamaForCausalLM) -> None:
    ids = torch.tensor([PROMPT])
    wanted = torch.log_softmax(stock(ids).logits[0, :-1].float(), -1)
    wanted = wanted.gather(1, ids[0, 1:, None])[:, 0]
    with lengthwise.wrap(stock) as model:
        assert torch.allclose(model.score(PROMPT, chunk=3), wanted, atol=1e-4)
        assert torch.allclose(model.score(ids, prompt=4), wanted[3:], atol=1e-4)


def test_a_batch_gives_each_prompt_what_it_gets_alone(stock: LlamaForCausalLM) -> None:
    prompts = [PROMPT, PROMPT[:3], PROMPT[2:9]]
    with lengthwise.wrap(stock) as model:
        together = model.generate_batch(prompts, max_new_tokens=20, stop_ids=[7])
        alone = [model.generate(p, max_new_tokens=20, stop_ids=[7]) for p in prompts]
    assert [g.token_ids for g in together] == [g.token_ids for g in alone]


def test_sampling_repeats_with_its_seed_and_differs_with_another(stock: LlamaForCausalLM) -> None:
    with lengthwise.wrap(stock) as model:

        def sample(seed: int) -> list[int]:
            return model.generate(PROMPT, max_new_tokens=20, temperature=1.0, top_k=50, seed=seed,
                                  stop_ids=[]).token_ids  # fmt: skip

        assert sample(1) == sample(1) != sample(2)


def test_custom_generate_is_a_door_for_padded_batches(stock: LlamaForCausalLM) -> None:
    ids = torch.tensor([PROMPT, [0, 0, 0, *PROMPT[3:]]])
    mask = torch.tensor([[1] * 10, [0] * 3 + [1] * 7])
    made = stock.generate(
        ids, attention_mask=mask, max_new_tokens=8, do_sample=False, eos_token_id=None,
        custom_generate=lengthwise.custom_generate("full"),
    )  # fmt: skip
    plain = stock.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False,
                           eos_token_id=None)  # fmt: skip
    assert torch.equal(made, plain)


@pytest.mark.parametrize(
    ("prompt", "options", "words"),
    [
        ([], {}, "prompt is empty"),
        ([5, 999], {}, "token id 999 is outside the vocabulary of 128"),
        ("text", {}, "wrapped without a tokenizer"),
        (torch.ones(2, 3, dtype=torch.long), {}, "generate_batch"),
        ([5], {"max_new_tokens": 0}, "at least 1"),
        ([5], {"temperature": -1.0}, "temperature=-1.0: allowed is 0 to inf"),
    ],
)
def test_bad_input_is_one_clear_line(stock, prompt, options, words) -> None:
    with lengthwise.wrap(stock) as model, pytest.raises(LengthwiseError, match=words) as error:
        model.generate(prompt, **options)
    assert "\n" not in str(error.value)


def test_an_unknown_method_names_the_nearest(stock: LlamaForCausalLM) -> None:
    with lengthwise.wrap(stock) as model, pytest.raises(RecipeError, match="'yarn'"):
        model.generate(PROMPT, "yarm(factor=2)")


def test_streamed_pieces_are_the_text_and_stop_strings_end_it(small: lengthwise.Model) -> None:
    pieces: list[str] = []
    chat = [{"role": "user", "content": "Count from one to ten in words."}]
    found = small.generate(chat, max_new_tokens=24, stream=pieces.append)
    assert "".join(pieces) == found.text != ""
    word = found.text.split()[1]
    pieces.clear()
    cut = small.generate(chat, max_new_tokens=24, stream=pieces.append, stop=[word])
    assert cut.text == found.text[: found.text.index(word)] == "".join(pieces)
    assert cut.metrics.finish_reason == "stop"


def test_tokens_guessed_behind_a_stop_string_do_not_count(small: lengthwise.Model) -> None:
    ids = small.encode("one two six seven eight")
    metrics = RequestMetrics(decoded=len(ids), accepted={"lookup": len(ids) - 1})
    request = Request(
        None, None, 99, frozenset(), metrics, list(ids),  # type: ignore[arg-type]
        right=["lookup"] * (len(ids) - 1),
    )  # fmt: skip
    text = TextStream(small.tokenizer, ["x sev", " six"])
    kept = text.add(ids, metrics)
    request.cut(len(ids), kept)
    assert small.tokenizer is not None
    assert small.tokenizer.decode(request.output).endswith(" six") and kept < len(ids)
    assert metrics.decoded == metrics.accepted["lookup"] == kept == len(request.output)
    assert text.finish() == "one two" and metrics.finish_reason == "stop"


def test_a_stop_string_cuts_a_guessed_run_where_plain_decoding_stops(
    small: lengthwise.Model,
) -> None:
    ids = small.encode("one two three four five six seven eight nine ten " * 5)
    whole = small.generate(ids, "lookup + fixed", max_new_tokens=24).metrics
    assert whole.decoded > whole.steps + 8, "no run of guesses came true that could be cut"
    for stop in (" eight", " ten"):
        plain, drafted = (
            small.generate(ids, recipe, max_new_tokens=24, stop=[stop])
            for recipe in ("full", "lookup + fixed")
        )
        assert drafted.token_ids == plain.token_ids
        assert drafted.metrics.decoded == plain.metrics.decoded > drafted.metrics.steps


def test_a_saved_folder_loads_and_agrees(stock: LlamaForCausalLM, tmp_path: Path) -> None:
    stock.save_pretrained(tmp_path)
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())).save_pretrained(tmp_path)
    model = lengthwise.load(str(tmp_path), dtype="float32")
    assert model.generate(PROMPT, max_new_tokens=12, stop_ids=[]).token_ids == greedy(
        stock, PROMPT, 12
    )
