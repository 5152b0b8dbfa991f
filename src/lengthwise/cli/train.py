"""`lengthwise train`: a run described by one TOML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from lengthwise._utils.outputs import check_folder
from lengthwise.cli.arguments import Place
from lengthwise.cli.bars import Bar
from lengthwise.training.progress import TrainingProgress

if TYPE_CHECKING:
    from lengthwise.training.trainer import Outcome


class TrainingBar(Bar, TrainingProgress):
    """A bar where standard error is a terminal, else a line a record."""

    def __init__(self) -> None:
        # Under torchrun the first rank alone speaks.
        super().__init__(
            TextColumn("step {task.completed}/{task.total}"), BarColumn(),
            TextColumn("{task.fields[said]}", markup=False), TimeRemainingColumn(),
            quiet=not _first(), said="",
        )  # fmt: skip

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        said = said_of(record)
        if self.console.is_terminal:
            self.reached(step, steps, said=said)
        else:
            self.note(f"step {step}/{steps}: {said}")


def said_of(record: dict[str, Any]) -> str:
    """What a record of the log says in short: loss, length, and FLOPs next to seconds a step."""
    steps, seconds = record["steps"], record["seconds"]
    return (
        f"loss {record['loss']:.4f}, length {record['length']:,.0f}, "
        f"{record['parameter_flops'] / steps:.2e} parameter + "
        f"{record['attention_flops'] / steps:.2e} attention FLOPs in {seconds / steps:.3g} s a "
        f"step, {record['tokens'] / seconds:,.0f} tokens/s"
    )


@click.command()
@click.argument("config", type=Place())
@click.option("--out", "-o", type=Place(), help="folder of the run (default: its out)")
@click.option(
    "--extend", is_flag=True, help="go on with a run whose steps, tokens or epochs are more now"
)
def train(config: Path, out: Path | None, extend: bool) -> int:
    """Train the model that CONFIG, a TOML file, describes.

    Stopped, even by kill -9, the same command goes on from the last checkpoint. Ctrl-C writes one
    first. Across ranks: torchrun --nproc-per-node N -m lengthwise train CONFIG.
    """
    import dataclasses

    from lengthwise.training.config import load_config
    from lengthwise.training.trainer import Trainer

    if out is not None:
        check_folder("--out", out, [config])
    run = load_config(config)
    if out is not None:
        run = dataclasses.replace(run, out=str(out.absolute()))
    with TrainingBar() as bar:
        outcome = Trainer(run, bar, extend).run()
    if outcome.signal is not None:
        said = f"interrupted after step {outcome.step} of {outcome.steps}; the same command goes on"
        if _first():
            click.echo(f"lengthwise: {said}", err=True)
        return 128 + outcome.signal
    if _first():
        click.echo(_summary(outcome))
    return 0


def _first() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


def _summary(outcome: Outcome) -> str:
    lines = [f"{outcome.folder}: {outcome.steps} steps done; the model is in model/"]
    if outcome.evaluation is not None:
        found = outcome.evaluation
        lines.append(
            f"validation: {found.per_token:.4f} nats a token, {found.per_document:.4f} by document"
        )
        places = ", ".join(f"{start}+ {loss:.3f}" for start, loss in found.by_position.items())
        lines.append(f"by position: {places}")
    if outcome.cost is not None:
        lines.append(f"cost: {outcome.cost}")
    return "\n".join(lines)
