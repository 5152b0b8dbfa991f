"""`lengthwise read`: a document read once into a file, which `run --session` asks about."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lengthwise._utils.outputs import SESSION, Output, check_outputs
from lengthwise.cli.arguments import Place, force_option
from lengthwise.cli.documents import given_document, given_documents
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.cli.run import Reading
from lengthwise.errors import DocumentError

if TYPE_CHECKING:
    from lengthwise.api.session import Session
    from lengthwise.recipes import Recipe


@click.command()
@click.argument("sources", nargs=-1, metavar="[DOC]...")
@click.option("--save", required=True, type=Place(), help="file to write")
@force_option("session")
@click.option("-r", "--recipe", default="full", show_default=True, help="see `lengthwise methods`")
@click.option("--compress", is_flag=True,
              help="drop and encode now what the recipe drops and encodes, whatever is asked "
              "later (default: with each question)")  # fmt: skip
@click.option("--codec", help="how keys and values are coded in the file, such as "
              "'cachegen(level=2)' (default: stored as they are)")  # fmt: skip
@model_options
def read(
    sources: tuple[str, ...], save: Path, force: bool, recipe: str, compress: bool,
    codec: str | None, choice: ModelChoice,
) -> None:  # fmt: skip
    """Read DOC (files or folders; default: standard input) once, and save what was read.

    `lengthwise run -q QUESTION --session FILE` asks about it, with the same model. Under a recipe
    with ape, pine or v2pe each file is a document by itself.
    """
    from lengthwise.api.session_codec import codec_of
    from lengthwise.recipes import parse
    from lengthwise.recipes.files import files_of

    parsed, coded = parse(recipe), codec_of(codec)
    inputs = [*sources, choice.model, *files_of([recipe])]
    check_outputs([Output("--save", save, SESSION)], inputs, force)
    session, seconds = _read(sources, parsed, compress, choice)
    session.save(save, coded)
    click.echo(
        f"{len(session):,} tokens under {session.recipe}, read in {seconds:.2f} s, "
        f"{session.nbytes / 1e6:.1f} MB of KV; {save.stat().st_size / 1e6:.1f} MB in {save}"
    )


def _read(
    sources: tuple[str, ...], recipe: Recipe, compress: bool, choice: ModelChoice
) -> tuple[Session, float]:
    """The session of what these sources hold, and the seconds that reading took."""
    if recipe.reads_apart:
        documents = given_documents(sources)
    elif (document := given_document(sources)) is None:
        raise DocumentError("there is no document: name a file or a folder, or pipe one in")
    else:
        documents = [document]
    model = choice.open()
    begin = time.perf_counter()
    with Reading(sum(len(model.encode(each)) for each in documents)) as bar:
        if recipe.reads_apart:
            session = model.read_apart(documents, recipe, progress=bar.advance)
        else:
            session = model.read(documents[0], recipe, progress=bar.advance)
        if compress:
            session.compress()
    return session, time.perf_counter() - begin
