"""`lengthwise check`: what a model supports."""

from __future__ import annotations

import click

from lengthwise.cli.main import model_options, open_model
from lengthwise.errors import LengthwiseError


@click.command()
@click.argument("name", required=False)
@model_options
def check(name: str | None, model: str | None, dtype: str | None, device: str | None) -> None:
    """Tell which questions the model NAME (a folder, a GGUF file or a hub name) supports exactly,
    which it refuses, and why. The hook is verified by running the model, not by its name."""
    if name is not None and model is not None:
        raise LengthwiseError(f"two models are given, {name} and --model {model}; give one")
    click.echo(open_model(model if name is None else name, dtype, device).check())
