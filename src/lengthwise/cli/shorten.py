"""`lengthwise sequences shorten`: a model shortens the derivations that `c3ot` learns."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.cli.answers import Pairs
from lengthwise.cli.arguments import COUNT, Place, force_option, named_values
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.sequences.answers.base import Pair
from lengthwise.sequences.errors import SequenceError


@click.command()
@click.argument("pairs", type=Place())
@click.option("--out", "-o", required=True, type=Place(), metavar="FILE",
              help="a JSON line a pair, as it is shortened; the same command goes on behind "
              "them")  # fmt: skip
@force_option("shortened pairs")
@click.option("--field", "fields", multiple=True, metavar="NAME=FIELD",
              help="what the file calls one of the texts, such as long=rationale; may be "
              "repeated")  # fmt: skip
@click.option("--asked", "ask", is_flag=True,
              help="keep those from which alone the model gives the answer (default: those that "
              "say it)")  # fmt: skip
@click.option("--max-new-tokens", default=512, show_default=True, type=COUNT,
              help="of a short derivation")  # fmt: skip
@model_options
def shorten(
    pairs: Path, out: Path, force: bool, fields: tuple[str, ...], ask: bool, max_new_tokens: int,
    choice: ModelChoice,
) -> None:  # fmt: skip
    """Shorten the derivations of PAIRS, a file of JSON lines with `question`, `long` and `answer`.

    Those that get no shorter, or no longer lead to their answer, are left out (C3oT). `sequences
    answers --method c3ot` makes training sequences of the file.
    """
    from lengthwise.sequences.answers import compress
    from lengthwise.sequences.answers.pairs import read_pairs

    named = named_values("--field", fields)
    for name in named:
        if name not in compress.FIELDS:
            raise SequenceError(
                f"--field {name}={named[name]}: there are {', '.join(compress.FIELDS)}"
            )
    found = read_pairs(pairs, compress.FIELDS, named)
    check_outputs([Output("--out", out, compress.SHORTENED)], [pairs, choice.model], force)
    model = choice.open_text("full")
    job = {"model": model.name, "asked": ask, "max_new_tokens": max_new_tokens}
    file = compress.ShortenedPairs(out, found, job, force)

    def shortened(pair: Pair) -> list[Pair]:
        write = partial(compress.compressed, [pair], model, max_new_tokens)
        return list(write(compress.asked(model)) if ask else write())

    with Pairs() as bar:
        file.fill(shortened, bar.reached)
    if not file.kept:
        raise SequenceError(
            f"{model.name} shortened none of {len(found):,} pairs so that they still say their "
            "answer; take a stronger model"
        )
    left = len(found) - file.kept
    click.echo(f"{out}: {file.kept:,} of {len(found):,} pairs, shortened by {model.name}"
               + (f"; {left:,} left out" if left else ""))  # fmt: skip


__all__ = ["shorten"]
