"""`lengthwise sequences answers`: rows to train on, of questions with answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from lengthwise._utils.outputs import check_folder
from lengthwise.cli.arguments import COUNT, NATURAL, Place, named_values
from lengthwise.cli.bars import Bar
from lengthwise.sequences.answers.base import ANSWERS, DOCUMENT, make_answers
from lengthwise.sequences.errors import SequenceError


class Pairs(Bar):
    """A bar over pairs."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip


@click.command()
@click.argument("pairs", type=Place())
@click.option("--out", "-o", required=True, type=Place(), help="folder of the result")
@click.option("--method", required=True, help=", ".join(ANSWERS))
@click.option("--tokenizer", "-t", required=True,
              help="folder of the model that is trained, in whose chat template prompts stand; "
              "also a hub name, a tokenizer.json or bytes, without one")  # fmt: skip
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE",
              help="an option of the method, such as phrased=0; may be repeated")  # fmt: skip
@click.option("--field", "fields", multiple=True, metavar="NAME=FIELD",
              help="what the file calls one of the method's texts, such as "
              "question=instruction; may be repeated")  # fmt: skip
@click.option("--document", "-d", "documents", multiple=True, type=Place(),
              help="a file or folder that is asked about, where a pair has no document of its own; "
              "may be repeated")  # fmt: skip
@click.option("--max-length", type=COUNT, help="tokens of the longest row (default: 2048)")
@click.option("--seed", default=0, show_default=True, type=NATURAL,
              help="of everything that is random")  # fmt: skip
def answers(
    pairs: Path, out: Path, method: str, tokenizer: str, options: tuple[str, ...],
    fields: tuple[str, ...], documents: tuple[Path, ...], max_length: int | None, seed: int,
) -> None:  # fmt: skip
    """Turn PAIRS, questions with answers, into training sequences in the folder OUT.

    PAIRS is a file of JSON lines, each with `question` and `answer` (c3ot: `question`, `long`,
    `short` and `answer`; retrieved: `document` too, unless --document is given). `lengthwise train`
    trains on OUT; answers are predicted, and questions only read.
    """
    check_folder("--out", out, [pairs, *documents])
    chosen = make_answers(method, named_values("--set", options), max_length)
    named = named_values("--field", fields)
    for name in named:
        if name not in chosen.fields:
            raise SequenceError(
                f"--field {name}={named[name]}: {method} has {', '.join(chosen.fields)}"
            )
    if documents and DOCUMENT not in chosen.fields:
        raise SequenceError(
            f"--document {documents[0]}: {method} reads no documents; leave it out, or take "
            "--method retrieved"
        )
    from lengthwise.documents.folders import read

    if documents and DOCUMENT in chosen.optional:
        raise SequenceError(
            "--document: with mixed=true a pair without a document is written as it is; leave one "
            "of the two out"
        )
    from lengthwise.sequences.answers.build import AnswerBuild, build_answers, open_writer
    from lengthwise.sequences.answers.pairs import read_pairs

    optional = (*chosen.optional, DOCUMENT) if documents else chosen.optional
    found = read_pairs(pairs, chosen.fields, named, optional)
    text = read(list(documents)).text if documents else ""
    task = AnswerBuild(found, open_writer(tokenizer), chosen, out, seed, text)
    with Pairs() as bar:
        manifest = build_answers(task, bar)
    click.echo(_summary(manifest, out))


def _summary(manifest: dict[str, Any], out: Path) -> str:
    skipped = sum(kind["count"] for kind in manifest["skipped"].values())
    return (
        f"{out}: {manifest['documents']:,} examples, {manifest['document_tokens']:,} tokens, "
        f"{manifest['figures']['predicted']:,} of them predicted, in {manifest['rows']:,} rows of "
        f"up to {manifest['max_length']:,} tokens"
        + (f"; {skipped:,} skipped (see `sequences show`)" if skipped else "")
    )


__all__ = ["answers"]
