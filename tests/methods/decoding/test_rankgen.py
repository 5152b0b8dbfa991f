"""rankgen: samples from one reading, of which a ranker keeps the best."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.decoding.rankgen import RankGen
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.ranker import BiEncoder, Shape, save_ranker
from lengthwise.testing.tiny import tiny_model, tokens

PROMPT = tokens(40)
RECIPES = ["full", "snapkv(budget=25%, window=8, floor=8)", "kivi(bits=4, group=8, residual=16)"]


class Lowest:
    """Prefers texts of small ids, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], list[list[int]]]] = []

    def scores(self, prefix: Seq[int], continuations: Seq[Seq[int]]) -> list[float]:
        self.asked.append((list(prefix), [list(each) for each in continuations]))
        return [-sum(each) / len(each) for each in continuations]


RANKER = Lowest()


@dataclass(frozen=True)
class ByIds(RankGen):
    """A ranker of another kind: a subclass gives it."""

    name: ClassVar[str] = "by_ids"

    def ranker(self, model: AdaptedModel) -> Lowest:
        return RANKER


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


@pytest.fixture(autouse=True)
def forgotten() -> None:
    RANKER.asked.clear()


def write(model: lengthwise.Model, method: RankGen, **options: Any) -> Any:
    options = {"max_new_tokens": 12, "stop_ids": (), **options}
    return model.generate(PROMPT, [method], **options)


def test_the_best_of_n_whole_texts(model: lengthwise.Model) -> None:
    found = write(model, ByIds(beam=1, samples=6, tokens=0))
    ((prefix, texts),) = RANKER.asked
    assert prefix == PROMPT and len(texts) == 6 and len(set(map(tuple, texts))) == 6
    assert all(len(each) == 12 for each in texts)
    assert found.token_ids == min(texts, key=sum)
    assert found.drafts[0].score == pytest.approx(-sum(found.token_ids) / 12)
    assert found.metrics.figures == {"rankgen: tokens fed": 66, "rankgen: texts scored": 6}
    # Each is a text of the law itself: the first is what the request alone would sample.
    plain = model.generate(
        PROMPT, max_new_tokens=12, stop_ids=(), temperature=1.0, top_p=0.9
    ).token_ids
    assert plain in texts


def test_a_beam_of_chunks(model: lengthwise.Model) -> None:
    found = write(model, ByIds(beam=2, samples=3, tokens=5))
    asked = [texts for _, texts in RANKER.asked]
    assert [len(texts[0]) for texts in asked] == [5, 10, 12]
    # All beams are empty at first; each goes on from one of the two best before.
    assert [len(texts) for texts in asked] == [6, 6, 6]
    for before, behind in zip(asked, asked[1:], strict=False):
        best = sorted(before, key=lambda each: sum(each) / len(each))[:2]
        assert {tuple(each[: len(before[0])]) for each in behind} == set(map(tuple, best))
    assert found.token_ids == min(asked[-1], key=sum)
    assert len(found.drafts) == 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_forks_write_what_the_law_says(model: lengthwise.Model, recipe: str) -> None:
    """With one sample, chunks change nothing; greedy it is greedy decoding."""
    method = RankGen(beam=1, samples=1, tokens=4, temperature=0.0)
    cache = lengthwise.recipes.parse(recipe).methods
    plain = model.generate(PROMPT, recipe, max_new_tokens=12, stop_ids=()).token_ids
    assert (
        model.generate(PROMPT, [*cache, method], max_new_tokens=12, stop_ids=()).token_ids == plain
    )
    drawn = {"max_new_tokens": 12, "stop_ids": (), "temperature": 0.8, "seed": 3}
    plain = model.generate(PROMPT, recipe, **drawn).token_ids
    assert model.generate(PROMPT, [*cache, method], **drawn).token_ids == plain


def test_texts_that_end_stay_with_their_scores(model: lengthwise.Model) -> None:
    write(model, ByIds(beam=2, samples=4, tokens=4))
    stops = {text[2] for _, texts in RANKER.asked for text in texts}
    RANKER.asked.clear()
    found = write(model, ByIds(beam=2, samples=4, tokens=4), stop_ids=sorted(stops))
    assert not stops & set(found.token_ids)
    assert all(text and not stops & set(text[1:]) for _, texts in RANKER.asked for text in texts)
    scores = [each.score for each in found.drafts]
    assert scores == sorted(scores, reverse=True)


def test_beyond_what_a_ranker_reads_the_prefix_grows(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    path = tmp_path / "a.ranker"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        shape = Shape(width=8, layers=1, heads=1, prefix=16, suffix=6)
        made = BiEncoder(torch.randn(model.adapted.vocab_size, 8), shape).eval()
    save_ranker(path, made)
    found = write(model, RankGen(path=str(path), beam=1, samples=3, tokens=4))
    ids = found.token_ids
    assert len(ids) == 12
    (score,) = made.scores([*PROMPT, *ids[:-6]], [ids[-6:]])
    assert found.drafts[0].score == pytest.approx(score, abs=0.2)


def test_without_a_ranker_it_is_refused(model: lengthwise.Model, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="ranker train"):
        write(model, RankGen())
    with pytest.raises(RecipeError, match="No such file"):
        write(model, RankGen(path=str(tmp_path / "none")))
    small = tmp_path / "small.ranker"
    save_ranker(small, BiEncoder(torch.randn(9, 4), Shape(width=4, heads=1)))
    with pytest.raises(Refused, match="knows 9 tokens"):
        write(model, RankGen(path=str(small)))
    with pytest.raises(LengthwiseError, match="beam"):
        RankGen(beam=0)


def test_penalties_see_the_text_of_each_sample(model: lengthwise.Model) -> None:
    asked = {"max_new_tokens": 12, "stop_ids": (), "repetition_penalty": 1.7}
    plain = model.generate(PROMPT, temperature=1.0, top_p=0.9, **asked).token_ids
    write(model, ByIds(beam=1, samples=4, tokens=0), repetition_penalty=1.7)
    assert plain in RANKER.asked[0][1]
