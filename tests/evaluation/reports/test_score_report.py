"""A run as a table and as a page: what is said, and that nothing of a model's breaks it."""

from __future__ import annotations

import io

from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.reports.score_page import score_page
from lengthwise.evaluation.reports.score_table import show_scores
from lengthwise.evaluation.tasks.benchmark import Difficulty

HARD = {"vt": Difficulty("high", "low"), "needle": Difficulty("low", "low")}


def rows() -> list[SampleRow]:
    found = []
    for task in ("needle", "vt"):
        for length in (1024, 4096):
            for n in range(6):
                depth = 0.5 if n % 2 else 0.1
                found.append(
                    SampleRow(task, "full", length, n, depth, 0.5, said="<b>x</b>", score=1.0,
                              ttft_s=1.0, kv_bytes=10**6)
                )  # fmt: skip
                score = 0.0 if length == 4096 else 1.0
                found.append(
                    SampleRow(task, "streaming", length, n, depth, 0.5, score=score, over=n == 0)
                )
        found.append(SampleRow(task, "<kivi>", 1024, 0, 0.1, 0.5, refused="no <i>room</i>"))
    return found


def told(given: list[SampleRow], notes: tuple[str, ...] = ()) -> str:
    out = io.StringIO()
    show_scores(given, notes, out)
    return out.getvalue()


def test_the_table_has_intervals_signs_costs_and_refusals() -> None:
    said = told(rows(), ("needle at 80 tokens is left out",))
    assert "0.50 [" in said and "0.00 [.00 .24] -" in said
    assert "beyond trained" in said and "samples refused: no <i>room</i>" in said
    assert "needle at 80 tokens is left out" in said
    assert max(map(len, said.splitlines())) <= 100
    assert "No sample was answered." in told([])


def test_the_page_has_maps_lines_and_the_plane_and_escapes_what_came_from_others() -> None:
    page = score_page(rows(), "A <title>", HARD, [("Model", "m<x>")], Origin.here("lengthwise x"))
    for part in (
        "Score by task",
        "Score by length",
        "Length and depth",
        "Why it is hard",
        "Cost",
        "A &lt;title&gt;",
        "m&lt;x&gt;",
        "no &lt;i&gt;room&lt;/i&gt;",
        "10%",
        "p = ",
    ):
        assert part in page, part
    assert "<i>room" not in page and "<kivi>" not in page
    assert "http" not in page.replace("http-equiv", "")
    # The plane's quarters: needles are low and low, chains of variables high in diffusion.
    quarter = page[page.index("high diffusion, low scope") :]
    assert quarter.index("vt") < quarter.index("high diffusion, high scope")


def test_a_page_without_depths_maps_tasks_and_one_without_rows_says_so() -> None:
    plain = [SampleRow(t, "full", n, 0, score=1.0) for t in ("a", "b") for n in (1, 2)]
    assert "Length and task" in score_page(plain, "x", {})
    assert "No sample was answered." in score_page([], "x", {})


def test_ruler_at_several_lengths_has_its_means_and_effective_length() -> None:
    some = [
        SampleRow("ruler/vt", recipe, length, 0, score=score)
        for recipe, scores in (("full", (1.0, 0.9, 0.5)), ("kivi", (0.8, 0.8, 0.8)))
        for length, score in zip((1024, 2048, 4096), scores, strict=True)
    ]
    said = told(some)
    # (1 + 2 * .9 + 3 * .5) / 6 and (3 + 2 * .9 + .5) / 6.
    assert "0.717" in said and "0.883" in said and "wAvg (inc)" in said
    lines = [line.strip() for line in said.split("RULER by length")[1].splitlines()]
    assert next(line for line in lines if line.startswith("full")).endswith("2,048")
    assert next(line for line in lines if line.startswith("kivi")).endswith("<1,024")
    page = score_page(some, "x", {})
    assert "RULER by length" in page and "0.717" in page and "&lt;1,024" in page
    assert "are above 0.7." in score_page(some, "x", {}, threshold=0.7)
    assert "RULER by length" not in told(rows()) + told(some[:1]) + score_page(some[:1], "x", {})


def test_samples_of_one_question_are_said_to_be_of_it() -> None:
    some = [SampleRow("code", "full", 1, n, score=1.0, problem=f"p{n // 2}") for n in range(4)]
    for said in (told(some), score_page(some, "x", {})):
        assert "4 samples of 2 questions" in " ".join(said.split())
        assert "12 samples of" not in said
    assert "samples of" not in told(rows()).partition("Cost")[0]


def test_lengths_are_compared_over_tasks_asked_at_each_and_the_others_are_named() -> None:
    some = [
        SampleRow(task, "full", length, 0, place=0.5, score=score)
        for task, length, score in (("easy", 512, 1.0), ("easy", 4096, 1.0), ("hard", 4096, 0.0))
    ]
    said = told(some)
    table = said[said.index("Score by length, tasks asked at every length") :].partition("Cost")[0]
    assert "0.00" not in table and "0.50" not in table and table.count("1.00") == 3
    why = "Not asked at every length, so no part of the scores by length: hard."
    assert why in table and "0.67" in said.partition("Score by length")[0]
    page = score_page(some, "x", {})
    assert why in page and "Tasks asked at every length" in page and "All tasks" not in page
    map_of = page[page.index("Length and depth") :]
    assert "0.50 of" not in map_of and map_of.count("1.00 of 1 sample") == 2
    # Where all were, and where none was.
    assert "Not asked" not in told(rows()) + score_page(rows(), "x", {})
    none = [some[0], some[2]]
    for said in (told(none), score_page(none, "x", {})):
        assert "easy, hard" in " ".join(said.split()) and "all tasks" not in said
