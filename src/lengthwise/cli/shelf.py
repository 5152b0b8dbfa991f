"""`lengthwise bench shelf`: every method that holds or reads less, at equal shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lengthwise._utils.files import write_text
from lengthwise._utils.outputs import PICTURE, SHELF, Output, check_outputs
from lengthwise.cli.arguments import COUNT, Place, Real, Whole, check_texts, force_option
from lengthwise.cli.compare import Bars
from lengthwise.cli.documents import given_document, refuse_questions
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.documents.folders import document_from
from lengthwise.engine.chunks import CHUNK, GPU_CHUNK
from lengthwise.evaluation.compare import shelf as measuring
from lengthwise.evaluation.compare.shelf import FOLLOW, LENGTH, NEW, QUESTIONS, SHARES
from lengthwise.evaluation.metrics.shelf_rows import ShelfRow, read_rows
from lengthwise.evaluation.reports.columns import number
from lengthwise.evaluation.reports.shelf_picture import draw, needs_matplotlib
from lengthwise.evaluation.reports.shelf_table import show
from lengthwise.evaluation.tasks.shelf_text import shelf_text
from lengthwise.recipes.files import files_of


@click.command()
@click.argument("documents", nargs=-1, metavar="[DOCUMENT]...")
@click.option("-n", "--length", default=LENGTH, show_default=True, type=COUNT,
              help="tokens of the document to use, from its start")  # fmt: skip
@click.option("--method", "methods", multiple=True,
              help="a method, or one with options such as 'snapkv(window=8)'; may be repeated "
              "(default: all)")  # fmt: skip
@click.option("--question", "questions", multiple=True, type=click.Choice(QUESTIONS),
              help="whose methods are measured; may be repeated (default: all three)")  # fmt: skip
@click.option("--share", "shares", multiple=True, type=Real(0, 100, min_open=True),
              help="percent of the full cache; may be repeated (default: "
              f"{', '.join(f'{100 * share:g}' for share in SHARES)})")  # fmt: skip
@click.option("--best-known", is_flag=True,
              help="also the best known setting of each method that names one")  # fmt: skip
@click.option("--query-aware", is_flag=True,
              help="compress the questions with the prompt, in place of asking later")  # fmt: skip
@click.option("--follow", default=FOLLOW, show_default=True, type=COUNT,
              help="tokens behind the context whose loss is taken")  # fmt: skip
@click.option("--new-tokens", default=NEW, show_default=True, type=Whole(2),
              help="tokens written, to time them")  # fmt: skip
@click.option("--out", "-o", type=Place(),
              help="file of rows, one JSON line each; rows that it holds already are kept and "
              "not measured again")  # fmt: skip
@click.option("--picture", type=Place(), help="also draw it: .png, .svg or .pdf")
@force_option("shelf")
@click.option("--json", "as_json", is_flag=True, help="print one JSON line a row instead")
@click.option("--chunk", type=COUNT, show_default=f"{CHUNK:,}, on a GPU {GPU_CHUNK:,}",
              help="tokens of a prefill forward")  # fmt: skip
@model_options
def shelf(
    documents: tuple[str, ...], length: int, methods: tuple[str, ...], questions: tuple[str, ...],
    shares: tuple[float, ...], best_known: bool, query_aware: bool, follow: int, new_tokens: int,
    out: Path | None, picture: Path | None, force: bool, as_json: bool, chunk: int | None,
    choice: ModelChoice,
) -> int:  # fmt: skip
    """Every selection, retention and codec method at equal shares of the full cache on DOCUMENT:
    loss, KL to full, words and keys planted in it, seconds and bytes, in one table.

    DOCUMENT is as for `lengthwise compare`. Retentions and codecs hold the share of the bytes;
    selections hold all and read the share.
    """
    check_texts("a method", methods)
    measuring.check_methods(methods)
    if methods and questions:
        raise click.UsageError("--method names what is measured; leave out --question")
    refuse_questions(documents)
    outputs = [Output("--out", out, SHELF), Output("--picture", picture, PICTURE)]
    check_outputs(outputs, [*documents, choice.model, *files_of(methods)], force)
    if picture is not None:
        needs_matplotlib("--picture")
    known = _known(out, force)
    document = document_from(given_document(documents))
    loaded = choice.open()
    ids = loaded.encode(document.text, special="text")
    tokenizer: Any = loaded._tokenizer()
    text = shelf_text(document.name, ids, tokenizer, length, follow)
    with Bars(as_json) as bars:
        rows = measuring.shelf(
            loaded, text, methods, questions or QUESTIONS,
            [share / 100 for share in shares] or SHARES, best_known=best_known,
            query_aware=query_aware, new_tokens=new_tokens, chunk=chunk, known=known,
            progress=bars, finished=_finished(out, as_json),
        )  # fmt: skip
    if not as_json:
        show(rows)
    if picture is not None:
        draw(rows, picture)
        click.echo(f"picture: {picture}", err=True)
    if rows.interrupted:
        click.echo("lengthwise: interrupted; the finished rows are above", err=True)
        return 130
    return 0


def _known(out: Path | None, force: bool) -> list[ShelfRow]:
    """The rows of a file that is gone on with, which is left without a line that was cut off."""
    if out is None or not out.exists():
        return []
    if not SHELF.ours(out):
        assert force  # or it had been refused
        out.unlink()
        return []
    rows = read_rows(out)
    lines = out.read_text(encoding="utf-8").split("\n")[: len(rows)]
    write_text(out, "".join(f"{line}\n" for line in lines))
    return rows


def _finished(out: Path | None, as_json: bool) -> Callable[[ShelfRow], None]:
    """What is done with each row as it is measured: written before anything can go wrong."""

    def finished(row: ShelfRow) -> None:
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write(row.to_json() + "\n")
        if as_json:
            click.echo(row.to_json())
            return
        said = "refused" if row.refused is not None else f"KL {number(row.kl, 3)}"
        click.echo(f"{row.recipe}: {said}", err=True)

    return finished
