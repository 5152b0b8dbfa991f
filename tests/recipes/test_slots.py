"""A new question is one slot: all that a recipe goes through follows from that one entry."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from lengthwise.api.support import check
from lengthwise.cli import main
from lengthwise.engine.plan import Plan
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods import slots
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.slots import SLOTS, Slot, questions
from lengthwise.recipes import parse, registry, resolve
from lengthwise.testing.tiny import tiny

WORDS = "How is the answer checked?"
CHECKING = Slot("checking", "start_check", WORDS, owns="how the answer is checked")


@dataclass(frozen=True)
class Strict(Method):
    name: ClassVar[str] = "strict"
    question: ClassVar[str] = "checking"
    paper: ClassVar[Paper] = Paper("A toy", "Anybody", 2026)

    keep: int = option(8, "lines that are kept", low=1)

    def start_check(self, model: Any) -> tuple[str, int, Any]:
        return "checked by", self.keep, model


@dataclass(frozen=True)
class Lenient(Strict):
    name: ClassVar[str] = "lenient"


@pytest.fixture
def checking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The slot, and a package with two methods for it; nothing else is told of either."""
    info = tmp_path / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[lengthwise.methods]\nstrict = toy_checks:Strict\nlenient = toy_checks:Lenient\n"
    )
    module = ModuleType("toy_checks")
    module.Strict, module.Lenient = Strict, Lenient  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_checks", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    with monkeypatch.context() as patched:
        patched.setattr(slots, "SLOTS", (*SLOTS, CHECKING))
        yield
    monkeypatch.undo()
    registry.refresh()


def test_without_its_slot_a_question_is_refused_by_name(
    checking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SLOTS", SLOTS)
    with pytest.raises(RecipeError, match="there is no question 'checking'; known are positions"):
        parse("strict")


def test_a_recipe_of_a_new_question_is_parsed_composed_and_planned(checking: None) -> None:
    model = tiny("llama")
    assert str(parse("strict(keep=3) + lookup")) == "strict(keep=3) + lookup"
    with pytest.raises(RecipeError, match="allowed is whole number, at least 1"):
        parse("strict(keep=0)")
    plan = resolve("strict(keep=3) + lookup + snapkv", model)
    assert plan.answers["start_check"]() == ("checked by", 3, model)
    assert len(plan.drafters) == 1 and plan.retention is not None
    assert resolve("lookup", model).answers == {} and Plan().answers == {}


def test_a_new_slot_has_one_owner(checking: None) -> None:
    with pytest.raises(Refused, match="strict and lenient both decide how the answer is checked"):
        resolve("strict + lookup + lenient", tiny("llama"))


@pytest.mark.parametrize("changes", [{"many": True, "owns": ""}, {"per": "model"},
                                     {"per": "layer"}])  # fmt: skip
def test_a_slot_says_how_it_is_answered(
    checking: None, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    slot = Slot(**{**vars(CHECKING), **changes})
    monkeypatch.setattr(slots, "SLOTS", (*SLOTS, slot))
    model = tiny("llama")
    answer = resolve("strict", model).answers["start_check"]
    if slot.many:
        both = resolve("strict + lenient(keep=2)", model).answers["start_check"]
        assert [each()[1] for each in both] == [8, 2]
    elif slot.per == "model":
        assert answer == ("checked by", 8, model)
    else:
        assert answer(model.layers[0]) == ("checked by", 8, model.layers[0])


def test_a_new_question_is_listed_checked_and_headed(
    checking: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lengthwise", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    listed = call("methods")
    assert listed.index("\nchecking\n") > listed.index("\ndrafting\n")
    assert '  strict  Anybody, "A toy", 2026' in listed
    assert json.loads(call("methods", "strict", "--json"))["question"] == "checking"
    assert check(tiny("llama"))["checking"].runs == ("lenient", "strict")
    monkeypatch.syspath_prepend(str(DOCS))
    page = _generator()
    monkeypatch.setattr(page, "OURS", "toys")
    text = page.index()
    assert f"## {WORDS} (`checking`)" in text and "[`strict`](methods/strict.md)" in text


DOCS = Path(__file__).parents[2] / "docs"


def _generator() -> Any:
    path = DOCS / "generate.py"
    spec = importlib.util.spec_from_file_location("generate_docs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_slot_is_whole() -> None:
    """Hooks are functions of Method, fields are the plan's, words and owners are there."""
    assert all(callable(getattr(Method, slot.hook)) for slot in SLOTS)
    assert {slot.fills for slot in SLOTS if slot.fills} <= set(Plan.__dataclass_fields__)
    assert len({slot.hook for slot in SLOTS}) == len(SLOTS)
    assert all(questions().values()) and {each.value for each in Question} <= set(questions())
    # What is neither owned nor added up is settled by a rule of its own: where tokens stand.
    assert [s.hook for s in SLOTS if not s.owns and not s.many] == ["placement"]
