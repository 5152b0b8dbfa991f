"""`lengthwise run` where the model is behind a server: what is read is chosen here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lengthwise.cli.sources import shown
from lengthwise.errors import LengthwiseError

if TYPE_CHECKING:
    from lengthwise.api.generation import Generation
    from lengthwise.api.remote_model import RemoteModel
    from lengthwise.documents.document import Document
    from lengthwise.recipes import Recipe


def ask_remote(
    model: RemoteModel, recipe: Recipe, question: str, document: Document | None,
    options: Mapping[str, Any], sources: bool, as_json: bool,
) -> None:  # fmt: skip
    """Asks a server and prints its answer, as it comes or as one JSON object.

    Args:
        model: behind the server.
        recipe: one that chooses what is read, or the empty one.
        question: the prompt.
        document: what it asks about, if anything.
        options: of `Model.generate`.
        sources: print what was read.
        as_json: print one object.
    """
    from lengthwise.api.answer import answer
    from lengthwise.api.remote_model import asked_as, prompting_alone

    method = prompting_alone(model, recipe)
    stream = None if as_json else _echo
    if document is not None:
        found = answer(model, document, question, recipe, stream=stream, **options)
    elif method is None:
        found = model.ask("", question, asked_as(model, options), stream)
    else:
        raise LengthwiseError(
            f"{method.name} chooses what is read of a document, and none is given: name one by "
            "-d FILE, or pipe it in beside the prompt"
        )
    if as_json:
        click.echo(json.dumps(_fields(model, recipe, found), ensure_ascii=False))
        return
    _say(model, found)
    if sources:
        for block in shown(found.sources):
            click.echo(f"\n{block}")


def refuse_local(model: RemoteModel, given: Mapping[str, Any]) -> None:
    """Raises LengthwiseError for an option that only a model which runs here can follow.

    Args:
        model: behind the server.
        given: values by the name of their option; one that says nothing is not given.
    """
    for option, value in given.items():
        if value:
            raise LengthwiseError(
                f"{option} is for a model that runs here, and {model.name} is behind a server; "
                "leave it out"
            )


def _echo(piece: str) -> None:
    click.echo(piece, nl=False)


def _fields(model: RemoteModel, recipe: Recipe, found: Generation) -> dict[str, Any]:
    metrics = found.metrics
    return {
        "recipe": str(recipe), "model": model.name, "server": model.url,
        "prompt_tokens": metrics.prompt_tokens, "tokens_read": metrics.tokens_read,
        "text": found.text, "ttft_s": metrics.ttft_s, "tokens_per_s": metrics.tokens_per_s,
        "finish_reason": metrics.finish_reason, "notes": metrics.notes,
        "sources": [asdict(each) for each in found.sources],
    }  # fmt: skip


def _say(model: RemoteModel, found: Generation) -> None:
    """The costs, and notes that were not said when the model was opened."""
    metrics = found.metrics
    click.echo()
    click.echo(
        f"{metrics.tokens_read:,} tokens read, first token after {metrics.ttft_s:.2f} s, then "
        f"{metrics.tokens_per_s:.1f} tokens/s, ended by {metrics.finish_reason}",
        err=True,
    )
    for note in metrics.notes:
        if note not in model.notes:
            click.echo(note, err=True)


__all__ = ["ask_remote", "refuse_local"]
