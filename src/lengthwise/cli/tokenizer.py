"""`lengthwise tokenizer`: how long a text is before anything else happens."""

from __future__ import annotations

import click

from lengthwise.cli.tokenizer_train import train


@click.group()
def tokenizer() -> None:
    """Report on tokenizers, train one on your own text, and give a model another one."""


tokenizer.add_command(train)
