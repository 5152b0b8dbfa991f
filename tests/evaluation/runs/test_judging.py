"""Judging a run: known verdicts come out as they are, garbage is asked again and counted, and a
stopped call goes on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.judges.rating import Rating
from lengthwise.evaluation.metrics.judged import agreement_of, judged_of
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.reports.judge_table import JudgeFacts, show_judged
from lengthwise.evaluation.reports.sample_text import sample_text
from lengthwise.evaluation.runs.judgement_file import all_beside, beside, read_judgements
from lengthwise.evaluation.runs.judging import Judgements, check_judging, judge_run
from lengthwise.evaluation.runs.run_file import RunFile, read_run
from lengthwise.testing.prompting import letters
from tests.evaluation.judges.judge_cases import GARBAGE
from tests.remote_server import Scripted, nonsense, says, silence, status

Verdict = Callable[[str, dict[str, Any]], str]


pytestmark = pytest.mark.usefixtures("letters_counted")


def rows(samples: int = 6) -> list[SampleRow]:
    """Replies of three recipes; a reply says how good it is."""
    found = []
    for recipe, lost in (("full", 0), ("kivi", 1), ("snapkv", 4)):
        for n in range(samples):
            worth = 9 - n % 3 - lost
            found.append(
                SampleRow("qa", recipe, 1024, n, question=f"q{n}?", references=(f"r{n}",),
                          said=f"worth {worth} " + "x" * lost, score=worth / 10)
            )  # fmt: skip
    found.append(SampleRow("qa", "snapkv", 1024, samples, refused="no room"))
    return found


def written(path: Path, given: list[SampleRow] | None = None, model: str = "m abc float32") -> Path:
    with RunFile(path, {"model": model, "seed": 0}) as file:
        for row in rows() if given is None else given:
            file.add(row)
    return path


@contextmanager
def judging(verdict: Verdict, retries: int = 0, timeout_s: float = 20.0) -> Iterator[Any]:
    """A judge behind a server, whose verdict is a function of the prompt."""

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        says(verdict(body["messages"][-1]["content"], body))(handler, body)

    server = Scripted(reply)
    try:
        yield lengthwise.connect(server.url, retries=retries, timeout_s=timeout_s), server
    finally:
        server.close()


def rated(prompt: str, body: dict[str, Any]) -> str:
    return f"Fine. Rating: [[{prompt.split('worth ')[1][0]}]]"


def better(prompt: str, body: dict[str, Any]) -> str:
    first, second = (int(part[0]) for part in prompt.split("worth ")[1:])
    return "[[A]]" if first > second else "[[B]]" if first < second else "[[C]]"


def scores(found: Judgements) -> dict[tuple[str, int], float | None]:
    return {(row.recipe, row.number): row.score for row in found.rows}


def told(found: Judgements) -> str:
    out, judge = io.StringIO(), found.judge
    show_judged(
        judged_of(found.rows, judge.compares, judge.scale == (0.0, 1.0)),
        JudgeFacts(judge.name, found.model, judge.scale, len(found.rows), found.tries, found.itself,
                   found.against, agreement_of(found.rows, found.every, found.against),
                   found.notes), out,
    )  # fmt: skip
    return " ".join(out.getvalue().split())


def test_known_ratings_come_out_as_they_are(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl")
    with judging(rated) as (model, server):
        found = judge_run(model, run, "rating")
        assert [row.score for row in found.rows] == [9 - n % 3 - lost for lost in (0, 1, 4)
                                                     for n in range(6)]  # fmt: skip
        asked = server.asked
        assert len(asked) == 18 and all(body["temperature"] == 0 for body in asked)
        assert {body["seed"] for body in asked} == {0}
        # Nothing is asked twice.
        again = judge_run(model, run, "rating")
        assert again.rows == found.rows and len(server.asked) == 18
    agreed = agreement_of(found.rows, found.every)
    assert agreed is not None and agreed.kind == "rank correlation"
    assert agreed.value == pytest.approx(1.0) and agreed.n == 18
    table = {each.recipe: each for each in judged_of(found.rows, False, False)}
    assert table["full"].mean is not None and table["full"].mean.value == 8.0
    assert table["kivi"].against is not None and table["kivi"].against.value == -1.0
    assert table["kivi"].against.p == pytest.approx(2 / 64)
    said = told(found)
    assert "score, 1 to 10" in said and "4.00" in said and "-4.00" in said
    assert "judges itself" not in said and "unread" in said and "tells none apart" not in said


def test_hits_are_told_from_misses_by_their_area(tmp_path: Path) -> None:
    some = [
        SampleRow("qa", "full", 1, n, references=("r",), said=f"worth {worth}", score=float(hit))
        for n, (worth, hit) in enumerate(((9, 1), (7, 1), (8, 0), (2, 0)))
    ]
    with judging(rated) as (model, _):
        found = judge_run(model, written(tmp_path / "run.jsonl", some), "rating")
    agreed = agreement_of(found.rows, found.every)
    # Of four pairs of a hit and a miss three are in order.
    assert agreed is not None and (agreed.kind, agreed.value, agreed.n) == ("AUC", 0.75, 4)
    assert "AUC 0.75 over 4 replies; 0.5 is chance" in told(found)


def test_pairs_are_judged_in_both_orders(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl")
    with judging(better) as (model, server):
        found = judge_run(model, run, "pair")
        assert len(server.asked) == 2 * 12 and found.against == "full"
        assert set(scores(found).values()) == {0.0}
        turned = judge_run(model, run, "pair", against="snapkv", out=tmp_path / "turned")
        assert {row.recipe for row in turned.rows} == {"full", "kivi"}
        assert set(scores(turned).values()) == {1.0}
    kivi = judged_of(found.rows, True, True)[0]
    assert kivi.recipe == "kivi" and kivi.changes == (0, 6) and kivi.controlled is not None
    assert kivi.against is not None and kivi.against.value == -0.5
    assert "Position bias: 0% of the verdicts" in told(found)
    assert "rank correlation" not in told(found)


def test_a_judge_that_prefers_a_place_is_found_out(tmp_path: Path) -> None:
    with judging(lambda prompt, body: "[[A]]") as (model, _):
        found = judge_run(model, written(tmp_path / "run.jsonl"), "pair", recipes=["kivi"])
    assert scores(found) == {("kivi", n): 0.5 for n in range(6)}
    assert "Every reply has the same score, 0.50: it tells none apart." in told(found)
    assert "100% of 6" in told(found) and "Position bias: 100%" in told(found)


def test_garbage_is_asked_again_by_another_seed_and_then_counted(tmp_path: Path) -> None:
    def moody(prompt: str, body: dict[str, Any]) -> str:
        if "q0" in prompt:
            return rated(prompt, body) if body["seed"] == 9 else "Hm. [[11]]"
        return "" if "q1" in prompt else rated(prompt, body)

    run = written(tmp_path / "run.jsonl")
    with judging(moody) as (model, server):
        found = judge_run(model, run, "rating", seed=7)
        again = [body for body in server.asked if "q0" in body["messages"][0]["content"]]
        assert {(body["seed"], body["temperature"]) for body in again} == {
            (7, 0.0), (8, 0.5), (9, 0.5),
        }  # fmt: skip
        asked = len(server.asked)
        assert asked == 3 * (3 + 3 + 4)
        assert judge_run(model, run, "rating", seed=7).rows == found.rows
        assert len(server.asked) == asked
        # More tries are a reason to ask again.
        judge_run(model, run, "rating", seed=7, tries=4)
        assert len(server.asked) == asked + 3 * 4
    full = judged_of(found.rows, False, False)[0]
    assert full.unread == 1 and full.mean is not None
    assert full.mean.n == 5 and full.mean.value == pytest.approx((9 + 7 + 9 + 8 + 7) / 5)
    unread = next(row for row in found.rows if row.unread)
    assert (unread.score, unread.tries, unread.said) == (None, 3, ("",))
    assert "3 of 18 judgements could not be read, asked 3 times" in told(found)


@pytest.mark.parametrize("judge", ["rating", "pair", "errors", "writing", "qa", "summary"])
def test_a_judge_of_garbage_alone_is_an_error(judge: str, tmp_path: Path) -> None:
    said = iter(GARBAGE * 20)
    run = written(tmp_path / "run.jsonl", rows(2))
    none = pytest.raises(LengthwiseError, match=f"parrot judged none of .*as {judge}")
    with judging(lambda prompt, body: next(said).replace("\udcff", "?")) as (model, _), none:
        judge_run(model, run, judge, tries=1, batch=1)
    _, kept = read_judgements(beside(run, judge))
    assert kept and all(row.unread for row in kept.values())


@pytest.mark.parametrize("reply, why", [
    (status(500), "answers 500"), (nonsense("<html>"), "does not answer as OpenAI"),
    (says("Rating: [[", end=False), "broke off"), (silence(0.4), "in time"),
    (status(400, "too long"), "answers 400"), (status(413), "answers 413"),
])  # fmt: skip
def test_a_server_that_fails_is_said_and_asked_again_later(
    reply: Any, why: str, tmp_path: Path
) -> None:
    run = written(tmp_path / "run.jsonl", rows(2))
    server = Scripted(reply)
    try:
        model = lengthwise.connect(server.url, retries=0, timeout_s=0.2)
        with pytest.raises(LengthwiseError, match=why):
            judge_run(model, run, "rating", batch=1)
        # One that is gone is not asked for ever; one that refuses may take another prompt.
        assert len(server.asked) == (6 if "answers 4" in why else 3)
    finally:
        server.close()
    with judging(rated) as (model, _):
        found = judge_run(model, run, "rating")
    assert all(row.score is not None for row in found.rows) and len(found.rows) == 6


def test_one_failure_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl", rows(3))

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        prompt = body["messages"][0]["content"]
        if "q1" in prompt:
            status(500)(handler, body)
        else:
            says(rated(prompt, body))(handler, body)

    server = Scripted(reply)
    try:
        model = lengthwise.connect(server.url, retries=0)
        found = judge_run(model, run, "rating")
    finally:
        server.close()
    assert [row.number for row in found.rows if row.failed] == [1, 1, 1]
    assert "3 of 9 replies had no answer: the same command asks again" in told(found)
    assert "no answer" in told(found)


def test_judgements_are_beside_the_run_and_of_its_replies(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl")
    with judging(rated) as (model, server):
        judge_run(model, run, "rating(reference=false)", recipes=["full"])
        whole = read_run(run)[1]
        ((job, kept),) = all_beside(run, whole)
        assert job["judge"] == "rating(reference=false)" and job["model"] == "parrot"
        (first, *_) = whole
        assert "judged   rating(reference=false): 9.00; Fine. Rating" in sample_text(
            first, [(job, kept)]
        )
        # Another reply of as many characters.
        changed = SampleRow(**{**first.dump(), "said": first.said.replace("9", "3")})
        ((_, left),) = all_beside(run, [changed, *whole[1:]])
        assert left == {key: each for key, each in kept.items() if key != first.key}
        # A reply that is another now is judged again, and no other.
        with pytest.raises(LengthwiseError, match="is a run of another judge"):
            judge_run(model, run, "rating")
        run.unlink()
        written(run, [changed, *rows()[1:]])
        asked = len(server.asked)
        found = judge_run(model, run, "rating(reference=false)", recipes=["full"])
        assert found.rows[0].score == 3.0 and len(server.asked) == asked + 1
        judge_run(model, run, "rating", recipes=["full"], force=True)
        assert len(server.asked) == asked + 7


def test_a_model_that_judges_itself_is_said(tmp_path: Path) -> None:
    for name, itself in (("parrot", True), ("parrot 12ab float32", True), ("parrots", False),
                         ("two parrot 12ab float32", False)):  # fmt: skip
        run = written(tmp_path / f"{name}.jsonl", rows(2), name)
        with judging(rated) as (model, _):
            found = judge_run(model, run, "rating")
        assert found.itself is itself
        assert ("parrot judges itself" in told(found)) is itself


def test_prompts_longer_than_the_judge_reads_are_counted(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl", rows(2))

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        says(rated(body["messages"][0]["content"], body))(handler, body)

    # The server says that each prompt has 40 tokens.
    for most, over in ((39, 6), (40, 0)):
        server = Scripted(reply, models={"max_model_len": most})
        try:
            found = judge_run(lengthwise.connect(server.url), run, "rating", force=True)
        finally:
            server.close()
        assert sum(row.over for row in found.rows) == over


def test_a_model_that_runs_here_judges_in_batches(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl", rows(2), "letters abc float32")
    with pytest.raises(LengthwiseError, match="letters judged none of 6 replies: what it says"):
        judge_run(letters(), run, _Short(), tries=2, batch=3)
    _, kept = read_judgements(beside(run, "rating"))
    assert all(row.unread and row.said[0] and row.tries == 2 for row in kept.values())


class _Short(Rating):
    most = 4


@pytest.mark.parametrize("wishes, why", [
    ({"judge": "ratin"}, "did you mean 'rating'"), ({"judge": "rating", "against": "full"},
    "judges each reply alone"), ({"judge": "pair", "against": "yarn"}, "has no recipe 'yarn'"),
    ({"judge": "rating", "recipes": ["x"]}, "has no recipe 'x'; it has full"),
    ({"judge": "rating", "tasks": ["x"]}, "has no task 'x'; it has qa"),
    ({"judge": "pair", "recipes": ["full"]}, "no reply that pair could judge"),
])  # fmt: skip
def test_wrong_wishes_are_said_before_a_model_is_asked(
    wishes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    run = written(tmp_path / "run.jsonl")
    with pytest.raises(LengthwiseError, match=why):
        check_judging(run, **wishes)
    with judging(rated) as (model, server), pytest.raises(LengthwiseError, match=why):
        judge_run(model, run, **wishes)
    assert server.asked == [] and [*tmp_path.iterdir()] == [run]


def test_samples_without_reference_or_opponent_are_left_out_and_said(tmp_path: Path) -> None:
    some = rows(2)
    some[0] = SampleRow(**{**some[0].dump(), "references": ()})
    some[1] = SampleRow("qa", "full", 1024, 1, refused="no room")
    run = written(tmp_path / "run.jsonl", some)
    fine = '{"fluency": 1, "correctness": 3}'
    with judging(lambda prompt, body: fine) as (model, _):
        found = judge_run(model, run, "qa")
        assert found.notes == ["1 sample without a reference, which qa needs"]
        assert "1 sample without a reference" in told(found)
    with judging(better) as (model, _):
        found = judge_run(model, run, "pair")
    assert found.notes == ["2 samples without a reply of full to be compared with"]
    with pytest.raises(LengthwiseError, match="is no run of lengthwise"):
        check_judging(beside(run, "qa"), "qa")
    for tries, batch in ((0, 1), (1, 0)):
        with judging(rated) as (model, _), pytest.raises(LengthwiseError, match="give at least 1"):
            judge_run(model, run, "rating", tries=tries, batch=batch)


def test_a_call_that_was_killed_goes_on(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl")
    out = beside(run, "rating")
    with judging(rated) as (model, server):
        whole = judge_run(model, run, "rating")
        # As a crash leaves it: five judgements and half of a sixth.
        lines = out.read_bytes().splitlines(keepends=True)
        out.write_bytes(b"".join(lines[:6]) + lines[6][:20])
        asked = len(server.asked)
        found = judge_run(model, run, "rating")
        assert len(server.asked) - asked == 18 - 5
    assert found.rows == whole.rows
    assert len(read_judgements(out)[1]) == 18 and len(out.read_text().splitlines()) == 1 + 18


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    run = written(tmp_path / "run.jsonl", rows(2))
    with judging(rated) as (model, _):
        judge_run(model, run, "rating")
        out = beside(run, "rating")
        lines = out.read_text().splitlines()
        out.write_text("\n".join([*lines[:2], "[" * 100_000, *lines[2:]]) + "\n")
        for call in (lambda: judge_run(model, run, "rating"), lambda: read_judgements(out)):
            with pytest.raises(LengthwiseError, match="line 3 is damaged"):
                call()
    with pytest.raises(LengthwiseError, match="holds no judgements"):
        read_judgements(run)


def test_judgements_of_a_run_with_a_longer_name_are_not_of_this_one(tmp_path: Path) -> None:
    run, big = (written(tmp_path / name) for name in ("run.jsonl", "run.big.jsonl"))
    with judging(better) as (model, _):
        judge_run(model, big, "pair")
    assert not list(all_beside(run, read_run(run)[1]))
    ((job, kept),) = all_beside(big, read_run(big)[1])
    assert (job["against"], len(kept)) == ("full", 12)
    # What a reply was compared with counts as well.
    other = [SampleRow(**{**row.dump(), "said": "else"}) if row.recipe == "full" else row
             for row in rows()]  # fmt: skip
    assert [judged for _, judged in all_beside(big, other)] == [{}]
