"""Runs: every sample under every recipe, one reading for a context that samples share, a file that
a stopped run goes on from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from lengthwise._utils.progress import Progress
from lengthwise.api.model import Model
from lengthwise.engine.prefix.cache import PrefixCache
from lengthwise.errors import LengthwiseError, OutOfMemory, RecipeError
from lengthwise.evaluation.metrics.scores import scores_of
from lengthwise.evaluation.runs import evaluate as module
from lengthwise.evaluation.runs.evaluate import evaluate
from lengthwise.evaluation.runs.replies import replies_of
from lengthwise.evaluation.runs.run_file import read_run
from lengthwise.evaluation.tasks import benchmark
from lengthwise.evaluation.tasks.benchmark import Difficulty, NoRoom, Sample, Task, Wanted
from lengthwise.testing.prompting import letters
from tests.evaluation.tasks.published.published_cases import write

RECIPES = ["full", "bm25(budget=200, passage=60)", "kivi(bits=4, residual=32)"]
SHORT = {"lengths": [800], "samples": 2}


def answered(model: Model, **options: object) -> benchmark.Any:
    return evaluate(model, "passkey", RECIPES, **{**SHORT, **options})  # type: ignore[arg-type]


def test_every_sample_is_answered_under_every_recipe() -> None:
    found = answered(letters(), depths=[0.0, 1.0])
    assert len(found.rows) == 2 * 2 * len(RECIPES)
    assert len({row.key for row in found.rows}) == len(found.rows)
    for row in found.rows:
        assert row.score == 0 == row.scores["first_int"] and row.refused is None
        assert row.prompt_tokens <= 800 and row.tokens_read >= row.prompt_tokens
        assert row.ttft_s and row.kv_bytes and row.references and row.question
    chosen = [row for row in found.rows if row.recipe == RECIPES[1]]
    assert max(row.prompt_tokens for row in chosen) < 260
    assert 0 <= found.overhead < 1 and found.trained_length == 4096


def test_a_run_goes_on_from_its_file_and_may_grow(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    whole = answered(letters(), out=out)
    lines = out.read_bytes().splitlines(keepends=True)
    # As a crash leaves it: three rows and half of a fourth.
    out.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    told = _Told()
    again = answered(letters(), out=out, progress=told)
    assert sum(told.done) == len(whole.rows) - 3
    assert [row.said for row in again.rows] == [row.said for row in whole.rows]
    more = evaluate(letters(), ["passkey", "needle"], RECIPES[:1], out=out, document="Hay. " * 300,
                    force=True, lengths=[800], samples=1)  # fmt: skip
    assert len(read_run(out)[1]) == len(more.rows) == 2


@pytest.mark.parametrize("other", [{"seed": 1}, {"samples": 3}, {"document": "Other hay. " * 99}])
def test_a_file_of_another_run_is_asked_for(other: dict[str, object], tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    answered(letters(), out=out)
    before = out.read_bytes()
    with pytest.raises(LengthwiseError, match="is a run of another"):
        answered(letters(), out=out, **other)
    out.with_name("notes").write_text("years of work")
    with pytest.raises(LengthwiseError, match="no run of lengthwise"):
        answered(letters(), out=out.with_name("notes"))
    assert out.read_bytes() == before


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    answered(letters(), out=out)
    lines = out.read_text().splitlines()
    out.write_text("\n".join([*lines[:2], '{"task": 3', *lines[2:]]) + "\n")
    for call in (lambda: answered(letters(), out=out), lambda: read_run(out)):
        with pytest.raises(LengthwiseError, match="line 3 is damaged"):
            call()
    out.write_text('{"lengthwise run": 99}\n')
    with pytest.raises(LengthwiseError, match="its first line is damaged"):
        answered(letters(), out=out)


@dataclass(frozen=True)
class Shared:
    """Three questions of one text, then one of another."""

    name: ClassVar[str] = "shared"
    paper: ClassVar[None] = None
    tasks: ClassVar[Mapping[str, Difficulty]] = {"shared": Difficulty("low", "high")}

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        texts = ["a text of some letters. " * 8] * 3 + ["another text of letters. " * 8]
        for number, text in enumerate(texts):
            yield Sample(text, f"what is {number}?", ("x",), 4, begin="it is", chat=number != 9)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        return {"begins": float(said.startswith(" "))}


def test_samples_of_one_context_read_it_once_with_the_same_replies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = list(Shared().samples("shared", Wanted(999, 4, 0, len, "")))
    model, reads = letters(), []
    read = Model.read

    def counted(self: Model, prompt: object, *args: object, **options: object) -> object:
        reads.append(prompt)
        return read(self, prompt, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "read", counted)
    for recipe in ("full", "snapkv(budget=40)", "kivi(bits=4, residual=32)"):
        reads.clear()
        together = list(replies_of(model, recipe).of(samples))
        assert len(reads) == 1
        alone = [reply for each in samples for reply in replies_of(model, recipe).of([each])]
        assert [reply.said for reply in together] == [reply.said for reply in alone]
        assert [r.prompt_tokens for r in together] == [r.prompt_tokens for r in alone]


@pytest.mark.parametrize("task", ["passkey", "kv"])
def test_recipes_that_read_alike_read_once_with_the_same_replies(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = ["full", "snapkv(budget=100)", "kivi(bits=4, residual=32)", "streaming(window=60)"]
    model, cache = letters(), PrefixCache(1 << 28)
    rows = evaluate(model, task, recipes, **SHORT).rows  # type: ignore[arg-type]
    monkeypatch.setattr(model, "prefix_cache", cache)
    again = evaluate(model, task, recipes, **SHORT).rows  # type: ignore[arg-type]
    assert [row.said for row in again] == [row.said for row in rows]
    # Room that is held in reserve may differ by some entries.
    held = [row.kv_bytes for row in rows]
    assert [row.kv_bytes for row in again] == pytest.approx(held, rel=0.01)
    assert cache.stats.reused > 1000
    assert all(row.ttft_s for row in rows)
    # What had been read for another is no time of this recipe's.
    told = [row.ttft_s is not None for row in again if row.number == 0]
    assert told == [True, False, False, True]


def test_what_a_recipe_refuses_is_counted_and_the_rest_goes_on() -> None:
    found = evaluate(letters(), "passkey", ["full", "jrt"], lengths=[800, 5000], samples=1)
    assert len(found.rows) == 4
    assert [row.over for row in found.rows if row.recipe == "full"] == [False, True]
    for row in found.rows:
        assert (row.score is None) == (row.refused is not None)


def test_what_was_refused_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, generate = tmp_path / "run.jsonl", Model.generate

    def full(self: Model, *args: object, **options: object) -> object:
        raise OutOfMemory(9, 9, "cpu", "none is left")

    monkeypatch.setattr(Model, "generate", full)
    first = evaluate(letters(), "passkey", out=out, **SHORT)
    assert all("out of memory on cpu" in str(row.refused) for row in first.rows)
    monkeypatch.setattr(Model, "generate", generate)
    again = evaluate(letters(), "passkey", out=out, **SHORT)
    assert [row.refused for row in again.rows] == [None] * 2
    assert [row.key for row in read_run(out)[1]] == [row.key for row in again.rows]
    assert not any(row.refused for row in read_run(out)[1])


def test_a_length_without_room_is_left_out_and_said(tmp_path: Path) -> None:
    found = evaluate(letters(), "passkey", lengths=[80, 800], depths=[0.1, 0.9], samples=1)
    assert [row.length for row in found.rows] == [800, 800] and len(found.notes) == 1
    assert "passkey at 80 tokens is left out" in found.notes[0]
    # Smallest samples of two depths may differ.
    found = evaluate(letters(), ["kv", "passkey"], lengths=[300, 800], depths=[0.1, 0.9], samples=1)
    assert len(found.notes) == len({note.partition(" is left out")[0] for note in found.notes})
    # A run in which nothing could be asked is no run.
    with pytest.raises(NoRoom, match="passkey at 80 tokens is left out"):
        evaluate(letters(), "passkey", lengths=[80], samples=1, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_data_that_is_not_there_ends_a_run(tmp_path: Path) -> None:
    (tmp_path / "trec.jsonl").write_text('{"input": "?", "context": "a"}\n')
    for given in (tmp_path, tmp_path / "nope"):
        with pytest.raises(LengthwiseError, match="trec"):
            evaluate(letters(), ["passkey", f'longbench(data="{given}")/trec'], **SHORT)


@pytest.mark.parametrize("wrong, error", [
    ({"tasks": []}, LengthwiseError), ({"tasks": "x"}, RecipeError), ({"depths": [1.5]},
    LengthwiseError), ({"lengths": [0]}, LengthwiseError), ({"samples": 0}, LengthwiseError),
    ({"recipes": "yarm"}, RecipeError),
])  # fmt: skip
def test_wrong_wishes_are_said_before_anything_runs(
    wrong: dict[str, object], error: type[Exception], tmp_path: Path
) -> None:
    given = {"tasks": "passkey", "out": tmp_path / "x.jsonl", **SHORT, **wrong}
    with pytest.raises(error):
        evaluate(letters(), **given)  # type: ignore[arg-type]
    assert not (tmp_path / "x.jsonl").exists()


def test_the_head_says_where_a_run_comes_from(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    answered(letters(), out=out)
    head = json.loads(out.read_text().splitlines()[0])
    assert head["job"]["model"].startswith("letters") and head["origin"]["machine"]


class _Told(Progress):
    def __init__(self) -> None:
        self.done: list[int] = []

    def advance(self, done: int, tokens: int = 0) -> None:
        self.done.append(done)


def test_a_task_keeps_its_scores() -> None:
    task = Task(Shared(), "shared", "shared")
    (first, *_) = task.samples(Wanted(999, 4, 0, len, ""))
    assert task.score(" x", first) == {"begins": 1.0} and task.difficulty.scope == "high"


def test_a_question_without_a_text_begins_as_texts_do_and_is_chosen_from_by_nobody() -> None:
    samples = [Sample("", f"what is {n}?", ("x",), 4, chat=False) for n in range(2)]
    model = letters()
    for recipe in ("full", "bm25(budget=200, passage=60)"):
        first, second = replies_of(model, recipe).of(samples)
        assert first.refused is None and second.refused is None
        assert first.prompt_tokens == len(model.encode(samples[0].question, special="text"))


def test_replies_are_sampled_where_a_sample_says_so() -> None:
    samples = [Sample("a text", "what?", ("x",), 12, temperature=2.0, seed=n) for n in range(3)]
    said = [reply.said for reply in replies_of(letters(), "full").of(samples)]
    again = [reply.said for reply in replies_of(letters(), "full").of(samples)]
    assert said == again and len(set(said)) == 3


def test_a_reply_that_waits_for_a_judge_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shared, "score", lambda *_: {})
    task = Task(Shared(), "shared", "shared")
    monkeypatch.setattr(module, "tasks_of", lambda _: [task])
    found = evaluate(letters(), "shared", samples=4, lengths=[999], out=tmp_path / "run")
    assert [row.score for row in found.rows] == [None] * 4
    (score,) = scores_of(found.rows)
    assert score.mean is None and score.refused == 0
    assert [row.score for row in read_run(tmp_path / "run")[1]] == [None] * 4


def test_samples_that_are_the_same_at_any_depth_are_asked_once_which_is_said() -> None:
    found = evaluate(letters(), ["addition/nosep", "passkey"], lengths=[800], samples=2,
                     depths=[0.5, 0.1, 0.5])  # fmt: skip
    asked = [(row.task, row.depth) for row in found.rows if row.number == 0]
    assert asked == [("addition/nosep", None), ("passkey", 0.5), ("passkey", 0.1)]
    assert found.notes == ["addition/nosep is the same at any depth, so each sample is asked once"]
    assert evaluate(letters(), "addition/nosep", lengths=[800], samples=1).notes == []


def test_copies_at_two_lengths_are_one_question_and_samples_that_differ_are_not(
    tmp_path: Path,
) -> None:
    tasks = ["addition/nosep", "passkey", documents(tmp_path, "trec")]
    found = evaluate(letters(), tasks, lengths=[500, 700], samples=3)
    units = {task: {row.unit for row in found.rows if row.task == task} for task in tasks}
    assert [len(units[task]) for task in tasks] == [3, 6, 3]
    cut = {row.length: row.context for row in found.rows if row.task == tasks[2]}
    assert cut[500] < cut[700]


def documents(folder: Path, task: str, word: str = "hay") -> str:
    """A published task of three documents that no length holds."""
    rows = [{"input": f"{n}?", "context": f"{n} {word} " * 999, "answers": ["x"],
             "all_classes": ["x"]} for n in range(3)]  # fmt: skip
    write(folder, f"{task}.jsonl", rows)
    return f"longbench(data={folder})/{task}"


def test_a_run_of_changed_data_is_refused_and_not_mixed(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run.jsonl"
    data.mkdir()
    options: dict[str, benchmark.Any] = {"lengths": [500], "samples": 3, "out": out}
    first = evaluate(letters(), documents(data, "trec"), **options)
    again = evaluate(letters(), documents(data, "trec"), ["full", "kivi"], **options)
    assert again.rows[:3] == first.rows and len(again.rows) == 6
    before = out.read_bytes()
    # As long, so that every length and number is as it was; what is whole is looked at as well.
    for recipes in (["full", "kivi"], ["full", "streaming"], ["streaming", "full"]):
        with pytest.raises(LengthwiseError, match=r"run.jsonl: sample 1 of longbench.*another"):
            evaluate(letters(), documents(data, "trec", "may"), recipes, **options)
        assert out.read_bytes() == before
    # Rows of an older file have no sign of the question.
    out.write_text(re.sub('"problem": "[0-9a-f]+"', '"problem": ""', out.read_text()))
    assert evaluate(letters(), documents(data, "trec"), **options).rows[0].problem == ""


def test_what_was_left_out_stands_in_the_file_once(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    for _ in range(2):
        found = evaluate(letters(), "passkey", lengths=[80, 800], samples=1, out=out)
        head, rows = read_run(out)
        assert head["notes"] == found.notes and "passkey at 80 tokens" in found.notes[0]
        assert rows == found.rows
    with out.open("a") as file:
        file.write('{"note": 3\n')
    for call in (lambda: read_run(out), lambda: evaluate(letters(), "passkey", samples=1, out=out)):
        with pytest.raises(LengthwiseError, match="line 4 is damaged"):
            call()


def test_small_facts_of_a_sample_are_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"bucket": 4000, "kind": "qa", "cut_tokens": 3, "text": "x" * 65, "names": ["a"]}
    sample = Sample("a text", "what?", ("x",), 4, facts=facts)
    monkeypatch.setattr(Shared, "samples", lambda *_: iter([sample]))
    monkeypatch.setattr(module, "tasks_of", lambda _: [Task(Shared(), "shared", "shared")])
    (row,) = evaluate(letters(), "shared", samples=1, lengths=[999]).rows
    assert row.facts == {"bucket": 4000, "kind": "qa"} and row.cut_tokens == 3


def test_without_a_task_the_command_that_lists_them_is_named() -> None:
    with pytest.raises(LengthwiseError, match="`lengthwise eval tasks` lists them"):
        evaluate(letters(), [])
