"""The shelf: what stands on it, at which share, and what each row rests on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.evaluation.compare import shelf as module
from lengthwise.evaluation.compare.shelf import SHARES, settings, shelf
from lengthwise.evaluation.metrics.shelf_rows import ShelfRow, ShelfRows
from lengthwise.evaluation.tasks.shelf_text import ShelfText
from lengthwise.methods.base import Budget, Method, Question, option
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.recipes.registry import methods
from tests.evaluation.shelf_runs import text_of, tiny

METHODS = ("snapkv", "streaming", "kivi", "token_select", "squeezed")


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return tiny()


@pytest.fixture(scope="module")
def text(model: lengthwise.Model) -> ShelfText:
    return text_of(model)


@pytest.fixture(scope="module")
def rows(model: lengthwise.Model, text: ShelfText) -> ShelfRows:
    return shelf(model, text, METHODS, shares=(1.0, 0.5, 0.25), new_tokens=4)


def row_at(rows: ShelfRows, method: str, share: float) -> ShelfRow:
    (found,) = [row for row in rows if row.method == method and row.share == share]
    return found


def test_full_is_first_and_every_method_stands_at_every_share(rows: ShelfRows) -> None:
    assert rows[0].recipe == "full" and rows[0].kl == 0.0 and rows[0].held == 1.0
    assert [row.refused for row in rows if row.refused] == []
    for method in ("snapkv", "streaming", "token_select"):
        assert [row.share for row in rows if row.method == method] == [1.0, 0.5, 0.25]


def test_bytes_are_those_asked_for(rows: ShelfRows) -> None:
    for share in (0.5, 0.25):
        held = row_at(rows, "snapkv", share).held
        assert held is not None and abs(held / share - 1) < 0.03
        selection = row_at(rows, "token_select", share)
        assert selection.read is not None and 0.9 * share < selection.read <= 1.01 * share
        assert selection.held is not None and selection.held >= 1.0


def test_at_the_whole_share_nothing_is_lost(rows: ShelfRows) -> None:
    for method in ("snapkv", "squeezed", "kivi"):
        row = row_at(rows, method, 1.0)
        assert row.kl == pytest.approx(0, abs=1e-6)
        assert row.copy_loss == pytest.approx(rows[0].copy_loss, abs=1e-4)
        assert row.needle_loss == pytest.approx(rows[0].needle_loss, abs=1e-4)
    # This goes on dropping while tokens are written.
    assert row_at(rows, "streaming", 1.0).kl < 0.1 * row_at(rows, "streaming", 0.25).kl


def test_losses_are_those_of_one_token_after_the_other(
    model: lengthwise.Model, text: ShelfText, rows: ShelfRows
) -> None:
    plan = model.plan("streaming(window=64)")
    (row,) = [row for row in shelf(model, text, ["streaming(window=64)"], shares=[0.25],
                                   new_tokens=2) if row.method]  # fmt: skip
    # A window that is given is of no account: the share says how much is kept.
    assert row.recipe == row_at(rows, "streaming", 0.25).recipe != row.asked
    assert row.asked == str(plan.text)
    sequence = Sequence(model.adapted, model.plan(row.recipe))
    loop.prefill(sequence, text.context)
    sequence.end_prefill()
    probe = text.probes[0]
    for tokens, skip, loss in (
        (text.continuation, 0, row.loss),
        (probe.suffix + probe.target, len(probe.suffix) + probe.skip, row.copy_loss),
    ):
        logits = loop.teacher_force(sequence.fork(), tokens)
        losses = F.cross_entropy(logits.float(), torch.tensor(tokens), reduction="none")
        assert float(losses[skip:].mean()) == pytest.approx(loss, abs=1e-4)


def test_a_question_in_the_prompt_is_seen_by_what_compresses(
    model: lengthwise.Model, text: ShelfText, rows: ShelfRows
) -> None:
    found = shelf(model, text, ["snapkv"], shares=[0.25], query_aware=True, new_tokens=2)
    aware, later = found[1], row_at(rows, "snapkv", 0.25)
    assert aware.query_aware and not later.query_aware
    assert aware.copy_loss != later.copy_loss
    assert (aware.loss, aware.kl, aware.kv_bytes) == (later.loss, later.kl, later.kv_bytes)
    assert found[0].copy_loss == pytest.approx(rows[0].copy_loss, abs=1e-4)


def test_a_setting_of_several_shares_stands_at_the_nearest(
    model: lengthwise.Model, text: ShelfText
) -> None:
    asked, _ = settings(model, len(text.context), ["int8"], shares=SHARES)
    assert [each.shares for each in asked] == [(1.0,), (0.5, 0.25, 0.1)]
    (_, _, row) = shelf(model, text, ["int8"], new_tokens=2)
    # float32: 8 bits and what goes with them are a third or so.
    assert row.held is not None and row.share == min(SHARES, key=lambda s: abs(s - row.held))


def test_rows_that_are_known_are_kept_and_not_measured(
    model: lengthwise.Model, text: ShelfText, rows: ShelfRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [replace(row, loss=123.0) for row in rows if row.method in ("", "snapkv")]
    other = replace(known[1], text="another", recipe="streaming(window=300)")
    measured: list[str] = []
    own = module._Run.measure

    def measure(self: Any, row: ShelfRow, plan: Any) -> ShelfRow:
        measured.append(row.recipe)
        return own(self, row, plan)

    monkeypatch.setattr(module._Run, "measure", measure)
    new: list[ShelfRow] = []
    found = shelf(model, text, ["snapkv", "streaming"], shares=[0.5, 0.25], new_tokens=2,
                  known=[*known, other], finished=new.append)  # fmt: skip
    # Full's logits are needed whatever is known.
    assert [each for each in measured if each != "full"] == [row.recipe for row in new]
    assert {row.method for row in new} == {"streaming"}
    assert [row.loss for row in found if row.method in ("", "snapkv")] == [123.0] * 3


def test_a_refused_row_is_tried_again(
    model: lengthwise.Model, text: ShelfText, rows: ShelfRows
) -> None:
    known = [replace(row_at(rows, "snapkv", 0.25), kl=None, refused="no")]
    found = shelf(model, text, ["snapkv"], shares=[0.25], new_tokens=2, known=known)
    assert found[1].refused is None and found[1].kl is not None


@dataclass(frozen=True)
class Broken(SnapKV):
    """A plug-in whose code fails."""

    name: ClassVar[str] = "broken"
    failing: str = option("run", "where", choices=("run", "share", "refuse"))

    def at_share(self, share: float, model: Any, length: int) -> Method | None:
        if self.failing == "share":
            raise ZeroDivisionError("by nothing")
        return None if self.failing == "refuse" else super().at_share(share, model, length)

    def start_retention(self, model: Any) -> Any:
        raise RuntimeError("first line\nsecond")


@pytest.fixture
def with_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    known = methods()
    monkeypatch.setattr(module.registry, "methods", lambda: {**known, "broken": Broken})
    monkeypatch.setattr(
        module, "parse", lambda recipe: type("", (), {"methods": (
            Broken(failing=recipe.partition("=")[2] or "run"),)})
    )  # fmt: skip


def test_a_method_that_fails_is_a_row_and_harms_no_other(
    model: lengthwise.Model, text: ShelfText, with_broken: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = model.plan

    def planned(recipe: Any) -> Any:
        return plan([Broken()] if "broken" in str(recipe) else recipe)

    monkeypatch.setattr(model, "plan", planned)
    found = shelf(model, text, ["run", "at=share", "at=refuse"], shares=[0.5], new_tokens=2)
    reasons = [row.refused for row in found if row.method == "broken"]
    assert len(reasons) == 2 and "first line" in str(reasons[0])
    assert reasons[1] == "failed: ZeroDivisionError: by nothing"
    assert found.without == ("broken(failing=refuse)",)


def test_all_that_are_registered_are_asked(model: lengthwise.Model, text: ShelfText) -> None:
    asked, without = settings(model, len(text.context))
    named = {each.method.name for each in asked} | {each.partition("(")[0] for each in without}
    assert named == {n for n, c in methods().items() if c.question in module.QUESTIONS}
    only, _ = settings(model, 4096, questions=["codecs"])
    assert {each.method.question for each in only} == {Question.CODECS}


def test_the_best_known_setting_stands_beside_the_default(model: lengthwise.Model) -> None:
    asked, _ = settings(model, 4096, ["snapkv"], shares=[0.25], best_known=True)
    assert [each.asked for each in asked] == ["snapkv", "snapkv(window=8, kernel=31)"]
    assert [each.recipe for each in asked] == [
        "snapkv(budget=25%)", "snapkv(budget=25%, window=8, kernel=31)"
    ]  # fmt: skip
    assert asked[1].method == replace(SnapKV(window=8, kernel=31), budget=Budget(25, "%"))


def test_what_cannot_be_asked_is_refused(model: lengthwise.Model, text: ShelfText) -> None:
    for options, said in (
        ({"questions": ["drafting"]}, "give some of selection"), ({"shares": [0]}, "above 0"),
        ({"shares": [25]}, "at most 1"), ({"shares": []}, "above 0"),
        ({"new_tokens": 1}, "at least 2"), ({"questions": []}, "give some of"),
    ):  # fmt: skip
        with pytest.raises(LengthwiseError, match=said):
            shelf(model, text, **options)
    for methods_, said in ((["snapkv + kivi"], "2 methods"), (["full"], "0 methods"),
                           (["yarn"], "'positions'"), (["snapk"], "snapkv")):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            shelf(model, text, methods_)


def test_an_interruption_returns_what_is_finished(model: lengthwise.Model, text: ShelfText) -> None:
    def stop(row: ShelfRow) -> None:
        if row.method:
            raise KeyboardInterrupt

    found = shelf(model, text, ["streaming", "snapkv"], shares=[0.25], new_tokens=2, finished=stop)
    assert found.interrupted and [row.method for row in found] == ["", "streaming"]
