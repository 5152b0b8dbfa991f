"""`lengthwise calibrate`: what some methods need to know of a model, measured once."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import Progress

from lengthwise.cli.main import model_options, open_model
from lengthwise.errors import LengthwiseError

KINDS = ("razor",)


@click.command()
@click.argument("kind")
@model_options
def calibrate(kind: str, model: str | None, dtype: str | None, device: str | None) -> None:
    """Measure KIND on a model and keep it in the cache. KIND is razor: the retrieval heads."""
    from lengthwise.calibration import calibrate_retrieval_heads, save

    if kind not in KINDS:
        raise LengthwiseError(f"nothing to calibrate for {kind!r}; allowed is {', '.join(KINDS)}")
    loaded = open_model(model, dtype, device)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading repeated random tokens", total=None)
        found = calibrate_retrieval_heads(
            loaded.adapted, lambda done, total: bar.update(task, completed=done, total=total)
        )
    save(kind, loaded.adapted, found)
    heads = [
        (score, layer, head)
        for layer, row in enumerate(found["induction"])
        for head, score in enumerate(row)
    ]
    click.echo("strongest induction heads (layer, key head, probability on the token after):")
    for score, layer, head in sorted(heads, reverse=True)[:8]:
        click.echo(f"  {layer:3} {head:3}  {score:.3f}")
