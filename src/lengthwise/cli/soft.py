"""`lengthwise soft`: encoders whose embeddings a model reads in place of a text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lengthwise._utils.outputs import ENCODER, SESSION, Output, check_folder, check_outputs
from lengthwise.cli.arguments import COUNT, NATURAL, WHOLE, Place, Real, force_option
from lengthwise.cli.cartridge import CartridgeBar
from lengthwise.cli.documents import given_document, given_documents
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.cli.run import Reading
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.training.soft_config import Settings

if TYPE_CHECKING:
    from lengthwise.soft_contexts.base import SoftContext
    from lengthwise.training.soft import Outcome

_SETTINGS = Settings()


@click.group()
def soft() -> None:
    """Train encoders that read a text for a model, and read documents by them."""


@soft.command()
@click.argument("method")
@click.argument("sources", nargs=-1, required=True, metavar="TEXT...")
@click.option("--out", "-o", required=True, type=Place(), help="file of the encoder to write")
@force_option("encoder")
@click.option("--steps", default=_SETTINGS.steps, show_default=True, type=COUNT,
              help="updates of each stage")  # fmt: skip
@click.option("--batch", type=COUNT, help="examples of an update (default: the method's)")
@click.option("--lr", type=Real(0, min_open=True), help="Adam's rate (default: the method's)")
@click.option("--length", default=_SETTINGS.length, show_default=True, type=COUNT,
              help="tokens of a text that is drawn, at most")  # fmt: skip
@click.option("--stages", help="of the method's, with commas (default: all it has texts for)")
@click.option("--pairs", type=Place(),
              help="JSON lines with context, question and answer, for stage instruct")  # fmt: skip
@click.option("--held-out", default=_SETTINGS.held_out, show_default=True, type=WHOLE,
              help="examples of texts not trained on, whose loss is told")  # fmt: skip
@click.option("--seed", default=_SETTINGS.seed, show_default=True, type=NATURAL,
              help="of what is drawn")  # fmt: skip
@click.option("--work", type=Place(), help="folder of log and checkpoint (default: OUT.run)")
@model_options
def train(
    method: str, sources: tuple[str, ...], out: Path, force: bool, stages: str | None,
    pairs: Path | None, work: Path | None, choice: ModelChoice, **numbers: Any,
) -> int:  # fmt: skip
    """Train an encoder by METHOD, such as dolphin or "extensible(layers=6)", on TEXT, files or
    folders.

    The model stays as it is. Stopped, even by kill -9, the same command goes on. `lengthwise soft
    read DOC --encoder OUT` reads documents by it.
    """
    how, settings = _method(method), Settings(**numbers)
    work = work or out.with_name(f"{out.name}.run")
    check_outputs([Output("--out", out, ENCODER)], [*sources, pairs, choice.model], force)
    check_folder("--work", work, [*sources, pairs, choice.model])
    texts = [each.text for each in given_documents(sources)]
    model = choice.open()
    from lengthwise.training.soft import train as run_training
    from lengthwise.training.soft_data import read_pairs, texts_of

    asked = read_pairs(model, pairs) if pairs is not None else []
    data = texts_of(model, texts, settings.length, asked, held=settings.held_out > 0)
    with CartridgeBar() as bar:
        outcome = run_training(
            model, data, out, how, settings, work=work, progress=bar,
            stages=None if stages is None else [each.strip() for each in stages.split(",")],
        )  # fmt: skip
    if outcome.signal is not None and outcome.encoder is None:
        said = f"interrupted after step {outcome.step} of {outcome.steps}; the same command goes on"
        click.echo(f"lengthwise: {said}", err=True)
        return 128 + outcome.signal
    click.echo(_summary(outcome, out))
    return 0


def _method(text: str) -> SoftContext:
    """A method with its options, of the registry."""
    from lengthwise.recipes.parser import parse_one
    from lengthwise.soft_contexts.base import SOFT_CONTEXTS

    return parse_one(text, SOFT_CONTEXTS.usable())


def _summary(outcome: Outcome, out: Path) -> str:
    encoder = outcome.encoder
    assert encoder is not None
    weights = sum(each.numel() for each in encoder.encoder.parameters())
    lines = [f"{out}: {encoder.how}, {weights / 1e6:.1f} M weights, {outcome.steps} steps"]
    names = {"without": "without a context", "soft": "behind embeddings",
             "other": "behind another text's", "text": "behind the text"}  # fmt: skip
    told = [f"{outcome.losses[each]:.4f} {names[each]}" for each in names if each in outcome.losses]
    if told:
        lines.append(f"nats a token of held-out texts: {', '.join(told)}")
    return "\n".join(lines)


@soft.command()
@click.argument("sources", nargs=-1, metavar="[DOC]...")
@click.option("--encoder", "-e", required=True, type=Place(), help="file of the encoder")
@click.option("--save", required=True, type=Place(), help="file of the session to write")
@force_option("session")
@click.option("--ratio", type=COUNT, help="tokens an embedding (extensible)")
@click.option("--raw", default=0, show_default=True, type=WHOLE,
              help="last tokens that are read as tokens")  # fmt: skip
@click.option("-r", "--recipe", default="full", show_default=True, help="see `lengthwise methods`")
@model_options
def read(
    sources: tuple[str, ...], encoder: Path, save: Path, force: bool, ratio: int | None, raw: int,
    recipe: str, choice: ModelChoice,
) -> None:  # fmt: skip
    """Read DOC (files or folders; default: standard input) as embeddings, and save the session.

    `lengthwise run -q QUESTION --session FILE` asks about it, with the same model.
    """
    from lengthwise.api.soft_context import open_encoder
    from lengthwise.recipes import parse
    from lengthwise.recipes.files import files_of

    parsed = parse(recipe)
    inputs = [*sources, encoder, choice.model, *files_of([recipe])]
    check_outputs([Output("--save", save, SESSION)], inputs, force)
    if not encoder.is_file():
        raise LengthwiseError(f"{encoder}: there is no such file")
    document = given_document(sources)
    if document is None:
        raise DocumentError("there is no document: name a file or a folder, or pipe one in")
    model = choice.open()
    opened, begin = open_encoder(encoder, model), time.perf_counter()
    with Reading(len(model.encode(document))) as bar:
        session = opened.read(document, parsed, ratio=ratio, raw=raw, progress=bar.advance)
    seconds = time.perf_counter() - begin
    session.save(save)
    about = session.source.trained
    assert about is not None
    click.echo(
        f"{about['tokens']:,} tokens as {about['entries']:,} embeddings under {session.recipe}, "
        f"read in {seconds:.2f} s, {session.nbytes / 1e6:.1f} MB of KV; "
        f"{save.stat().st_size / 1e6:.1f} MB in {save}"
    )


__all__ = ["soft"]
