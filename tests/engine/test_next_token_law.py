"""Laws over next tokens: asked in order, before all else, and of guesses as of plain steps."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import lengthwise
from lengthwise.api.model import Model
from lengthwise.errors import ConstraintError, Refused
from lengthwise.plugin import AdaptedModel, Method, NextTokenLaw, Question, Sampling, option
from lengthwise.recipes import Recipe, parse
from lengthwise.testing.tiny import tiny_model, tokens
from tests.knows import knowing

NEW = 12


@dataclass(frozen=True)
class Only(Method):
    """Allows the tokens of one remainder by their place in the text, and ends behind `last`."""

    name: ClassVar[str] = "only"
    question: ClassVar[Question] = Question.DECODING
    paper = None
    of: int = option(3, "tokens are sorted by this", low=1)
    last: int = option(99, "most tokens", low=1)
    dead: int = option(99, "behind as many tokens nothing is allowed")

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        return _Only(self)


@dataclass(frozen=True)
class ByMoment(Only):
    name: ClassVar[str] = "bymoment"
    by_path: ClassVar[bool] = False


class _Only(NextTokenLaw):
    def __init__(self, options: Only) -> None:
        self.options, self.asked, self.ended = options, 0, False
        self.begun: tuple[int, int, Seq[int]] | None = None

    def begin(self, sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        self.begun = len(sequence), limit, stop_ids

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        assert self.begun is not None
        self.asked += 1
        if len(written) == self.options.dead:
            raise ConstraintError(f"only: nothing may follow token {len(written)}")
        forbidden = torch.arange(len(scores)) % self.options.of != len(written) % self.options.of
        return scores.masked_fill(forbidden, float("-inf"))

    def ends(self, written: Seq[int]) -> bool:
        return len(written) == self.options.last

    def finish(self, written: Seq[int]) -> None:
        self.ended = True

    @property
    def notes(self) -> Seq[str]:
        return [f"ended: {self.ended}"]

    @property
    def figures(self) -> dict[str, float]:
        return {"only: times asked": self.asked}


@pytest.fixture(scope="module")
def model() -> Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


def recipe(*laws: Method, beside: str = "full") -> Recipe:
    return Recipe((*parse(beside).methods, *laws))


def obeys(ids: Seq[int], of: int) -> bool:
    return all(token % of == place % of for place, token in enumerate(ids))


@pytest.mark.parametrize("beside", ["full", "streaming(sinks=2, window=16)", "lookup"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_token_is_chosen_under_it(model: Model, beside: str, temperature: float) -> None:
    asked = {"max_new_tokens": NEW, "stop_ids": [], "temperature": temperature, "seed": 1}
    found = model.generate(tokens(40), recipe(Only(), beside=beside), **asked)
    assert len(found.token_ids) == NEW and obeys(found.token_ids, 3)
    assert found.metrics.notes[0] == "ended: True"
    assert found.metrics.figures["only: times asked"] >= NEW
    if beside == "lookup":
        plain = model.generate(tokens(40), recipe(Only()), **asked)
        assert found.token_ids == plain.token_ids


def test_laws_are_asked_in_order_and_all_hold(model: Model) -> None:
    both = recipe(Only(of=3), replaced("other", of=2))
    found = model.generate(tokens(40), both, max_new_tokens=NEW, stop_ids=[])
    assert obeys(found.token_ids, 3) and obeys(found.token_ids, 2)


def replaced(name: str, **options: int) -> Method:
    cls = type("Other", (Only,), {"name": name})
    return dataclass(frozen=True)(cls)(**options)


def test_a_law_ends_the_text(model: Model) -> None:
    found = model.generate(tokens(40), recipe(Only(last=5)), max_new_tokens=NEW, stop_ids=[])
    assert len(found.token_ids) == 5 and found.metrics.finish_reason == "stop"


def test_where_nothing_may_follow_that_request_ends_alone(model: Model) -> None:
    rows = [recipe(Only(dead=4)), recipe(Only())]
    found = model.generate_batch([tokens(40), tokens(30)], rows, max_new_tokens=NEW, stop_ids=[])
    assert isinstance(found[0].failed, ConstraintError) and len(found[0].token_ids) == 4
    assert found[0].metrics.finish_reason == "constraint"
    assert found[1].failed is None and len(found[1].token_ids) == NEW
    with pytest.raises(ConstraintError, match="nothing may follow token 0"):
        model.generate(tokens(40), recipe(Only(dead=0)), max_new_tokens=NEW)


def test_batch_equals_single_and_a_second_turn_begins_anew(model: Model) -> None:
    texts = [tokens(40), tokens(31)]
    asked = {"max_new_tokens": NEW, "stop_ids": []}
    batch = model.generate_batch(texts, recipe(Only()), **asked)
    for text, one in zip(texts, batch, strict=True):
        assert one.token_ids == model.generate(text, recipe(Only()), **asked).token_ids
    session = model.read(tokens(40), recipe(Only()))
    for turn in ([5, 6, 7], [8, 9]):
        assert obeys(session.ask(turn, **asked).token_ids, 3)


def test_what_cannot_be_followed_is_refused(model: Model) -> None:
    with pytest.raises(Refused, match="depends on when it is asked"):
        model.plan(recipe(ByMoment(), beside="lookup"))
    with pytest.raises(Refused, match="mixtures of several"):
        model.plan(recipe(Only(), beside="superposed"))
    assert len(model.plan(recipe(ByMoment())).laws) == 1


def test_scoring_given_tokens_asks_no_law(model: Model) -> None:
    ids = tokens(30)
    assert torch.equal(model.score(ids, recipe(Only(dead=0))), model.score(ids))


@dataclass(frozen=True)
class Failing(Only):
    """Has a fault in one of its functions."""

    name: ClassVar[str] = "failing"
    where: str = option("process", "function with the fault")

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        law = _Only(self)

        def fault(*_: object) -> None:
            raise KeyError("a fault of its own")

        setattr(law, self.where, fault)
        return law


@pytest.mark.parametrize("where", ["begin", "process", "ends"])
def test_a_law_that_fails_ends_its_own_request_and_no_other(model: Model, where: str) -> None:
    rows = [recipe(Failing(where=where)), recipe(Only())]
    found = model.generate_batch([tokens(40), tokens(30)], rows, max_new_tokens=NEW, stop_ids=[])
    assert isinstance(found[0].failed, ConstraintError) and "a fault" in str(found[0].failed)
    assert found[0].metrics.finish_reason == "constraint"
    assert found[1].failed is None and len(found[1].token_ids) == NEW


def test_a_law_that_fails_at_the_end_loses_no_text(model: Model) -> None:
    asked = {"max_new_tokens": NEW, "stop_ids": []}
    found = model.generate(tokens(40), recipe(Failing(where="finish")), **asked)
    assert found.token_ids == model.generate(tokens(40), recipe(Only()), **asked).token_ids
    assert any("failed at the end" in note for note in found.metrics.notes)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("how", ["by the law", "by a stop token", "by nothing that may follow"])
def test_guesses_beyond_the_end_of_a_text_change_nothing(
    model: Model, temperature: float, how: str
) -> None:
    """Behind its end a law allows nothing, and is not what ends the text."""
    asked = {"max_new_tokens": NEW, "stop_ids": [], "temperature": temperature, "seed": 4}
    whole = model.generate(tokens(40), recipe(Only()), **asked).token_ids
    law, count = Only(last=6 if how == "by the law" else 99, dead=6), 6
    if how == "by a stop token":
        count = whole.index(whole[5])
        asked["stop_ids"] = [whole[5]]
    (plain,) = model.generate_batch([tokens(40)], recipe(law), **asked)
    (drafted,) = model.generate_batch([tokens(40)], knowing(whole, law), **asked)
    assert plain.token_ids == drafted.token_ids == whole[:count]
    reason = "constraint" if how == "by nothing that may follow" else "stop"
    assert plain.metrics.finish_reason == drafted.metrics.finish_reason == reason
    assert isinstance(drafted.failed, ConstraintError) is (reason == "constraint")
    assert drafted.metrics.steps < plain.metrics.steps or count < 3
