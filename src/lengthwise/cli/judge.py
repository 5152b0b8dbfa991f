"""`lengthwise eval judge`: a model judges the replies of a run."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise._utils.papers import papers_of
from lengthwise.cli.arguments import COUNT, SEED, Place, force_option
from lengthwise.cli.bars import SampleBar
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.evaluation.judges.judge import JUDGES, judge_of, text_of
from lengthwise.evaluation.metrics.judged import agreement_of, judged_of
from lengthwise.evaluation.reports.judge_table import JudgeFacts, scale_text, show_judged
from lengthwise.evaluation.reports.table import PIPE_WIDTH
from lengthwise.evaluation.runs.judgement_file import JUDGEMENTS, beside
from lengthwise.evaluation.runs.judging import (
    BATCH,
    TRIES,
    Judgements,
    check_judging,
    judge_run,
)


@click.command()
@click.argument("run_file", metavar="RUN", type=Place(exists=True, dir_okay=False))
@click.option("--judge", "judge_text", required=True, metavar="JUDGE",
              help="rating, pair, errors, writing, qa or summary, with options: "
              "'pair(reference=false)'")  # fmt: skip
@click.option("--against", metavar="RECIPE",
              help="that pair compares the others with (default: full)")  # fmt: skip
@click.option("-r", "--recipe", "recipes", multiple=True, help="these alone; may be repeated")
@click.option("--task", "tasks", multiple=True, help="these alone; may be repeated")
@click.option("--seed", default=0, show_default=True, type=SEED,
              help="of what is drawn where an answer is asked for again")  # fmt: skip
@click.option("--tries", default=TRIES, show_default=True, type=COUNT,
              help="how often a prompt is asked whose answer cannot be read")  # fmt: skip
@click.option("--batch-size", default=BATCH, show_default=True, type=COUNT,
              help="prompts at a time")  # fmt: skip
@click.option("--max-new-tokens", type=COUNT,
              help="of an answer (default: what the judge needs)")  # fmt: skip
@click.option("-o", "--out", type=Place(),
              help="a file that gets a line a reply; a stopped call goes on from it (default: "
              "beside RUN, named after the judge)")  # fmt: skip
@force_option("file of judgements")
@click.option("--json", "as_json", is_flag=True, help="print one JSON line a reply instead")
@model_options
def judge(
    run_file: Path, judge_text: str, against: str | None, recipes: tuple[str, ...],
    tasks: tuple[str, ...], seed: int, tries: int, batch_size: int, max_new_tokens: int | None,
    out: Path | None, force: bool, as_json: bool, choice: ModelChoice,
) -> None:  # fmt: skip
    """Have a model judge the replies of a RUN of `eval --out`.

    The model is the judge, of --model. It is asked at temperature 0; an answer that cannot be read
    is asked for again, and then left out of every mean and counted.
    """
    asked = judge_of(judge_text)
    place = beside(run_file, asked.name) if out is None else out
    check_outputs([Output("--out", place, JUDGEMENTS)], [run_file, choice.model], force)
    check_judging(run_file, asked, against, recipes, tasks)
    with SampleBar() as bar:
        found = judge_run(
            choice.remote() or choice.open(), run_file, asked, against=against, recipes=recipes,
            tasks=tasks, seed=seed, tries=tries, batch=batch_size, max_new_tokens=max_new_tokens,
            out=place, force=force, progress=bar,
        )  # fmt: skip
    if as_json:
        for row in found.rows:
            click.echo(json.dumps(row.dump(), ensure_ascii=False))
        return
    show_judged(
        judged_of(found.rows, asked.compares, asked.scale == (0.0, 1.0)), _facts(found)
    )  # fmt: skip
    click.echo(f"judgements: {found.path}", err=True)


@click.command()
def judges() -> None:
    """List the judges, their scales, and what they rest on."""
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(markup=False, width=PIPE_WIDTH, color_system=None)
    table = Table(box=None, pad_edge=False)
    for head in ("judge", "scale", "shown", "source"):
        table.add_column(head, overflow="fold")
    for name, kind in JUDGES.usable().items():
        source = "; ".join(f"{paper.title}, {paper.year}" for paper in papers_of(kind.paper))
        shown = "two replies" if kind.compares else "a reply"
        needs = " and a reference" if kind().grounded else ""
        table.add_row(name, scale_text(kind.scale), shown + needs, source)
    console.print(table)


def _facts(found: Judgements) -> JudgeFacts:
    judge, against = found.judge, found.against
    return JudgeFacts(
        text_of(judge), found.model, judge.scale, len(found.rows), found.tries, found.itself,
        against, agreement_of(found.rows, found.every, against), found.notes,
        sum(row.over for row in found.rows),
    )  # fmt: skip


__all__ = ["judge", "judges"]
