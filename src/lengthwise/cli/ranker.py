"""`lengthwise ranker`: rankers of continuations, which the recipe rankgen asks."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from lengthwise._utils.outputs import RANKER, Output, check_outputs
from lengthwise.cli.arguments import COUNT, NATURAL, WHOLE, Place, Real, force_option
from lengthwise.cli.cartridge import CartridgeBar
from lengthwise.cli.documents import given_documents
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.retrieval.ranker import Shape
from lengthwise.training.ranker import Settings

_SETTINGS, _SHAPE = Settings(), Shape(prefix=128, suffix=32)


@click.group()
def ranker() -> None:
    """Train rankers that choose among sampled texts (RankGen)."""


@ranker.command()
@click.argument("sources", nargs=-1, required=True, metavar="TEXT...")
@click.option("--out", "-o", required=True, type=Place(), help="file of the ranker to write")
@force_option("ranker")
@click.option("--steps", default=_SETTINGS.steps, show_default=True, type=COUNT, help="updates")
@click.option("--batch", default=_SETTINGS.batch, show_default=True, type=COUNT,
              help="pairs of an update")  # fmt: skip
@click.option("--together", default=_SETTINGS.together, show_default=True, type=COUNT,
              help="pairs of an update that come from one document")  # fmt: skip
@click.option("--lr", default=_SETTINGS.lr, show_default=True, type=Real(0, min_open=True),
              help="AdamW's rate at its highest")  # fmt: skip
@click.option("--generated", default=_SETTINGS.generated, show_default=True, type=WHOLE,
              help="negatives that the model writes itself")  # fmt: skip
@click.option("--prefix", default=_SHAPE.prefix, show_default=True, type=COUNT,
              help="last tokens of a prefix that are read (the paper's: 512)")  # fmt: skip
@click.option("--suffix", default=_SHAPE.suffix, show_default=True, type=COUNT,
              help="first tokens of a continuation that are read (the paper's: 128)")  # fmt: skip
@click.option("--width", default=_SHAPE.width, show_default=True, type=COUNT,
              help="numbers of a vector")  # fmt: skip
@click.option("--layers", default=_SHAPE.layers, show_default=True, type=COUNT,
              help="of the encoder")  # fmt: skip
@click.option("--seed", default=_SETTINGS.seed, show_default=True, type=NATURAL,
              help="of what is drawn")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@model_options
def train(
    sources: tuple[str, ...], out: Path, force: bool, prefix: int, suffix: int, width: int,
    layers: int, as_json: bool, choice: ModelChoice, **numbers: Any,
) -> None:  # fmt: skip
    """Train a ranker on TEXT, files or folders, each a document of its own.

    A prefix is to be told from all others by what follows it: among continuations of the same
    document, of others, and those that the model writes itself. `lengthwise run PROMPT -r
    "rankgen(path=OUT)"` writes with it.
    """
    from lengthwise.training.ranker import train as run_training

    known = {each.name for each in fields(Settings)}
    settings = Settings(**{name: value for name, value in numbers.items() if name in known})
    shape = Shape(width=width, layers=layers, prefix=prefix, suffix=suffix)
    check_outputs([Output("--out", out, RANKER)], [*sources, choice.model], force)
    texts = [each.text for each in given_documents(sources)]
    model = choice.open()
    with CartridgeBar() as bar:
        found = run_training(model, texts, out, shape, settings, progress=bar)
    ranks = found.ranks
    if as_json:
        click.echo(json.dumps({
            "out": str(out), "loss": found.loss, "seconds": found.seconds, "first": ranks.first,
            "mean_place": ranks.mean, "chance": ranks.chance, "prefixes": ranks.count,
        }))  # fmt: skip
        return
    weights = sum(each.numel() for each in found.ranker.parameters())
    click.echo(
        f"{out}: {weights / 1e6:.1f} M numbers, {settings.steps} steps in {found.seconds:.0f} s, "
        f"loss {found.loss:.3f}\n"
        f"of {ranks.count} prefixes held out {ranks.first:.0%} have their own continuation first "
        f"among others of the same document (a guess: {ranks.chance:.0%}); its mean place is "
        f"{ranks.mean:.1f}"
    )


__all__ = ["ranker"]
