"""What transformers' generate hands over is done or refused by name, and nothing is dropped."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessor,
    PreTrainedModel,
    StoppingCriteria,
    WatermarkingConfig,
)
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateDecoderOnlyOutput

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.testing.tiny import tiny_model, tokens
from tests.api.hf_runs import IDS, NEW, ours, plain
from tests.knows import knowing

ROWS = torch.tensor([tokens(20), [0] * 6 + tokens(14, 1), [0] * 3 + tokens(17, 2)]) % 64
MASK = (ROWS != 0).long()


class Odd(LogitsProcessor):
    """Even tokens after an odd one, odd after an even one; written in place, as users do."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
        for row, last in enumerate(input_ids[:, -1].tolist()):
            scores[row, last % 2 :: 2] = -torch.inf
        return scores


class EachRow(LogitsProcessor):
    """Holds something for every row of the batch."""

    def __init__(self, forbidden: list[list[int]]) -> None:
        self.forbidden = forbidden

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
        for row, ids in enumerate(self.forbidden):
            scores[row, ids] = -torch.inf
        return scores


class After(StoppingCriteria):
    """Stops behind a token."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> Any:
        return input_ids[:, -1] == self.token


def first_choice(model: PreTrainedModel) -> list[int]:
    return plain(model, eos_token_id=None)[0, 20:].tolist()


ARGUMENTS: dict[str, Callable[[list[int]], dict[str, Any]]] = {
    "nothing": lambda said: {},
    "suppress_tokens": lambda said: {"suppress_tokens": said[:3]},
    "begin_suppress_tokens": lambda said: {"begin_suppress_tokens": [said[0]]},
    "bad_words_ids": lambda said: {"bad_words_ids": [[said[1]], said[2:4]]},
    "sequence_bias": lambda said: {"sequence_bias": [[[said[1]], -50.0]]},
    "no_repeat_ngram_size": lambda said: {"no_repeat_ngram_size": 2},
    "encoder_no_repeat": lambda said: {"encoder_no_repeat_ngram_size": 1},
    "encoder_repetition": lambda said: {"encoder_repetition_penalty": 2.0},
    "repetition_penalty": lambda said: {"repetition_penalty": 1.5},
    "min_new_tokens": lambda said: {"min_new_tokens": 20, "eos_token_id": said[4]},
    "min_length": lambda said: {"min_length": 38, "eos_token_id": said[4]},
    "eos in a list": lambda said: {"eos_token_id": [said[4], said[6]], "pad_token_id": 0},
    "forced_eos_token_id": lambda said: {"forced_eos_token_id": 2},
    "exponential_decay": lambda said: {"exponential_decay_length_penalty": (3, 1.5)},
    "renormalize_logits": lambda said: {"renormalize_logits": True},
    "remove_invalid_values": lambda said: {"remove_invalid_values": True},
    "watermark": lambda said: {"watermarking_config": WatermarkingConfig(bias=5.0)},
    "prefix_allowed": lambda said: {
        "prefix_allowed_tokens_fn": lambda row, ids: [3 + row, 5, 7 + len(ids) % 5]
    },
    "a processor of the user's": lambda said: {"logits_processor": [Odd()]},
    "a criterion of the user's": lambda said: {"stopping_criteria": [After(said[5])]},
    "his own end": lambda said: {"stopping_criteria": [EosTokenCriteria(said[5])]},
    "prefill_chunk_size": lambda said: {"prefill_chunk_size": 7},
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("recipe", ["full", "lookup + recycling + fixed"])
def test_what_generate_was_asked_is_done_as_stock_does_it(
    stock: PreTrainedModel, recipe: str, name: str
) -> None:
    asked = ARGUMENTS[name](first_choice(stock))
    found, wanted = ours(stock, recipe, **asked), plain(stock, **asked)
    assert found.dtype == torch.int64 and found.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    "asked",
    [
        {"suppress_tokens": list(range(20, 40))},
        {"repetition_penalty": 1.5},
        {"encoder_repetition_penalty": 2.0},
        {"min_new_tokens": 6, "eos_token_id": list(range(3, 30))},
        {"prefix_allowed_tokens_fn": lambda row, ids: [3 + row, 13 + row + len(ids) % 5]},
        {"logits_processor": [EachRow([[1, 2], list(range(3, 50)), [60]])]},
        {"stopping_criteria": [After(9)], "eos_token_id": 5},
    ],
)
def test_every_row_of_a_padded_batch_is_steered_as_stock_steers_it(
    stock: PreTrainedModel, asked: dict[str, Any]
) -> None:
    given = {"ids": ROWS, "attention_mask": MASK, "pad_token_id": 0, **asked}
    assert ours(stock, "lookup + fixed", **given).tolist() == plain(stock, **given).tolist()


def test_rows_that_stopped_first_are_told_apart_by_their_end_and_padding(
    stock: PreTrainedModel,
) -> None:
    text = plain(stock, ids=ROWS, attention_mask=MASK, eos_token_id=None)[:, 20:]
    ends = [int(text[0, 0]), int(text[1, 5])]
    given = {"ids": ROWS, "attention_mask": MASK, "eos_token_id": ends, "pad_token_id": 0}
    found, wanted = ours(stock, "lookup", **given), plain(stock, **given)
    assert found.dtype == torch.int64 and found.tolist() == wanted.tolist()
    assert int(found[0, 20]) == ends[0] and not found[0, 21:].any()


@pytest.mark.parametrize("how", ["end token", "criterion"])
def test_guesses_beyond_the_end_ask_no_processor_more_than_stock_does(
    stock: PreTrainedModel, how: str
) -> None:
    """Behind the text a trie has nothing, which stock's processor raises for."""
    said = first_choice(stock)
    given: dict[str, Any] = {
        "prefix_allowed_tokens_fn": lambda row, ids: (
            said[len(ids) - 20 : len(ids) - 19] if len(ids) < 25 else []
        )
    }  # fmt: skip
    given |= {"eos_token_id": said[4]} if how == "end token" else {
        "stopping_criteria": [After(said[4])], "eos_token_id": None
    }  # fmt: skip
    found = ours(stock, knowing(said), **given)  # type: ignore[arg-type]
    assert found.tolist() == plain(stock, **given).tolist()
    assert found.shape[1] == 20 + said.index(said[4]) + 1


def test_an_end_token_said_first_leaves_ids_whole_numbers(stock: PreTrainedModel) -> None:
    end = first_choice(stock)[0]
    found = ours(stock, eos_token_id=end)
    assert found.dtype == torch.int64 and found.tolist() == [[*IDS[0].tolist(), end]]


def test_sequences_of_one_prompt_differ_and_follow_torchs_seed(stock: PreTrainedModel) -> None:
    def draw(seed: int, recipe: str = "full", **more: Any) -> list[list[int]]:
        torch.manual_seed(seed)
        asked = {"do_sample": True, "num_return_sequences": 3, "eos_token_id": None, **more}
        return ours(stock, recipe, **asked)[:, 20:].tolist()

    one = draw(1)
    assert len({tuple(row) for row in one}) == 3
    assert one == draw(1) == draw(1, "lookup + fixed") != draw(2)
    assert draw(1, options={"seed": 5}) == draw(2, options={"seed": 5}) != one


def test_greedy_text_takes_nothing_from_torchs_generator(stock: PreTrainedModel) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    ours(stock)
    assert torch.equal(before, torch.get_rng_state())


def test_samples_have_the_law_of_stock(stock: PreTrainedModel) -> None:
    """One token: its law is that of the processors handed over, top_k and all."""
    asked = {"do_sample": True, "top_k": 5, "temperature": 2.0, "top_p": 0.9, "min_p": 0.02,
             "typical_p": 0.95, "suppress_tokens": [3], "max_new_tokens": 1}  # fmt: skip
    torch.manual_seed(0)
    found = ours(stock, num_return_sequences=400, **asked)[:, -1]
    wanted = plain(stock, num_return_sequences=2000, **asked)[:, -1]
    laws = [torch.bincount(each, minlength=64) / len(each) for each in (found, wanted)]
    assert set(found.tolist()) <= set(wanted.tolist())
    assert float((laws[0] - laws[1]).abs().sum()) < 0.2


@pytest.mark.parametrize("sampled", [False, True])
def test_scores_and_logits_are_those_of_stock(stock: PreTrainedModel, sampled: bool) -> None:
    asked = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True,
             "repetition_penalty": 1.3, "eos_token_id": None, "do_sample": sampled}  # fmt: skip
    found = ours(stock, "lookup + fixed", **asked)
    assert isinstance(found, GenerateDecoderOnlyOutput)
    text = found.sequences
    # Stock is made to say the same, so that its scores are of the same contexts.
    told = {"prefix_allowed_tokens_fn": lambda row, ids: [int(text[row, len(ids)])]}
    wanted = plain(stock, **{**asked, "do_sample": False, **told})
    assert wanted.sequences.tolist() == text.tolist()
    for mine, theirs in zip(found.logits, wanted.logits, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    if not sampled:
        alike = plain(stock, **asked)
        for mine, theirs in zip(found.scores, alike.scores, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
        assert stock.compute_transition_scores(text, found.scores).shape == (1, NEW)


def test_scores_behind_the_end_of_a_row_are_zeros(stock: PreTrainedModel) -> None:
    text = plain(stock, ids=ROWS, attention_mask=MASK, eos_token_id=None)[:, 20:]
    found = ours(
        stock, ids=ROWS, attention_mask=MASK, eos_token_id=int(text[0, 1]), pad_token_id=0,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    assert len(found.scores) == found.sequences.shape[1] - 20 and found.logits is None
    assert found.scores[0][0].any() and not found.scores[5][0].any()


def test_a_criterion_inside_an_accepted_run_leaves_what_plain_decoding_leaves(
    stock: PreTrainedModel,
) -> None:
    said = first_choice(stock)
    for token in dict.fromkeys(said):
        given = {"stopping_criteria": [After(token)], "eos_token_id": None}
        drafted, wanted = ours(stock, "recycling + fixed", **given), plain(stock, **given)
        assert drafted.tolist() == wanted.tolist()
        assert drafted[0, 20:].tolist() == said[: said.index(token) + 1]


def test_a_criterion_may_look_at_scores(stock: PreTrainedModel) -> None:
    seen: list[int] = []

    class Looks(StoppingCriteria):
        def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> bool:
            seen.append(len(scores))
            assert int(scores[-1][0].argmax()) == int(input_ids[0, -1])
            return len(scores) == 4

    found = ours(stock, stopping_criteria=[Looks()], return_dict_in_generate=True,
                 output_scores=True, eos_token_id=None)  # fmt: skip
    assert found.sequences.shape[1] == 24 and seen == [1, 2, 3, 4]


class Kept(BaseStreamer):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.put_: list[list[Any]] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        self.put_.append(value.tolist())

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("recipe", ["full", "recycling + fixed"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_streamer_gets_what_stock_gives_it(
    stock: PreTrainedModel, recipe: str, rows: int
) -> None:
    text = plain(stock, ids=ROWS, attention_mask=MASK, eos_token_id=None)[:, 20:]
    given = {"ids": ROWS[:rows], "attention_mask": MASK[:rows], "pad_token_id": 0,
             "eos_token_id": int(text[0, 3])}  # fmt: skip
    mine, theirs = Kept(), Kept()
    ours(stock, recipe, streamer=mine, **given)
    plain(stock, streamer=theirs, **given)
    assert mine.put_ == theirs.put_ and mine.ended == theirs.ended == 1


def test_a_streamer_is_ended_also_where_the_run_fails(stock: PreTrainedModel) -> None:
    class Fails(LogitsProcessor):
        def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
            if input_ids.shape[1] > 22:
                raise RuntimeError("out of luck")
            return scores

    for given, error in (
        ({"logits_processor": [Fails()], "eos_token_id": None}, RuntimeError),
        ({"num_beams": 3}, LengthwiseError),
    ):
        kept = Kept()
        if "num_beams" in given:
            # Stock itself refuses a streamer with beams; asked directly, we do.
            config = GenerationConfig(num_beams=3)
            with pytest.raises(error):
                lengthwise.custom_generate()(stock, IDS, generation_config=config, streamer=kept)
        else:
            with pytest.raises(error):
                ours(stock, streamer=kept, **given)
        assert kept.ended == 1


def test_a_text_iterator_ends(stock: PreTrainedModel) -> None:
    from threading import Thread

    from transformers import TextIteratorStreamer

    model = lengthwise.load(dtype="float32")
    assert model.tokenizer is not None
    ids = torch.tensor([model.encode("One two three four five six seven")])
    streamer = TextIteratorStreamer(model.tokenizer, skip_prompt=True, timeout=60)
    given = {"max_new_tokens": 12, "eos_token_id": None, "streamer": streamer}
    thread = Thread(target=lambda: ours(model.adapted.model, "lookup", ids=ids, **given))
    thread.start()
    try:
        text = "".join(streamer)
    except queue.Empty:
        pytest.fail("the streamer never ended")
    thread.join()
    assert text == model.generate(ids, max_new_tokens=12, stop_ids=[]).text


def test_stop_strings_end_rows_behind_the_token_that_completes_them() -> None:
    model = lengthwise.load(dtype="float32")
    assert model.tokenizer is not None
    ids = torch.tensor([model.encode("one two three four five six seven eight nine ten " * 4)])
    stop = [" three"]
    found = ours(model.adapted.model, "lookup", ids=ids,
                 options={"stop": stop, "tokenizer": model.tokenizer})  # fmt: skip
    wanted = plain(model.adapted.model, ids=ids, stop_strings=stop, tokenizer=model.tokenizer)
    assert found.tolist() == wanted.tolist()


def test_custom_generate_stays_a_function_however_often_it_is_asked_for() -> None:
    assert lengthwise.custom_generate is lengthwise.custom_generate
    assert callable(lengthwise.custom_generate)


class TestOwnRules:
    """What a model's generation_config suppresses or forces holds in Model.generate too."""

    @pytest.mark.parametrize("recipe", ["full", "recycling + fixed"])
    @pytest.mark.parametrize("name", ["suppress_tokens", "begin_suppress_tokens", "bad_words_ids",
                                      "forced_eos_token_id"])  # fmt: skip
    def test_they_hold(self, name: str, recipe: str) -> None:
        model = tiny_model("llama", vocab_size=64, initializer_range=0.3)
        said = first_choice(model)
        free = next(token for token in range(3, 64) if token not in said)
        values = {"suppress_tokens": said[:2], "begin_suppress_tokens": said[:1],
                  "bad_words_ids": [[said[1]], said[2:4]], "forced_eos_token_id": free}  # fmt: skip
        setattr(model.generation_config, name, values[name])
        wanted = plain(model, eos_token_id=None)[0, 20:].tolist()
        with lengthwise.wrap(model) as wrapped:
            found = wrapped.generate(IDS, recipe, max_new_tokens=NEW, stop_ids=[])
        assert found.token_ids == wanted != said

    def test_taste_does_not(self) -> None:
        model = tiny_model("llama", vocab_size=64, initializer_range=0.3)
        said = first_choice(model)
        for name, value in {"temperature": 2.0, "do_sample": True, "top_k": 3,
                            "repetition_penalty": 5.0}.items():  # fmt: skip
            setattr(model.generation_config, name, value)
        with lengthwise.wrap(model) as wrapped:
            assert wrapped.generate(IDS, max_new_tokens=NEW, stop_ids=[]).token_ids == said

    def test_a_recipe_that_writes_several_texts_is_refused(self) -> None:
        model = tiny_model("llama")
        model.generation_config.suppress_tokens = [5]
        with lengthwise.wrap(model) as wrapped, pytest.raises(LengthwiseError, match="suppressed"):
            wrapped.generate(IDS, "superposed", max_new_tokens=4)
