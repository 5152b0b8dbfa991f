"""Beam search: transformers' own, text by text, over forks of one reading."""

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import lengthwise
from lengthwise.api.model import Model
from lengthwise.errors import ConstraintError, LengthwiseError, Refused
from lengthwise.methods.decoding._shared.beams import Beam, BeamGroup, BeamSearch, Ended
from lengthwise.methods.decoding.beam import BeamMethod, rank_of
from lengthwise.plugin import AdaptedModel, Method, NextTokenLaw, Question, Sampling
from lengthwise.recipes import Recipe, parse
from lengthwise.testing.drive import run_request
from lengthwise.testing.tiny import tiny_model, tokens

PROMPT, NEW = 20, 14
Texts = dict[tuple[int, ...], float]


@lru_cache(maxsize=1)
def stock() -> PreTrainedModel:
    return tiny_model("llama", initializer_range=0.15).eval()


@lru_cache(maxsize=1)
def model() -> Model:
    return lengthwise.wrap(stock())


@dataclass(frozen=True)
class Even(Method):
    """Allows even tokens alone, and behind `dead` of them nothing."""

    name: ClassVar[str] = "even"
    question: ClassVar[Question] = Question.DECODING
    paper = None
    dead: int = 99

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        return _Even(self.dead)


class _Even(NextTokenLaw):
    def __init__(self, dead: int) -> None:
        self.dead = dead

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        scores[1::2] = float("-inf")
        return scores if len(written) < self.dead else scores.fill_(float("-inf"))


def theirs(
    ids: Seq[int], width: int, eos: Seq[int], **options: object
) -> dict[tuple[int, ...], float]:
    """Texts of stock's beam search, with their scores, as often as they are found first."""
    found = stock().generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        num_beams=width, num_return_sequences=width, max_new_tokens=NEW, eos_token_id=list(eos),
        pad_token_id=0, do_sample=False, return_dict_in_generate=True, output_scores=True,
        **options,
    )  # fmt: skip
    texts: Texts = {}
    for row, score in zip(found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
        new = row[len(ids) :]
        end = next((place for place, token in enumerate(new) if token in eos), len(new))
        texts.setdefault(tuple(new[:end]), score)
    return texts


def ours(
    ids: Seq[int], recipe: object, eos: Seq[int], **options: object
) -> dict[tuple[int, ...], float]:
    found = model().generate(ids, recipe, max_new_tokens=NEW, stop_ids=list(eos), **options)
    assert list(found.drafts[0].token_ids) == found.token_ids
    return {tuple(draft.token_ids): draft.score for draft in found.drafts}


def same(one: Texts, other: Texts) -> None:
    assert list(one) == list(other)
    assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize("penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("early", [False, True, "never"])
def test_texts_and_scores_are_stock_s(seed: int, width: int, penalty: float, early: object) -> None:
    eos = [5] if seed % 2 else [5, 9, 11]
    options = f"width={width}, length_penalty={penalty}, early_stopping={str(early).lower()}"
    same(
        ours(tokens(PROMPT, seed), f"beam({options})", eos),
        theirs(tokens(PROMPT, seed), width, eos, length_penalty=penalty, early_stopping=early),
    )


def test_rules_and_laws_hold_as_they_do_in_stock() -> None:
    ids = tokens(PROMPT, 7)
    same(
        ours(ids, "beam(width=3)", [5], repetition_penalty=1.7),
        theirs(ids, 3, [5], repetition_penalty=1.7),
    )
    even = Recipe((*parse("beam(width=3)").methods, Even()))
    allowed = list(range(0, model().adapted.vocab_size, 2))
    same(ours(ids, even, [4]), theirs(ids, 3, [4], prefix_allowed_tokens_fn=lambda *_: allowed))


def test_where_no_text_can_go_on_that_is_said() -> None:
    for dead, place in ((0, "token 0"), (3, "token 3")):
        recipe = Recipe((*parse("beam(width=3)").methods, Even(dead)))
        with pytest.raises(LengthwiseError, match="nothing may follow|no token is allowed"):
            model().generate(tokens(PROMPT), recipe, max_new_tokens=NEW, stop_ids=[])
        assert place


def test_one_beam_is_greedy_over_any_cache() -> None:
    for cache in (
        "full",
        "streaming(sinks=2, window=8)",
        "kivi(bits=4)",
        "snapkv(budget=32, window=8)",
    ):
        asked = {"max_new_tokens": NEW, "stop_ids": [5]}
        greedy = model().generate(tokens(60), cache, **asked).token_ids
        assert model().generate(tokens(60), f"{cache} + beam(width=1)", **asked).token_ids == greedy


@pytest.mark.parametrize(
    "cache", ["streaming(sinks=2, window=8)", "kivi(bits=4)", "snapkv(budget=32, window=8)",
              "rope_alibi", "h2o(budget=24)"],
)  # fmt: skip
def test_scores_are_what_the_cache_gives_each_text_by_itself(cache: str) -> None:
    ids = tokens(60)
    found = model().generate(ids, f"{cache} + beam(width=3)", max_new_tokens=8, stop_ids=[])
    for draft in found.drafts:
        alone = float(model().score([*ids, *draft.token_ids], cache, prompt=60).mean())
        assert draft.score == pytest.approx(alone, abs=1e-4)


def test_samples_are_drawn_without_replacement_and_belong_to_a_seed() -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        return list(ours(tokens(PROMPT), "beam(width=4)", [], temperature=1.0, seed=seed))

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(drawn(1)) == 4


def test_the_prompt_is_held_once() -> None:
    ids, asked = tokens(400), {"max_new_tokens": 8, "stop_ids": []}
    plain = model().generate(ids, **asked).metrics.kv_bytes
    found = model().generate(ids, "beam(width=6)", **asked).metrics
    more = model().adapted.bytes_per_token * 5 * 7
    assert plain + more <= found.kv_bytes < 1.35 * plain
    assert found.figures == {"beam: tokens fed": 6 * 7}


def test_gnmt_s_norm_is_that_of_the_paper() -> None:
    rank = rank_of("gnmt", 0.2)
    assert rank(-6.0, 1, None) == -6.0
    assert rank(-6.0, 7, None) == pytest.approx(-6.0 / 2**0.2)
    assert rank_of("gnmt", 0.0)(-6.0, 9, None) == rank_of("length", 0.0)(-6.0, 9, None) == -6.0


def test_a_text_that_attends_to_all_of_the_prompt_wins_where_that_counts() -> None:
    rank = rank_of("gnmt", 0.0, 0.2)
    whole, part = torch.tensor([2.0, 0.9, 0.8]), torch.tensor([3.0, 0.7, 0.0])
    likely, covering = (Beam(None, [], covered=covered) for covered in (part, whole))
    assert rank_of("gnmt", 0.0)(-5.0, 4, likely) > rank_of("gnmt", 0.0)(-6.0, 4, covering)
    assert rank(-5.0, 4, likely) < rank(-6.0, 4, covering)
    assert rank(-6.0, 4, covering) == pytest.approx(-6.0 + 0.2 * math.log(0.9 * 0.8))


def test_what_is_covered_is_the_attention_that_stock_gives() -> None:
    ids = tokens(PROMPT)
    plan = model().plan("beam(width=3, coverage=0.2, layer=1)")
    request = run_request(model().adapted, plan, ids, NEW, Sampling(), None)
    assert isinstance(request.mode, BeamSearch)
    (group,) = request.mode.groups
    text = group.ended[0].tokens
    eager = tiny_model("llama", initializer_range=0.15, attn_implementation="eager").eval()
    with torch.no_grad():
        found = eager(torch.tensor([[*ids, *text]]), output_attentions=True).attentions[1][0]
    # The last token is said and not fed.
    given = found.mean(0)[PROMPT : PROMPT + len(text) - 1, :PROMPT].sum(0)
    score = float(model().score([*ids, *text], prompt=PROMPT).sum()) / len(text)
    score += 0.2 * float(given.clamp(1e-10, 1).log().sum())
    assert group.ended[0].score == pytest.approx(score, rel=1e-3)
    for text, said in (
        ("layer=9", "no layer 9"),
        ("norm=gnmt) + streaming(window=8", "keeps or reads"),
    ):
        with pytest.raises(Refused, match=said):
            model().plan(f"beam(coverage=0.2, {text})")


def test_a_session_goes_on_from_the_best_text() -> None:
    session = model().read(tokens(40), "beam(width=3)")
    first = session.ask([7, 8], max_new_tokens=6, stop_ids=[])
    assert len(first.drafts) == 3
    second = session.ask([9, 3], max_new_tokens=6, stop_ids=[])
    anew = model().generate([*tokens(40), 9, 3], "beam(width=3)", max_new_tokens=6, stop_ids=[])
    assert second.token_ids == anew.token_ids


def test_options_are_checked() -> None:
    for text in ("beam(width=0)", "beam(early_stopping=maybe)", "beam(norm=words)"):
        with pytest.raises(LengthwiseError):
            parse(text)
    assert str(BeamMethod(width=8)) == "beam(width=8)"
    assert issubclass(ConstraintError, LengthwiseError)


def test_a_text_that_ends_at_once_covers_nothing() -> None:
    ids = tokens(PROMPT)
    first = model().generate(ids, max_new_tokens=1, stop_ids=[]).token_ids
    assert next(iter(ours(ids, "beam(width=4, length_penalty=0)", first))) == ()
    found = ours(ids, "beam(width=4, length_penalty=0, coverage=0.2)", first)
    assert next(iter(found)) != ()
    # One that ends with its first token because no more may be said has the same.
    (short,) = model().generate(ids, "beam(width=1, coverage=0.2)", max_new_tokens=1,
                                stop_ids=[]).drafts  # fmt: skip
    score = float(model().score([*ids, *short.token_ids], prompt=PROMPT).sum())
    assert short.score == pytest.approx(score + 0.2 * PROMPT * math.log(1e-10), rel=1e-3)


@pytest.mark.parametrize("early, decided", [(True, True), (False, False), ("never", False)])
def test_a_search_goes_on_while_a_beam_may_still_cover_the_prompt(
    early: bool | str, decided: bool
) -> None:
    def searching(*alive: Beam, worst: float = -2.0) -> BeamGroup:
        rank = rank_of("length", 1.0, 1.0)
        ended = [Ended([1], worst, True)]
        return BeamGroup(1, rank, early, 10, alive=list(alive), ended=ended)

    whole, part = torch.ones(2), torch.tensor([1.0, 1e-4])
    likely = Beam(None, [1, 2], logprob=-1.0, covered=part)  # type: ignore[arg-type]
    covering = Beam(None, [1, 2], logprob=-1.5, covered=whole)  # type: ignore[arg-type]
    assert searching(likely, covering)._decided() is decided
    # Attention to the prompt can only rise, which "never" counts with.
    assert searching(likely)._decided() is (early != "never")
    assert searching(likely, covering, worst=-0.05)._decided()
