"""`lengthwise tokenizer`: how long a text is before anything else happens."""

from __future__ import annotations

import click

from lengthwise.cli.tokenizer_hypernetwork import hypernetwork
from lengthwise.cli.tokenizer_report import report
from lengthwise.cli.tokenizer_train import train
from lengthwise.cli.tokenizer_transplant import transplant


@click.group()
def tokenizer() -> None:
    """Report on tokenizers, train one on your own text, and give a model another one."""


tokenizer.add_command(train)
tokenizer.add_command(report)
tokenizer.add_command(transplant)
tokenizer.add_command(hypernetwork)
