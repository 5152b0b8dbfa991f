"""`lengthwise eval harness`: tasks of lm-evaluation-harness under recipes, side by side."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.cli.arguments import COUNT, Place, Whole, check_texts, force_option
from lengthwise.cli.bars import Bar
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.harness.run import Asking, run_harness
from lengthwise.evaluation.harness.run_file import HARNESS_RUN
from lengthwise.evaluation.harness.scores import score_rows
from lengthwise.evaluation.harness.tasks import load_tasks
from lengthwise.evaluation.reports.harness_table import show_scores
from lengthwise.recipes import parse
from lengthwise.recipes.files import files_of


@click.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("-r", "--recipe", "recipes", multiple=True,
              help="beside full, which always runs; may be repeated")  # fmt: skip
@click.option("--limit", type=COUNT, help="documents of each task, the first ones (default: all)")
@click.option("--num-fewshot", type=Whole(0, 1000),
              help="examples before each question (default: the task's)")  # fmt: skip
@click.option("--batch-size", type=COUNT, default=8, show_default=True,
              help="contexts and texts at a time")  # fmt: skip
@click.option("--max-length", type=COUNT,
              help="tokens that the model reads (default: as it was trained to)")  # fmt: skip
@click.option("--chat", is_flag=True, help="prompts go through the model's chat template")
@click.option("--include-path", type=Place(exists=True, file_okay=False), metavar="FOLDER",
              help="of more tasks, as YAML files")  # fmt: skip
@click.option("-o", "--out", type=Place(), metavar="FILE",
              help="a file that gets a line a sample; a stopped run goes on from it")  # fmt: skip
@force_option("run")
@model_options
def harness(
    tasks: tuple[str, ...], recipes: tuple[str, ...], limit: int | None, num_fewshot: int | None,
    batch_size: int, max_length: int | None, chat: bool, include_path: Path | None,
    out: Path | None, force: bool, choice: ModelChoice,
) -> None:  # fmt: skip
    """Score recipes on each TASK of lm-evaluation-harness (`lm_eval ls tasks` names them), and
    print one table: scores with their intervals, and what differs from full.

    TASK is a task, a group, a tag, a pattern such as 'mmlu_*', or a YAML file.
    """
    check_texts("a task", tasks)
    for each in recipes:
        parse(each)
    if choice.is_remote:
        raise LengthwiseError(
            f"{choice.model} is behind a server, and tasks of the harness need a model that runs "
            "here; lm_eval's local-completions model asks servers"
        )
    files = [each for each in tasks if each.endswith((".yaml", ".yml"))]
    read = [*files, include_path, choice.model, *files_of(recipes)]
    check_outputs([Output("--out", out, HARNESS_RUN)], read, force)
    asking = Asking(limit, num_fewshot, batch_size, max_length, chat)
    loaded = load_tasks(tasks, include_path)
    model = choice.open()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bar(*columns) as bar:
        found = run_harness(
            model, loaded, recipes, asking, out=out, force=force, progress=bar
        )  # fmt: skip
    show_scores(score_rows(found), found.recipes, found.cut)


__all__ = ["harness"]
