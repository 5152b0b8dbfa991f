"""`lengthwise check`: what a model supports."""

from __future__ import annotations

from dataclasses import replace

import click

from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError


@click.command()
@click.argument("name", required=False)
@model_options
def check(name: str | None, choice: ModelChoice) -> None:
    """Tell which questions the model NAME (a folder, a GGUF file or a hub name) supports exactly,
    which it refuses, and why. The hook is verified by running the model, not by its name."""
    if name is not None and choice.model is not None:
        raise LengthwiseError(f"two models are given, {name} and --model {choice.model}; give one")
    chosen = choice if name is None else replace(choice, model=name)
    click.echo(chosen.open().check())
