"""`lengthwise curves`: training runs beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lengthwise._utils.outputs import PICTURE, Output, check_outputs
from lengthwise.cli.arguments import Place, force_option


@click.command()
@click.argument("runs", nargs=-1, required=True, type=Place())
@click.option("--out", "-o", type=Place(), help="write a picture: .png, .svg or .pdf")
@force_option("picture")
@click.option("--json", "as_json", is_flag=True, help="print one JSON line a run instead")
def curves(runs: tuple[Path, ...], out: Path | None, force: bool, as_json: bool) -> None:
    """Compare RUNS, folders that `train` wrote: their validation losses, and how long each took to
    reach the last loss of the first."""
    check_outputs([Output("--out", out, PICTURE)], runs, force)
    from lengthwise.training.curves import draw, read_curve

    found = [read_curve(folder) for folder in runs]
    if out is not None:
        draw(found, out)
    goal = found[0].losses[-1]
    if as_json:
        for curve in found:
            click.echo(json.dumps(curve.record(goal)))
        return
    wide = max(len(curve.name) for curve in found)
    for curve in found:
        reached = curve.reached(goal)
        said = "never" if reached is None else f"{reached:,.0f} s"
        click.echo(
            f"{curve.name:{wide}}  loss {curve.losses[-1]:.4f} after {curve.seconds[-1]:,.0f} s "
            f"and {curve.tokens[-1]:,} tokens; {goal:.4f} reached: {said}"
        )
    if out is not None:
        click.echo(f"picture: {out}", err=True)
