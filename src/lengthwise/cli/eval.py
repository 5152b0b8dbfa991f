"""`lengthwise eval`: recipes on benchmarks, by length; and what stands in a run."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from lengthwise._utils.files import write_text
from lengthwise._utils.outputs import REPORT, Output, check_outputs
from lengthwise._utils.papers import papers_of
from lengthwise.cli.arguments import COUNT, SEED, Bytes, Place, Real, force_option
from lengthwise.cli.bars import SampleBar
from lengthwise.cli.documents import given_document
from lengthwise.cli.harness import harness
from lengthwise.cli.judge import judge, judges
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.pass_at import PassAt, pass_at
from lengthwise.evaluation.metrics.ruler import over_lengths
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.reports.sample_text import sample_text
from lengthwise.evaluation.reports.score_page import score_page
from lengthwise.evaluation.reports.score_table import show_scores
from lengthwise.evaluation.reports.table import PIPE_WIDTH
from lengthwise.evaluation.runs.evaluate import LENGTH, SAMPLES, evaluate
from lengthwise.evaluation.runs.judgement_file import all_beside
from lengthwise.evaluation.runs.run_file import RUN, chosen, read_run
from lengthwise.evaluation.scorers.aggregates import RULER_THRESHOLD
from lengthwise.evaluation.tasks.benchmark import (
    BENCHMARKS,
    Difficulty,
    Task,
    difficulty_of,
    tasks_of,
)
from lengthwise.evaluation.tasks.suites import SUITES, suite_of
from lengthwise.recipes.files import files_of


class _Evals(click.Group):
    """Commands; without one, tasks of ours are given to `run` and others to `harness`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = [self.command_of(args), *args]
        return super().make_context(info_name, args, parent, **extra)

    def command_of(self, args: list[str]) -> str:
        """The command whose tasks these are: `run`, unless none is a benchmark or suite of ours."""
        takes = {
            name: not option.is_flag
            for command in self.commands.values() for option in command.params
            if isinstance(option, click.Option) for name in option.opts
        }  # fmt: skip
        names, value = [], False
        for word in args:
            if not value and not word.startswith("-"):
                names.append(re.split(r"[(/]", word, maxsplit=1)[0])
            value = not value and takes.get(word, False)
        ours = [name for name in names if get_close_matches(name, BENCHMARKS, cutoff=0.8)]
        suites = any(word.partition("=")[0] == "--suite" for word in args)
        return "run" if ours or suites or not names else "harness"


@click.group("eval", cls=_Evals)
def eval_() -> None:
    """Score recipes on benchmarks: `lengthwise eval ruler needle -r full -r "snapkv(budget=25%)"`.

    A task is a benchmark, one task of it (ruler/vt), or either with options (needle(needles=4)).
    Without a command, benchmarks of ours are given to `run` and tasks of lm-evaluation-harness to
    `harness`.
    """


eval_.add_command(harness)
eval_.add_command(judge)
eval_.add_command(judges)


@eval_.command()
@click.argument("tasks", nargs=-1, metavar="[TASK...]")
@click.option("--suite", "suites", multiple=True,
              help=f"a set of tasks beside those named: {', '.join(SUITES)}; with options for "
              "each, as in 'kick(data=FOLDER)'; may be repeated")  # fmt: skip
@click.option("-r", "--recipe", "recipes", multiple=True, default=("full",), show_default=True,
              help="such as 'yarn(factor=2) + lookup'; may be repeated")  # fmt: skip
@click.option("-n", "--length", "lengths", multiple=True, type=COUNT,
              help="tokens of a prompt with its reply; may be repeated (default: "
              f"{LENGTH:,}, or what the model was trained to read)")  # fmt: skip
@click.option("--depth", "depths", multiple=True, type=Real(0, 1),
              help="where in the text the answer stands, from 0 to 1; may be repeated (default: "
              "as the task has it)")  # fmt: skip
@click.option("--samples", default=SAMPLES, show_default=True, type=COUNT,
              help="of each task, length and depth")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=SEED, help="of all that is drawn")
@click.option("--document", "documents", multiple=True,
              help="a file or folder in which things are hidden; may be repeated (default: the "
              "Python language reference)")  # fmt: skip
@click.option("-o", "--out", type=Place(),
              help="a file that gets a line a sample; a stopped run goes on from it")  # fmt: skip
@click.option("--cache-bytes", type=Bytes(),
              help="keep so many bytes of KV, such as 4GB, so that recipes that read a prompt "
              "alike read it once; room for all prompts of a task")  # fmt: skip
@click.option("--html", type=Place(), help="also write a page to this file")
@force_option("run or page")
@click.option("--json", "as_json", is_flag=True, help="print one JSON line a sample instead")
@click.option("--threshold", default=RULER_THRESHOLD, show_default=True, type=Real(0, 1),
              help="that RULER's scores exceed up to the effective length")  # fmt: skip
@model_options
def run(
    tasks: tuple[str, ...], suites: tuple[str, ...], recipes: tuple[str, ...],
    lengths: tuple[int, ...], depths: tuple[float, ...], samples: int, seed: int,
    documents: tuple[str, ...], out: Path | None, cache_bytes: int | None, html: Path | None,
    force: bool, as_json: bool, threshold: float, choice: ModelChoice,
) -> None:  # fmt: skip
    """Run TASKs under recipes and print scores with intervals, and costs.

    Every recipe answers the same samples, so that its difference to full, where that is among
    them, is tested sample by sample.
    """
    named = [*tasks, *(task for suite in suites for task in suite_of(suite))]
    if not named:
        raise LengthwiseError(
            "no task is given: name one, or a set of them with --suite; `lengthwise eval tasks` "
            "lists them"
        )
    wanted = [task for each in named for task in tasks_of(each)]
    read = [*documents, choice.model, *files_of(recipes)]
    outputs = [Output("--out", out, RUN), Output("--html", html, REPORT)]
    check_outputs(outputs, read, force)
    document = given_document(documents, pipe=False)
    if cache_bytes is not None and choice.is_remote:
        raise LengthwiseError(
            f"--cache-bytes is of a model that runs here, and {choice.model} is behind a server; "
            "leave it out"
        )
    with SampleBar() as bars:
        model = choice.remote() or choice.open(cache_bytes or 0)
        found = evaluate(
            model, named, recipes, lengths=lengths, depths=depths, samples=samples, seed=seed,
            document=document, out=out, force=force, progress=bars,
        )  # fmt: skip
    if as_json:
        for row in found.rows:
            click.echo(row.to_json())
        for each in over_lengths(found.rows, threshold):
            click.echo(json.dumps(each.dump()))
    else:
        show_scores(found.rows, found.notes, threshold=threshold)
    if html is not None:
        facts = [("Model", found.model), ("Tasks", ", ".join(task.text for task in wanted))]
        if document is not None:
            facts.append(("Hidden in", document.name))
        write_text(html, _page(found.rows, facts, found.origin, found.notes, threshold))
        click.echo(f"page: {html}", err=True)


@eval_.command()
@click.argument("run_file", metavar="RUN", type=Place(exists=True, dir_okay=False))
@click.option("--wrong", is_flag=True, help="the samples whose score is below 1, with replies")
@click.option("--all", "every", is_flag=True, help="all samples, with replies")
@click.option("-r", "--recipe", "recipes", multiple=True, help="these alone; may be repeated")
@click.option("--task", "tasks", multiple=True, help="these alone; may be repeated")
@click.option("--pass-at", "pass_at_k", type=COUNT,
              help="of programs: the chance that one of this many replies passes")  # fmt: skip
@click.option("--html", type=Place(), help="also write a page to this file")
@force_option("page")
@click.option("--threshold", default=RULER_THRESHOLD, show_default=True, type=Real(0, 1),
              help="that RULER's scores exceed up to the effective length")  # fmt: skip
def show(
    run_file: Path, wrong: bool, every: bool, recipes: tuple[str, ...], tasks: tuple[str, ...],
    pass_at_k: int | None, html: Path | None, force: bool, threshold: float,
) -> None:  # fmt: skip
    """Show what a RUN of `eval --out` holds: its table, or its samples with what was said."""
    check_outputs([Output("--html", html, REPORT)], [run_file], force)
    named = [name for name, given in zip(("--wrong", "--all", "--pass-at"),
             (wrong, every, pass_at_k is not None), strict=True) if given]  # fmt: skip
    if len(named) > 1:
        raise LengthwiseError(f"{named[0]} and {named[1]} show different things; give one of them")
    head, whole = read_run(run_file)
    rows = chosen(run_file, whole, recipes, tasks)
    if pass_at_k is not None:
        for each in pass_at(rows, pass_at_k):
            click.echo(_passed(each))
    elif wrong or every:
        judged = list(all_beside(run_file, whole))
        for row in rows:
            if every or row.score is None or row.score < 1:
                click.echo(sample_text(row, judged))
    else:
        show_scores(rows, head["notes"], threshold=threshold)
    if html is not None:
        facts = [("Model", str(head["job"].get("model", "")))]
        write_text(html, _page(rows, facts, Origin(**head["origin"]), head["notes"], threshold))
        click.echo(f"page: {html}", err=True)


@eval_.command()
def tasks() -> None:
    """List the benchmarks and their tasks, and why each is hard."""
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(markup=False, width=PIPE_WIDTH, color_system=None)
    table = Table(box=None, pad_edge=False)
    for head in ("task", "diffusion", "scope", "needs", "source"):
        table.add_column(head, overflow="fold")
    for name, kind in BENCHMARKS.usable().items():
        source = "; ".join(f"{paper.title}, {paper.year}" for paper in papers_of(kind.paper))
        for task, hard in kind.tasks.items():
            text = name if len(kind.tasks) == 1 else f"{name}/{task}"
            missing = Task(kind(), task, text).missing
            needs = "leave" if missing.startswith("leave") else "data" if missing else ""
            table.add_row(text, hard.diffusion, hard.scope, needs, source)
            source = "" if len(kind.tasks) > 1 else source
    console.print(table)
    console.print(f"suites: {', '.join(SUITES)}", highlight=False)


def _page(
    rows: list[SampleRow], facts: list[tuple[str, str]], origin: Origin | None,
    notes: list[str] | tuple[str, ...], threshold: float,
) -> str:  # fmt: skip
    found = _difficulties(rows)
    return score_page(rows, "Scores by length", found, facts, origin, notes, threshold)


def _difficulties(rows: list[SampleRow]) -> dict[str, Difficulty]:
    """Of the tasks of rows that this installation knows."""
    tasks = dict.fromkeys(row.task for row in rows)
    return {text: found for text in tasks if (found := difficulty_of(text)) is not None}


def _passed(found: PassAt) -> str:
    mean = found.mean
    return (
        f"{found.task}, {found.length:,} tokens, {found.recipe}: pass@{found.k} "
        f"{mean.value:.3f} [{mean.low:.3f} {mean.high:.3f}], {found.problems} problems of at least "
        f"{found.replies} replies"
    )


__all__ = ["eval_"]
