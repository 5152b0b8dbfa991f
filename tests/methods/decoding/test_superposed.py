"""Superposed decoding: several texts for the forwards of one, greedy where there is only one."""

from __future__ import annotations

import json
import random
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lengthwise
from lengthwise.cli.main import main
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.verification import Lossless
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.codecs.kivi import Kivi
from lengthwise.methods.decoding.superposed import Superposed, Superposition
from lengthwise.methods.drafting.lookup import Lookup
from lengthwise.methods.retention.sirllm import SirLLM
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.limits import takes_embeddings
from lengthwise.recipes import resolve
from lengthwise.retrieval.datastore import Datastore
from lengthwise.testing.tiny import tiny, tiny_model

VOCAB = 16
GREEDY = Superposed(drafts=1, alpha=0.0)
CACHES: dict[str, tuple[Method, ...]] = {
    "full": (),
    "streaming": (Streaming.example(),),
    "kivi": (Kivi.example(),),
    "infllm": (InfLLM.example(),),
    "sirllm": (SirLLM(budget=Budget(24)),),
}


@lru_cache
def model() -> lengthwise.Model:
    """Few tokens and sharp attention, so that text repeats itself and n-grams have a say."""
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, vocab_size=VOCAB))


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, VOCAB) for _ in range(count)]


def write(
    method: Superposed,
    *others: Method,
    seed: int = 0,
    new: int = 20,
    stop_ids: tuple[int, ...] = (),
) -> lengthwise.api.model.Generation:
    return model().generate(
        tokens(40, seed), (*others, method), max_new_tokens=new, stop_ids=stop_ids
    )


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
@pytest.mark.parametrize("seed", range(3))
def test_one_draft_without_ngrams_is_greedy_decoding(cache: tuple[Method, ...], seed: int) -> None:
    plain = model().generate(tokens(40, seed), cache, max_new_tokens=40, stop_ids=[])
    found = write(GREEDY, *cache, seed=seed, new=40)
    assert found.token_ids == plain.token_ids == found.drafts[0].token_ids
    assert found.metrics.decoded == plain.metrics.decoded
    assert found.metrics.kv_bytes == plain.metrics.kv_bytes


def test_one_draft_stops_where_greedy_decoding_stops() -> None:
    text = write(GREEDY).token_ids
    for stop in dict.fromkeys(text):
        plain = model().generate(tokens(40), max_new_tokens=20, stop_ids=[stop])
        found = write(GREEDY, stop_ids=(stop,))
        assert found.token_ids == plain.token_ids
        assert found.metrics.finish_reason == plain.metrics.finish_reason == "stop"
        assert found.metrics.decoded == plain.metrics.decoded


@pytest.mark.parametrize("drafts", [1, 3, 7])
def test_a_step_is_one_forward_of_one_column_however_many_drafts(
    drafts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    adapted = model().adapted
    forward = adapted.forward

    def counted(ids: Tensor, *rest: Any, **named: Any) -> Tensor:
        counts.append(len(ids))
        return forward(ids, *rest, **named)

    assert model().plan((Superposed(),)).mode is not None  # Tries the family once.
    monkeypatch.setattr(adapted, "forward", counted)
    found = write(Superposed(drafts=drafts))
    assert counts == [40, *[1] * 19]
    assert found.metrics.steps == 19
    assert len(found.drafts) == drafts


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
@pytest.mark.parametrize("alpha", [0.0, 0.54, 1.0])
def test_texts_are_ranked_all_different_and_within_the_limit(
    cache: tuple[Method, ...], alpha: float
) -> None:
    for seed in range(3):
        found = write(
            Superposed(drafts=5, alpha=alpha, temperature=1.0), *cache, seed=seed, stop_ids=(5, 9)
        )
        scores = [draft.score for draft in found.drafts]
        texts = [tuple(draft.token_ids) for draft in found.drafts]
        assert scores == sorted(scores, reverse=True)
        assert len(set(texts)) == len(texts) >= 2
        assert all(len(text) <= 20 and not {5, 9} & set(text) for text in texts)
        assert found.token_ids == found.drafts[0].token_ids


def test_a_limit_of_one_token_gives_the_likeliest_tokens() -> None:
    logits = loop.prefill(Sequence(model().adapted), tokens(40))
    found = write(Superposed(alpha=0.0), new=1)
    assert [draft.token_ids for draft in found.drafts] == logits.topk(3).indices[:, None].tolist()
    assert found.metrics.steps == 0


def read(ids: list[int]) -> Sequence:
    found = Sequence(model().adapted)
    found.begin_with(ids)
    return found


def search(drafts: int, stop_ids: set[int], limit: int = 10) -> Superposition:
    mode = Superposition(
        Superposed(drafts=drafts, alpha=0.0, temperature=1.0, top=VOCAB), model().adapted, None
    )
    mode.begin(Sampler(Sampling()), limit, frozenset(stop_ids))
    return mode


def likely(*order: int) -> Tensor:
    """Logits that fall by one along the tokens named, and are low elsewhere."""
    logits = torch.full((VOCAB,), -30.0)
    logits[list(order)] = -torch.arange(len(order), dtype=torch.float32)
    return logits


def test_a_draft_that_ends_makes_room_and_the_search_goes_on_until_all_have_ended() -> None:
    mode = search(2, {0})
    mode.start(read([3]), likely(4, 5))
    mode.advance([2 * likely(0, 6)])
    assert [each.tokens for each in mode.ended] == [[4], [5]]
    assert mode.done
    assert [each.ended for each in mode.alternatives()] == [True, True]
    mode = search(2, {0})
    mode.start(read([3]), likely(4, 0, 5))
    assert [draft.tokens for draft in mode.alive] == [[4], [5]] and not mode.done
    mode.advance([likely(6, 7)])
    assert {tuple(each.tokens) for each in mode.alternatives()} < {(), (4, 6), (4, 7), (5, 6)}


def test_a_stop_token_below_the_best_ends_no_draft() -> None:
    mode = search(2, {0})
    mode.start(read([3]), likely(4, 5, 0))
    assert not mode.ended and len(mode.alive) == 2


def test_two_stop_tokens_after_one_text_end_it_once() -> None:
    mode = search(2, {0, 1})
    mode.start(read([3]), likely(0, 1, 6))
    assert [each.tokens for each in mode.ended] == [[]]
    assert [draft.tokens for draft in mode.alive][0] == [6]


def test_drafts_cut_off_fill_up_those_that_ended() -> None:
    mode = search(3, {0}, limit=1)
    mode.start(read([3]), likely(4, 0, 5))
    found = mode.alternatives()
    assert mode.done and sorted(each.tokens for each in found) == [[], [4], [5]]
    assert [each.ended for each in found if not each.tokens] == [True]


def test_what_is_fed_is_the_mixture_of_the_last_tokens_by_draft_probability() -> None:
    mode = search(3, set())
    mode.start(read([3]), likely(4, 7, 5))
    (step_input,) = mode.step_inputs()
    weights = torch.softmax(torch.tensor([0.0, -1.0, -2.0]), 0)
    rows = model().adapted.model.get_input_embeddings().weight[[4, 7, 5]]
    assert step_input.token == 4
    torch.testing.assert_close(step_input.embedding, weights @ rows)


def test_rows_of_a_batch_get_what_they_get_alone() -> None:
    prompts = [tokens(count, seed) for seed, count in enumerate((12, 40, 25))]
    plan = (Superposed(temperature=0.5),)
    together = model().generate_batch(prompts, plan, max_new_tokens=12, stop_ids=[5])
    for prompt, found in zip(prompts, together, strict=True):
        alone = model().generate(prompt, plan, max_new_tokens=12, stop_ids=[5])
        assert [d.token_ids for d in found.drafts] == [d.token_ids for d in alone.drafts]
        assert found.metrics.steps == alone.metrics.steps


def test_requests_with_and_without_a_mode_step_together() -> None:
    texts = [write(Superposed()).token_ids, write(Superposed(), seed=1).token_ids]
    plain = model().generate(tokens(40, 2), max_new_tokens=20, stop_ids=[])
    requests = []
    for seed, recipe in enumerate([(Superposed(),), (Superposed(),), ()]):
        sequence = Sequence(model().adapted, resolve(recipe, model().adapted))
        request = loop.begin(sequence, Sampling(), 20, ())
        loop.start(request, loop.prefill(sequence, tokens(40, seed)))
        requests.append(request)
    while active := [request for request in requests if not request.done]:
        loop.step(active)
    assert [request.output for request in requests] == [*texts, plain.token_ids]


FAMILIES = ("llama", "qwen2", "qwen3", "gemma", "gemma3_text", "granite", "gpt2", "opt", "phi",
            "cohere2", "deepseek_v3", "gpt_oss", "modernbert-decoder")  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_fed_embeddings_give_the_logits_of_their_tokens(family: str) -> None:
    adapted = tiny(family)
    prompt = torch.arange(3, 40).tolist()
    embeddings = adapted.embed(torch.tensor(prompt))
    (given,), _ = loop.extend([(Sequence(adapted), prompt, None)], "all")
    found, _ = loop.extend([(Sequence(adapted), [0] * len(prompt), None)], "all",
                           embeddings=embeddings)  # fmt: skip
    torch.testing.assert_close(found[0], given, atol=1e-5, rtol=1e-5)
    assert takes_embeddings(adapted)


@pytest.mark.parametrize("raises", [True, False])
def test_a_family_that_reads_its_ids_elsewhere_is_refused_by_name(
    raises: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted = lengthwise.wrap(tiny_model("qwen3", vocab_size=VOCAB)).adapted
    forward = adapted.forward

    def strange(*given: object, embeddings: Tensor | None = None) -> Tensor:
        if embeddings is not None and raises:
            raise ValueError("You must specify input_ids")
        return forward(*given, embeddings=embeddings if embeddings is None else -embeddings)  # type: ignore[arg-type]

    monkeypatch.setattr(adapted, "forward", strange)
    with pytest.raises(Refused, match="family 'qwen3'"):
        resolve((Superposed(),), adapted)


class Other(Superposed):
    """A second mode."""

    name = "other"


class Judge(Method):
    """A verifier and a policy, as far as composition looks."""

    name, question, paper = "judge", Superposed.question, None

    def start_verifier(self, model: AdaptedModel) -> Lossless | None:
        return Lossless()


class Budgeteer(Judge):
    name, start_verifier = "budgeteer", Method.start_verifier

    def start_policy(self, model: AdaptedModel) -> None:
        return None


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (Lookup(), "lookup has no next token"),
        (Judge(), "judge has no next token"),
        (Budgeteer(), "budgeteer has no next token"),
        (Other(), "both decide how the text is written"),
    ],
)
def test_what_guesses_or_writes_too_is_refused_with_the_reason(other: Method, reason: str) -> None:
    for pair in [(Superposed(), other), (other, Superposed())]:
        with pytest.raises(Refused, match=reason):
            resolve(pair, model().adapted)


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"repetition_penalty": 1.2}])
def test_sampling_is_refused_before_the_prompt_is_read(options: dict[str, float]) -> None:
    read: list[int] = []
    with pytest.raises(LengthwiseError, match="ranks its texts"):
        model().generate(tokens(40), (Superposed(),), progress=read.append, **options)
    assert not read


def test_custom_generate_takes_the_best_text() -> None:
    stock = tiny_model("llama", initializer_range=0.15, vocab_size=VOCAB)
    made = stock.generate(
        torch.tensor([tokens(40)]), max_new_tokens=20, eos_token_id=None,
        custom_generate=lengthwise.custom_generate((Superposed(),)),
    )  # fmt: skip
    assert made[0, 40:].tolist() == write(Superposed()).token_ids


def test_ngrams_say_which_token_continues_which_draft() -> None:
    """Both second tokens are equally likely for the model; the text knows 4 7 and 5 8."""
    mode = Superposition(Superposed(drafts=2, temperature=1.0), model().adapted, None)
    mode.begin(Sampler(Sampling()), 10, frozenset())
    mode.start(read([4, 7, 3, 5, 8, 3, 4, 7, 3, 5, 8, 3]), likely(4, 5))
    mode.advance([torch.where(likely(7, 8) > -5, 0.0, -30.0)])
    assert {tuple(draft.tokens) for draft in mode.alive} == {(4, 7), (5, 8)}


def test_a_stop_token_is_judged_by_the_model_alone() -> None:
    mode = Superposition(Superposed(drafts=1, temperature=1.0), model().adapted, None)
    mode.begin(Sampler(Sampling()), 10, frozenset({0}))
    mode.start(read([4, 7, 3, 4, 7, 3, 4]), likely(0, 7))
    assert mode.done and mode.alternatives()[0].tokens == []


def test_a_datastore_is_opened_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        resolve((Superposed(datastore=str(tmp_path / "none")),), model().adapted)
    other = tmp_path / "other.safetensors"
    Datastore.build([[1, 2, 90]], 100).save(other)
    with pytest.raises(Refused, match="another tokenizer"):
        resolve((Superposed(datastore=str(other)),), model().adapted)
    fitting = tmp_path / "fitting.safetensors"
    Datastore.build([tokens(500, 9)], VOCAB).save(fitting)
    found = write(Superposed(datastore=str(fitting), temperature=1.0))
    assert len(found.drafts) == 3


def test_run_prints_every_text_with_its_score(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.recipes.parser.find", {"superposed": Superposed}.__getitem__)

    def run(*flags: str) -> str:
        arguments = ["run", "Plants need light because", "--raw", "-r", "superposed",
                     "--max-new-tokens", "5"]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["lengthwise", *arguments, *flags])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert not ended.value.code, captured.err
        return captured.out

    found = json.loads(run("--json"))
    assert len(found["alternatives"]) == 3
    assert found["alternatives"][0]["text"] == found["text"]
    scores = [each["score"] for each in found["alternatives"]]
    assert scores == sorted(scores, reverse=True)
    shown = run()
    assert all(each["text"] in shown for each in found["alternatives"])
    assert all(f"score {score:.3f}" in shown for score in scores)
