"""`lengthwise batch`: the requests of a file, those that begin alike read once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.cli.arguments import COUNT, Bytes, Place, check_texts, force_option
from lengthwise.cli.bars import Bar
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError

if TYPE_CHECKING:
    from lengthwise.serving.batch_run import MakesRunner, Summary

ENGINES = ("local", "ray")
# What the embedded model is called for short.
EMBEDDED = "smollm2"


@click.command()
@click.argument("source", metavar="IN", type=Place())
@click.argument("out", metavar="OUT", type=Place())
@force_option("batch output")
@click.option("-r", "--recipe", default="full", show_default=True,
              help="of requests that name none; see `lengthwise methods`")  # fmt: skip
@click.option("--name", "names", multiple=True,
              help="of the model in requests; may be given again (default: its own)")  # fmt: skip
@click.option("--kv-bytes", type=Bytes(), metavar="SIZE",
              help="keys and values that may be held at once, such as 2GiB (default: half of the "
              "memory that is free)")  # fmt: skip
@click.option("--engine", type=click.Choice(ENGINES), default="local", show_default=True,
              help="local: this process; ray: replicas on a Ray cluster, or processes of one "
              "started here")  # fmt: skip
@click.option("--replicas", type=COUNT, help="models that --engine ray runs (default: 2)")
@model_options
def batch(
    source: Path, out: Path, force: bool, recipe: str, names: tuple[str, ...],
    kv_bytes: int | None, engine: str, replicas: int | None, choice: ModelChoice,
) -> None:  # fmt: skip
    """Runs the requests of IN (JSON lines, in OpenAI's batch format) and appends their answers to
    OUT. Called again, it goes on where it was stopped.

    Prompts that begin alike are read once, decode-heavy requests run first, and as many run at a
    time as memory holds.
    """
    from lengthwise.recipes import parse
    from lengthwise.recipes.files import files_of
    from lengthwise.serving.batch_files import OUTPUT, read_lines
    from lengthwise.serving.batch_run import run_batch

    parse(recipe)
    check_texts("--name", names)
    if replicas is not None and engine != "ray":
        raise LengthwiseError("--replicas is for --engine ray: give that too, or leave it out")
    if kv_bytes == 0:
        raise LengthwiseError("--kv-bytes 0 holds nothing; give 64MB or more")
    read_lines(source)
    inputs = [source, choice.model, *files_of([recipe])]
    check_outputs([Output("OUT", out, OUTPUT)], inputs, force or _empty(out))
    runner = _replicated(choice, replicas or 2) if engine == "ray" else None
    if choice.model is None:
        names = (*names, EMBEDDED)
    model = choice.open()
    columns = (
        TextColumn("requests"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns) as bar:
        done = run_batch(
            model, source, out, recipe, kv_bytes, force, names, runner, bar.reached
        )  # fmt: skip
    click.echo(_said(done, out))


def _empty(out: Path) -> bool:
    """Whether a file holds nothing: a crash may have left one so."""
    return out.is_file() and not out.stat().st_size


def _replicated(choice: ModelChoice, replicas: int) -> MakesRunner:
    from lengthwise.serving.batch_ray import replicated

    return replicated(choice.loader(), replicas)


def _said(done: Summary, out: Path) -> str:
    """What became of a job, in a line or two."""
    cost = done.cost
    lines = [
        f"{done.answered:,} answered, {done.refused:,} refused, {done.before:,} done before, "
        f"of {done.lines:,} in {out}"
    ]
    if cost.texts:
        shared = 1 - cost.read_tokens / cost.prompt_tokens
        lines.append(
            f"{cost.prompt_tokens:,} tokens of prompts, {cost.read_tokens:,} of them read "
            f"({shared:.0%} shared by {cost.groups:,} groups), {cost.written_tokens:,} written in "
            f"{cost.seconds:.2f} s; {cost.kv_peak_bytes / 1e6:.1f} MB of KV at most"
        )
    return "\n".join(lines)
