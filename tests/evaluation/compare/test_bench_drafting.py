"""The drafting suite: what becomes a row, what it is compared with, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

import lengthwise
from lengthwise import recipes
from lengthwise.documents.prompt_files import read_prompts
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.compare import drafting, drafting_suite
from lengthwise.evaluation.compare.comparison import EvaluationProgress
from lengthwise.evaluation.compare.drafting import GREEDY, PROMPT_LOOKUP, bench
from lengthwise.evaluation.metrics.divergence import first_difference, top_gap
from lengthwise.evaluation.metrics.drafting_rows import (
    DraftingRow,
    Result,
    Run,
    median_run,
    summary,
)
from lengthwise.evaluation.reports.drafting_table import show
from lengthwise.evaluation.tasks import work
from lengthwise.methods.base import Method, Question
from lengthwise.models.adapted_model import AdaptedModel
from tests.evaluation.drafting_cases import CHAT, STOP, TURNS, written


@pytest.fixture(scope="module")
def rows(model: lengthwise.Model) -> Seq[DraftingRow]:
    """The whole suite at short context, one round."""
    wanted = ["lookup", "streaming(window=64) + lookup", "snapkv(budget=50%) + streaming"]
    return bench(model, wanted, (), ["short"], new_tokens=12, rounds=1).rows


def test_every_kind_has_a_row_a_recipe_its_plain_loop_and_both_baselines(rows) -> None:
    wanted = ["full", GREEDY, PROMPT_LOOKUP, "lookup", "streaming(window=64)",
              "streaming(window=64) + lookup", "snapkv(budget=50%) + streaming"]  # fmt: skip
    for kind in work.KINDS:
        here = [row.recipe for row in rows if row.kind == kind]
        assert [name for name in wanted if name in here] == here
        assert set(wanted) <= {*here, wanted[-1]}


def test_in_float32_every_lossless_recipe_and_baseline_writes_as_plain_does(rows) -> None:
    ran = [row for row in rows if row.refused is None]
    assert ran and all(row.equal and not row.divergences for row in ran)


def test_ratios_are_to_the_recipe_without_its_drafters(rows) -> None:
    speed = {(row.kind, row.recipe): row.tokens_per_s for row in rows}
    for row in rows:
        if row.refused is None and row.tokens_per_s:
            assert row.ratio == pytest.approx(row.tokens_per_s / speed[row.kind, row.plain])
    assert {row.plain for row in rows if "streaming(window=64)" in row.recipe} == {
        "streaming(window=64)"
    }


def test_a_budget_that_cannot_serve_a_prompt_is_a_refused_row(model: lengthwise.Model) -> None:
    found = bench(model, ["h2o(budget=8B) + lookup"], ["copying"], ["short"], prompts=1,
                  new_tokens=4, rounds=1, baselines=False).rows  # fmt: skip
    reasons = {row.recipe: row.refused for row in found}
    assert reasons.pop("full") is None and len(reasons) == 2
    assert all("does not pay for one token" in reason for reason in reasons.values())


def test_a_refused_recipe_is_a_row_with_the_reason(rows) -> None:
    refused = [row for row in rows if row.refused is not None]
    assert [row.kind for row in refused] == list(work.KINDS) and refused[0].tokens is None


def test_totals_are_all_tokens_over_all_seconds(rows) -> None:
    for recipe in ("full", "lookup", GREEDY):
        mine = {row.kind: row for row in rows if row.recipe == recipe}
        for name, kinds in (("six kinds", work.SIX), ("grounded", work.GROUNDED)):
            parts = [mine[kind] for kind in kinds]
            tokens = sum(row.tokens for row in parts)
            seconds = sum(row.tokens / row.tokens_per_s for row in parts if row.tokens)
            assert mine[name].tokens == tokens and mine[name].prompts == len(kinds)
            assert mine[name].tokens_per_s == pytest.approx(tokens / seconds)


def test_totals_over_both_contexts_are_there_when_both_ran(model) -> None:
    found = bench(model, [], work.GROUNDED, new_tokens=4, rounds=1, baselines=False).rows
    groups = [(row.kind, row.context) for row in found if row.kind not in work.KINDS]
    assert groups == [("grounded", "short"), ("grounded", "long"), ("grounded", "both")]


def run(tokens: int, seconds: float, **changes: Any) -> Run:
    return Run(tokens, seconds, (tuple(range(tokens)),), (1,) * tokens, **changes)


def test_the_median_run_is_one_of_the_runs() -> None:
    runs = [run(10, 1.0), run(10, 5.0), run(10, 2.0)]
    assert median_run(runs) is runs[2]
    assert median_run(runs[:2]) is runs[1]


def test_a_row_sums_tokens_seconds_and_shares(rows) -> None:
    drafted = Run(30, 3.0, ((),), (3,) * 9 + (2, 1), 0.5, 2.0, {"lookup": 15, "recycling": 6})
    slow = replace(drafted, seconds=6.0, lengths=(3,) * 9)
    plain = run(30, 6.0)
    results = [Result("summary", "short", (n,), drafted, plain) for n in (100, 200)]
    row = summary(rows[0], results)
    assert (row.tokens, row.tokens_per_s, row.ratio, row.context_tokens) == (60, 10.0, 2.0, 150)
    assert row.tokens_per_round == 60 / 22 and row.shares == {"lookup": 0.5, "recycling": 0.2}
    assert row.accept_lengths == {1: 2, 2: 2, 3: 18} and row.ratio_low == row.ratio_high == 2.0
    mixed = summary(rows[0], [results[0], replace(results[1], run=slow)])
    assert (mixed.ratio_low, mixed.ratio_high) == (1.0, 2.0) and 1.0 < mixed.ratio < 2.0
    assert (row.draft_s, row.verify_s, row.rest_s) == (1.0, 4.0, 1.0)


def test_a_row_of_answers_of_one_token_has_no_speed(rows) -> None:
    row = summary(rows[0], [Result("chat", "short", (9,), run(0, 0.0), run(0, 0.0))])
    assert row.tokens_per_s is None and row.ratio is None and row.tokens_per_round is None


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 5, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [4], 0)],
)
def test_the_first_difference_counts_a_text_that_ends(one, other, place) -> None:
    assert first_difference(one, other) == place


def test_the_gap_is_that_of_the_plain_logits(model) -> None:
    prompt, after = list(range(10, 40)), [50, 60, 70]
    sequence = Sequence(model.adapted)
    loop.prefill(sequence, prompt)
    stock = model.adapted.model(torch.tensor([prompt + after])).logits[0, -1]
    first, second = stock.topk(2).values.tolist()
    assert top_gap(sequence, after) == pytest.approx(first - second, abs=1e-4)


def test_a_text_that_leaves_the_plain_one_says_where_and_how_closely(model, monkeypatch) -> None:
    true = drafting.stock_run

    def changed(*arguments: Any, **options: Any) -> Run:
        found = true(*arguments, **options)
        (output,) = found.outputs
        return replace(found, outputs=((*output[:2], STOP + 1, *output[3:]),))

    monkeypatch.setattr(drafting, "stock_run", changed)
    made = bench(model, [], ["summary"], ["short"], new_tokens=6, rounds=1)
    full, greedy, _ = made.rows
    assert full.equal and not greedy.equal
    (place,) = greedy.divergences
    assert (place.prompt, place.position) == ("summary/exceptions", 2) and place.gap >= 0
    out = io.StringIO()
    show(made, out)
    assert "new token 2 of summary/exceptions" in " ".join(out.getvalue().split())


def test_recipes_take_turns(model) -> None:
    class Noted(EvaluationProgress):
        names: ClassVar[list[str]] = []

        def stage(self, name: str, total: int, unit: str) -> None:
            self.names.append(name.rpartition(": ")[0])

    bench(model, ["lookup"], ["code"], ["short"], new_tokens=3, rounds=3, progress=Noted())
    assert Noted.names == ["full", GREEDY, PROMPT_LOOKUP, "lookup"] * 3


@dataclass(frozen=True)
class Noting(Method):
    """Notes for which model it was started."""

    name: ClassVar[str] = "noting"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[None] = None
    lossless: ClassVar[bool] = True
    started: ClassVar[list[AdaptedModel]] = []

    def start_drafter(self, model: AdaptedModel) -> Drafter:
        self.started.append(model)
        return Silent()


class Silent(Drafter):
    name = "noting"

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        """Guesses nothing."""


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[AdaptedModel]]:
    parser, find = recipes.parser, recipes.parser.find
    monkeypatch.setattr(parser, "find", lambda name: Noting if name == "noting" else find(name))
    Noting.started.clear()
    yield Noting.started


def test_cold_tables_are_of_one_recipe_and_one_round(model, noting) -> None:
    wanted = ["noting", "noting + lookup"]
    bench(model, wanted, ["code"], ["short"], prompts=2, new_tokens=3, rounds=2, baselines=False)
    waking, timed = noting[:2], [id(each) for each in noting[2:]]
    assert len(timed) == 8 and timed[:4] == timed[4:] and len(set(timed)) == 4
    assert model.adapted not in noting and not {*map(id, waking)} & {*timed}


class Reader(Silent):
    wants_states = True
    seen: ClassVar[list[int]] = []

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.seen.append(sum(map(len, sequence.noted or ())))


def test_readings_keep_states_for_drafters_that_want_them(model, noting, monkeypatch) -> None:
    monkeypatch.setattr(Noting, "start_drafter", lambda self, model: Reader())
    bench(model, ["noting"], ["code"], ["short"], new_tokens=3, rounds=2, baselines=False)
    (_, ids) = drafting_suite.kinds_suite(model, ["code"], ["short"], 1, 3)["short", "code"][0]
    assert Reader.seen == [len(ids)] * 3


def test_warm_tables_serve_all_rounds_of_a_recipe(model, noting) -> None:
    bench(model, ["noting"], ["code"], ["short"], new_tokens=3, rounds=3, warm=True,
          baselines=False)  # fmt: skip
    assert len({id(each) for each in noting[1:]}) == 1 and len(noting) == 5


def test_an_interrupted_suite_keeps_its_finished_rows(model) -> None:
    def stop(row: DraftingRow) -> None:
        if row.kind == "rewriting":
            raise KeyboardInterrupt

    made = bench(model, [], ["chat", "rewriting"], ["short"], new_tokens=2, rounds=1,
                 baselines=False, finished=stop)  # fmt: skip
    assert made.interrupted and [row.kind for row in made.rows] == ["chat", "rewriting"]


def test_turns_follow_on_plain_answers_and_have_rows_of_their_own(model, tmp_path) -> None:
    asked = read_prompts(written(tmp_path / "own.jsonl", TURNS, CHAT))
    rows = bench(model, ["lookup"], asked=asked, new_tokens=8, rounds=1, baselines=False).rows
    found = {(row.kind, row.recipe): row for row in rows}
    assert list(found) == [("writing", "full"), ("writing", "lookup"), ("own", "full"),
                           ("own", "lookup"), ("all kinds", "full"),
                           ("all kinds", "lookup")]  # fmt: skip
    assert [found[kind, "lookup"].prompts for kind in ("writing", "own", "all kinds")] == [2, 1, 3]
    assert all(row.equal and row.context == "own" for row in rows)
    suite = drafting_suite.own_suite(model, asked, ["writing"], None, 8, Sampling())
    (_, first), (second, ids) = suite["own", "writing"]
    answer = model.generate(first, max_new_tokens=8).text
    assert [m["content"] for m in second.messages] == ["Write a line.", answer, "And another one."]
    assert ids == drafting_suite.encode(model, second.messages) and second.name == "81, turn 2"


def test_own_prompts_of_a_kind_that_is_not_there_are_refused(model, tmp_path) -> None:
    asked = read_prompts(written(tmp_path / "own.jsonl", TURNS, CHAT))
    with pytest.raises(LengthwiseError, match="there are writing, own"):
        bench(model, ["lookup"], ["code"], asked=asked)
    long = [replace(asked[1], turns=("word " * 9000,))]
    with pytest.raises(LengthwiseError, match="prompt own/2 and its answer"):
        bench(model, ["lookup"], asked=long)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_prompts_decoded_at_once_give_each_what_it_gives_alone(model, temperature) -> None:
    options = {"prompts": 3, "new_tokens": 10, "rounds": 1, "temperature": temperature, "seed": 7}
    wanted = ["lookup", "streaming(window=64) + recycling"]
    alone = bench(model, wanted, ["code"], ["short"], **options).rows
    together = bench(model, wanted, ["code"], ["short"], batch=2, **options).rows
    refused = {row.recipe: row.refused for row in together if row.refused}
    assert list(refused) == [PROMPT_LOOKUP] and "one prompt at a time" in refused[PROMPT_LOOKUP]
    for one, more in zip(alone, together, strict=True):
        if more.refused is None and one.recipe not in (GREEDY, PROMPT_LOOKUP):
            assert (one.tokens, one.prompts, more.batch) == (more.tokens, more.prompts, 2)
            assert one.equal and more.equal
            assert sum(n * count for n, count in more.accept_lengths.items()) == more.tokens
    stock = {row.recipe: row for row in together}[GREEDY]
    assert stock.tokens_per_round == 1 and stock.equal is (None if temperature else True)


def test_samples_drawn_apart_are_not_compared(model) -> None:
    wanted = ["layers(keep=100%, draws=rejection) + fixed"]
    (*_, row) = bench(model, wanted, ["code"], ["short"], new_tokens=10, rounds=1,
                      baselines=False, temperature=1.0).rows  # fmt: skip
    assert row.recipe == wanted[0] and row.equal is None and row.tokens == 9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 0}, "rounds=0"),
        ({"contexts": ["medium"]}, "short, long"),
        ({"prompts": 9}, "5"),
        ({"batch": 0}, "batch=0"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_the_function_checks_what_the_command_checks(model, options, words: str) -> None:
    with pytest.raises(LengthwiseError, match=words):
        bench(model, **{"recipes": ["lookup"], **options})
