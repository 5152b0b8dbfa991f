"""`lengthwise machine`: which kernels serve here, and what was timed."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lengthwise._utils.timings import Timed
from lengthwise.api.machine import Machine, machine as look
from lengthwise.cli.main import ModelChoice, model_options

SCALE = {"GB/s": 1e9, "TFLOP/s": 1e12}


@click.command()
@model_options
@click.option("--again", is_flag=True, help="time everything anew")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def machine(choice: ModelChoice, again: bool, as_json: bool) -> None:
    """Tell which kernels serve a model's attention on this machine, what each of them takes, and
    what the machine gives for plain reads and products."""
    found = look(choice.open(), again)
    if as_json:
        click.echo(json.dumps(asdict(found) | {"timed": [*map(_record, found.timed)]}))
        return
    console = Console(markup=False)
    told = [found.facts.get("gpu", ""), found.facts["cpu"], found.facts["features"]]
    console.print(Text(", ".join(filter(None, told))), soft_wrap=True)
    console.print(
        f"torch {found.facts['torch']}, {found.facts['threads']} threads; plain reads "
        f"{found.reads / 1e9:.1f} GB/s, plain products {found.products / 1e12:.2f} TFLOP/s",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"a model of {found.shape}" + (f": {found.note}" if found.note else ""),
                  highlight=False, soft_wrap=True)  # fmt: skip
    if found.missing:
        console.print(found.missing, highlight=False, soft_wrap=True, markup=False)
    if found.timed:
        console.print(_table(found))
    if found.path:
        console.print(f"kept in {found.path}", highlight=False, soft_wrap=True, style="dim")


def _table(found: Machine) -> Table:
    table = Table("question", "rows", "over", "serves", "rate", "ms of each", box=None)
    for name in ("rows", "over", "rate"):
        next(c for c in table.columns if c.header == name).justify = "right"
    for row in found.timed:
        table.add_row(
            row.question, str(row.rows), row.over, row.chosen,
            f"{row.rate / SCALE[row.unit]:.2f} {row.unit}", _each(row),
        )  # fmt: skip
    return table


def _record(row: Timed) -> dict[str, object]:
    return asdict(row) | {"rate": row.rate}


def _each(row: Timed) -> str:
    ordered = sorted(row.seconds.items(), key=lambda item: item[1])
    return ", ".join(f"{name} {seconds * 1e3:.3g}" for name, seconds in ordered)
