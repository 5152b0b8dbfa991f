"""Every method's setting at a share: what it comes to, and that it is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

import lengthwise
from lengthwise.errors import RecipeError
from lengthwise.evaluation.compare.shelf import QUESTIONS, SHARES
from lengthwise.methods.base import Budget, Method, Question, option
from lengthwise.methods.codecs.int8 import Int8
from lengthwise.methods.codecs.kivi import Kivi
from lengthwise.methods.codecs.think import Think
from lengthwise.methods.positions.yarn import YaRN
from lengthwise.methods.retention.duo import Duo
from lengthwise.methods.retention.longgen import LongGen
from lengthwise.methods.retention.razor import Razor
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.methods.selection.act_qkv import ActQKV
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.methods.selection.lserve import LServe
from lengthwise.methods.shares import nearest, whole_and_rest
from lengthwise.recipes import parse
from lengthwise.recipes.registry import methods
from tests.evaluation.shelf_runs import tiny

ASKED = [name for name, cls in methods().items() if cls.question in QUESTIONS]


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return tiny()


@pytest.mark.parametrize("length", [1024, 4096, 32768])
@pytest.mark.parametrize("name", ASKED)
def test_a_setting_is_one_that_a_recipe_can_write(
    model: lengthwise.Model, name: str, length: int
) -> None:
    method = methods()[name]()
    for share in SHARES:
        found = method.at_share(share, model.adapted, length)
        assert found is None or parse(str(found)).methods == (found,)


def test_a_budget_is_set_and_the_other_options_stay(model: lengthwise.Model) -> None:
    found = SnapKV(window=8, kernel=31).at_share(0.125, model.adapted, 4096)
    assert found == SnapKV(budget=Budget(12.5, "%"), window=8, kernel=31)


def test_a_method_without_a_budget_has_no_setting_unless_it_says_one(
    model: lengthwise.Model,
) -> None:
    assert YaRN().at_share(0.5, model.adapted, 4096) is None
    found = Streaming(sinks=8).at_share(0.25, model.adapted, 4096)
    assert found == Streaming(sinks=8, window=1016)


def test_heads_and_buffer_of_razor_come_to_the_share(model: lengthwise.Model) -> None:
    for share in (0.5, 0.25, 0.1):
        found = Razor().at_share(share, model.adapted, 4096)
        assert isinstance(found, Razor)
        assert found.heads + (1 - found.heads) * found.share == pytest.approx(share, abs=1e-3)
        assert found.heads <= min(0.15, share / 2)
    whole = Razor(heads=1.0).at_share(1.0, model.adapted, 4096)
    assert isinstance(whole, Razor) and whole.share == 1.0


def test_a_window_keeps_its_part_of_a_selection(model: lengthwise.Model) -> None:
    small, large = (InfLLM().at_share(share, model.adapted, 16384) for share in (0.01, 0.5))
    assert isinstance(small, InfLLM) and isinstance(large, InfLLM)
    assert small.budget == Budget(164) and small.window == 82
    assert (large.window, large.init, large.block) == (InfLLM.window, InfLLM.init, InfLLM.block)


@pytest.mark.parametrize("length", [1024, 4096, 32768])
@pytest.mark.parametrize("share", [0.5, 0.25, 0.1])
def test_heads_and_layers_that_keep_all_come_to_the_share_with_the_others(
    model: lengthwise.Model, length: int, share: float
) -> None:
    duo = Duo().at_share(share, model.adapted, length)
    kept = min(length, duo.sinks + duo.recent) / length
    assert duo.heads + (1 - duo.heads) * kept == pytest.approx(share, rel=0.02)
    longgen = LongGen().at_share(share, model.adapted, length)
    kept = min(length, longgen.sinks + longgen.window) / length
    assert longgen.full + (1 - longgen.full) * kept == pytest.approx(share, rel=0.02)
    assert longgen.full * len(model.adapted.layers) == pytest.approx(
        round(longgen.full * len(model.adapted.layers))
    )


def test_what_is_whole_and_what_the_others_keep() -> None:
    assert whole_and_rest(90, 0.5, 4096, 320) == (41, 334)
    assert whole_and_rest(90, 1.0, 4096, 320) == (90, 320)
    # Too few for a whole one: all share alike.
    assert whole_and_rest(4, 0.1, 1000, 50) == (0, 100)


def test_heads_that_stream_and_heads_that_choose_read_the_share(model: lengthwise.Model) -> None:
    for share in (0.5, 0.25, 0.1):
        found = LServe().at_share(share, model.adapted, 4096)
        reads = (found.budget.tokens(4096, 1.0) + found.sinks + found.recent) / 2
        assert reads / 4096 == pytest.approx(share, rel=0.01)
    small = ActQKV().at_share(0.01, model.adapted, 16384)
    assert small.budget == Budget(164) and small.window == 82


def test_bits_are_the_nearest(model: lengthwise.Model) -> None:
    # float32: 8 bits are a quarter, to which scales and zero points come.
    found = [Kivi(residual=32).at_share(share, model.adapted, 65536) for share in (1, 0.4, 0.05)]
    assert [(each.bits, each.both) for each in found] == [
        (16, (16, 16)), (8, (8, 8)), (2, (2, 2))
    ]  # fmt: skip
    assert all(each.residual == 32 for each in found)
    assert Int8().at_share(1.0, model.adapted, 4096) == Int8(residual=4096)
    assert Int8().at_share(0.1, model.adapted, 4096) == Int8()


def test_channels_are_no_more_than_all_of_the_keys(model: lengthwise.Model) -> None:
    assert Think().at_share(0.75, model.adapted, 10**6).ratio == pytest.approx(0.5, abs=1e-3)
    assert Think().at_share(0.1, model.adapted, 4096).ratio == 0.95
    assert Think().at_share(1.0, model.adapted, 4096).ratio == 0.0


def test_of_equals_the_first_is_taken(model: lengthwise.Model) -> None:
    one, other = Kivi(bits=4), Kivi(key_bits=4, value_bits=4)
    assert nearest([one, other], 0.1, model.adapted, 4096) is one
    assert nearest([other, one], 0.1, model.adapted, 4096) is other


@dataclass(frozen=True)
class Pruned(Method):
    """A plug-in with a number called share, and none below a tenth."""

    name: ClassVar[str] = "pruned"
    question: ClassVar[Question] = Question.CODECS
    share: float = option(0.4, "of an entry that stays", low=0.1, high=1.0)
    other: int = option(3, "something else")


def test_a_number_called_share_is_set(model: lengthwise.Model) -> None:
    assert Pruned(other=5).at_share(0.25, model.adapted, 10) == Pruned(share=0.25, other=5)
    with pytest.raises(RecipeError, match="share=0.05"):
        Pruned().at_share(0.05, model.adapted, 10)


def test_a_plug_in_says_its_own(model: lengthwise.Model) -> None:
    class Own(Method):
        name = "own"
        question = "retention"

        def at_share(self, share: float, model: object, length: int) -> Method:
            return self

    own = Own()
    assert own.at_share(0.5, model.adapted, 10) is own


def test_a_share_is_written_as_percent() -> None:
    assert [str(Budget.of(share)) for share in (1, 0.25, 0.125, 1 / 3)] == [
        "100%", "25%", "12.5%", "33.333333%"
    ]  # fmt: skip
