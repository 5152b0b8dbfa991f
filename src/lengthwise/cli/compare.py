"""`lengthwise compare`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from lengthwise._utils.files import write_text
from lengthwise._utils.outputs import REPORT, Output, check_outputs
from lengthwise.api.remote_model import RemoteModel
from lengthwise.cli.arguments import COUNT, Place, check_texts, force_option
from lengthwise.cli.bars import Bar
from lengthwise.cli.documents import given_document, refuse_questions
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.engine.chunks import CHUNK, GPU_CHUNK
from lengthwise.evaluation.compare.comparison import EvaluationProgress, compare as run_compare
from lengthwise.evaluation.metrics.choice import GOALS
from lengthwise.evaluation.metrics.expected import check_expected
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.reports.table import show
from lengthwise.recipes.files import files_of

# Beyond the 8,192 tokens the embedded model was trained for, and read in seconds on two cores.
REFERENCE_LENGTH = 9216
DEFAULT_RECIPES = (
    "yarn(factor=2)",
    "lm_infinite",
    "streaming",
    "infllm",
    "token_select",
    "snapkv(budget=25%)",
    "razor(buffer=256)",
    "kivi(bits=4)",
    "lookup",
    "bm25(budget=2048)",
    "yarn(factor=2) + infllm + kivi(bits=4) + lookup",
    "lm_infinite + infllm",
)
REMOTE_RECIPES = (
    "bm25(budget=10%)",
    "reorder(budget=10%)",
    "simple_hack(budget=10%)",
    "simple_hack(budget=10%, keep=both)",
)


class Bars(Bar, EvaluationProgress):
    """A bar a stage; finished rows are printed as lines."""

    def __init__(self, as_json: bool) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(),
        )  # fmt: skip
        self._json = as_json

    def row(self, row: CompareRow) -> None:
        if self._json:
            click.echo(row.to_json())
            sys.stdout.flush()
        elif row.refused is not None:
            self.console.print(f"{row.recipe}: refused", style="dim", highlight=False)
        else:
            speed = f"{row.tokens_per_s:.1f} tok/s" if row.tokens_per_s else "one token"
            self.console.print(
                f"{row.recipe}: first token after {row.ttft_s:.1f} s, {speed}", style="dim",
                highlight=False,
            )  # fmt: skip


@click.command()
@click.argument("documents", nargs=-1, metavar="[DOCUMENT]...")
@click.option("-q", "--question", "questions", multiple=True, help="a question; may be repeated")
@click.option(
    "-r", "--recipe", "recipes", multiple=True,
    help="such as 'yarn(factor=2) + lookup'; may be repeated (default: a dozen)",
)  # fmt: skip
@click.option("-n", "--length", "lengths", multiple=True, type=COUNT,
              help="tokens of the document to use, from its start; may be repeated (default: all; "
              f"{REFERENCE_LENGTH:,} of the built-in document)")  # fmt: skip
@click.option("--max-new-tokens", default=64, show_default=True, type=COUNT,
              help="most tokens of an answer")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print one JSON line a row instead")
@click.option("--html", type=Place(), help="also write a report to this file")
@force_option("report")
@click.option("--whole-answers", is_flag=True,
              help="print also what an answer has in common with that of full")  # fmt: skip
@click.option("--for", "goal", type=click.Choice(GOALS),
              help="pick one recipe for this goal (default: tell the trade-off)")  # fmt: skip
@click.option("--expect", multiple=True,
              help="an answer that you know, to score with; one for each -q")  # fmt: skip
@click.option("--qa", type=Place(exists=True, dir_okay=False),
              help="a file of questions, answers and evidence, in place of -q")  # fmt: skip
@click.option("--plant", type=COUNT, default=None,
              help="plant facts in the document and ask so many questions about them, in place of "
              "-q")  # fmt: skip
@click.option("--probes/--no-probes", default=None,
              help="measure quality too (default: where the text is long enough)")  # fmt: skip
@click.option("--share/--no-share", default=True,
              help="recipes that read alike share one reading (default: yes)")  # fmt: skip
@click.option("--chunk", type=COUNT, show_default=f"{CHUNK:,}, on a GPU {GPU_CHUNK:,}",
              help="tokens of a prefill forward")  # fmt: skip
@model_options
def compare(
    documents: tuple[str, ...], questions: tuple[str, ...], recipes: tuple[str, ...],
    lengths: tuple[int, ...], max_new_tokens: int, as_json: bool, html: Path | None,
    force: bool, whole_answers: bool, goal: str | None, expect: tuple[str, ...],
    qa: Path | None, plant: int | None, probes: bool | None, share: bool, chunk: int | None,
    choice: ModelChoice,
) -> int:  # fmt: skip
    """Run recipes on DOCUMENT and print one table: what each recipe gave and what it cost.

    DOCUMENT is text, code, markdown, PDF, HTML, .docx, a folder of such, or several of them in one
    text; - is standard input. By default it is what is piped in, or else the Python language
    reference.

    Full attention always runs first: it is what the others are measured against.
    """
    check_texts("a question", questions)
    check_texts("an expected answer", expect)
    check_expected(expect, max(1, len(questions)))
    refuse_questions(documents)
    read = [*documents, qa, choice.model, *files_of(recipes)]
    check_outputs([Output("--html", html, REPORT)], read, force)
    text = given_document(documents)
    loaded = choice.remote() or choice.open()
    chosen = lengths or ((REFERENCE_LENGTH,) if text is None else ())
    # A model behind a server reads what is chosen for it, and no more is done to it.
    default = REMOTE_RECIPES if isinstance(loaded, RemoteModel) else DEFAULT_RECIPES
    with Bars(as_json) as bars:
        rows = run_compare(
            loaded, text, questions, recipes or default, chosen,
            max_new_tokens=max_new_tokens, probes=probes, share=share, chunk=chunk, progress=bars,
            expect=expect, goal=goal, qa=qa, plant=plant or 0,
        )  # fmt: skip
    if not as_json:
        show(rows, full=whole_answers)
    if html is not None:
        write_text(html, rows.to_html())
        click.echo(f"report: {html}", err=True)
    if rows.interrupted:
        click.echo("lengthwise: interrupted; the finished rows are above", err=True)
        return 130
    return 0
