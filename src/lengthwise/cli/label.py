"""`lengthwise label`: a label for each of many items, several of them a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.cli.arguments import COUNT, SEED, Place, Real, check_text, force_option
from lengthwise.cli.bars import Bar
from lengthwise.cli.main import ModelChoice, model_options

if TYPE_CHECKING:
    from lengthwise.api.labelling import Labels
    from lengthwise.documents.item_files import Item


@click.command()
@click.argument("items", type=Place())
@click.argument("task")
@click.option("-l", "--labels",
              help="allowed ones, by commas: yes,no (default: any short text)")  # fmt: skip
@click.option("--size", type=COUNT, default=32, show_default=True, help="items a prompt")
@click.option("--rounds", type=COUNT, default=5, show_default=True,
              help="how often an item is asked about, each time in another order")  # fmt: skip
@click.option("--early/--no-early", default=True, show_default=True,
              help="an item leaves when two rounds agree, both confident")  # fmt: skip
@click.option("--doubt", type=Real(0, 1), default=1.0, show_default=True,
              help="weight of a vote that is not confident (1: a plain majority)")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=SEED, help="of the orders")
@click.option("--field", default="text", show_default=True,
              help="of JSON lines, that holds the text")  # fmt: skip
@click.option("-o", "--out", type=Place(), metavar="FILE",
              help="a JSON line an item, as it is done; the same command goes on behind them "
              "(default: printed at the end)")  # fmt: skip
@force_option("labels")
@click.option("-r", "--recipe", default="full", show_default=True,
              help="under which the model reads and writes; see `lengthwise methods`")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print the costs as one JSON object, last")
@model_options
def label(
    items: Path, task: str, labels: str | None, size: int, rounds: int, early: bool, doubt: float,
    seed: int, field: str, out: Path | None, force: bool, recipe: str, as_json: bool,
    choice: ModelChoice,
) -> None:  # fmt: skip
    """Labels each of ITEMS (a file: one a line, as text or JSON objects) as TASK says in words.

    Many items stand in one prompt; each is asked about in several orders and gets the label with
    most votes (BatchPrompt).
    """
    from lengthwise.api import labelling
    from lengthwise.api.text_models import require_writing
    from lengthwise.documents.item_files import read_items
    from lengthwise.recipes import parse
    from lengthwise.recipes.files import files_of
    from lengthwise.workflows.batch_results import LABELS, require_ours
    from lengthwise.workflows.batchprompt import BatchPrompt

    parsed = parse(recipe)
    require_writing(parsed)
    check_text("the task", task)
    names = None if labels is None else labels.split(",")
    given = labelling.given_task(task, names)
    read = read_items(items, field)
    how = BatchPrompt(size, rounds, early, doubt, seed)
    empty = out is not None and out.is_file() and not out.stat().st_size
    inputs = [items, choice.model, *files_of([recipe])]
    check_outputs([Output("--out", out, LABELS)], inputs, force or empty)
    if out is not None and not force:
        require_ours(out, labelling.job_of(read, given, parsed, how))
    model = choice.open_text(recipe)
    columns = (TextColumn("items"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns) as bar:
        found = labelling.label(
            model, items, task, names, recipe=parsed, size=size, rounds=rounds, early=early,
            doubt=doubt, seed=seed, out=out, force=force, field=field, progress=bar.reached,
            note=bar.note,
        )  # fmt: skip
    _show(found, read, out, as_json)


def _show(found: Labels, items: list[Item], out: Path | None, as_json: bool) -> None:
    from lengthwise.workflows.batch_results import row_of

    if out is None:
        for each in found.items:
            click.echo(json.dumps(row_of(each, items[each.item]), ensure_ascii=False))
    cost = found.cost
    labelled = sum(label is not None for label in found.labels)
    if as_json:
        click.echo(json.dumps({
            "items": len(found.items), "labelled": labelled, "before": found.before,
            **vars(cost), "notes": found.notes, "out": None if out is None else str(out),
        }, ensure_ascii=False))  # fmt: skip
        return
    click.echo(f"{labelled:,} of {len(found.items):,} items have a label"
               + ("" if out is None else f", in {out}"), err=out is None)  # fmt: skip
    if cost.calls:
        tokens, alone = cost.tokens_in + cost.tokens_out, cost.alone_in + cost.alone_out
        click.echo(
            f"{cost.calls:,} calls with {cost.tokens_in:,} tokens in and {cost.tokens_out:,} out; "
            f"one item a prompt would be {cost.alone_calls:,} calls with {cost.alone_in:,} in and "
            f"{cost.alone_out:,} out: {tokens / alone:.0%} of the tokens, "
            f"{cost.calls / cost.alone_calls:.0%} of the calls",
            err=True,
        )


__all__ = ["label"]
