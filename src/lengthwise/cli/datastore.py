"""`lengthwise datastore`: a text corpus indexed once, for the drafter of the same name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from lengthwise._utils.outputs import DATASTORE, Output, check_outputs
from lengthwise.cli.arguments import Place, force_option
from lengthwise.cli.bars import Bar
from lengthwise.cli.documents import say_skipped
from lengthwise.documents.files import read_document
from lengthwise.documents.folders import texts_in
from lengthwise.errors import LengthwiseError

# Texts tokenised at once.
BATCH = 64


@click.group()
def datastore() -> None:
    """Index texts once, so that guesses can be looked up in them."""


@datastore.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", "-o", required=True, type=Place(), help="file to write")
@force_option("datastore")
@click.option("--model", "-m", help="whose tokenizer is used: a local folder, a .gguf file or a "
              "hub name (default: the embedded SmolLM2-135M-Instruct)")  # fmt: skip
@click.option("--field", default="text", show_default=True, help="of a JSONL line, holds its text")
def build(sources: tuple[str, ...], out: Path, force: bool, model: str | None, field: str) -> None:
    """Index every SOURCE: a text, markdown, HTML, PDF or .docx file, a JSONL file of one document a
    line, or a folder of such files, and write the datastore to --out.

    In a folder, files that hold no text are passed over and counted.
    """
    check_outputs([Output("--out", out, DATASTORE)], [*sources, model], force)
    from lengthwise.methods.drafting.datastore import DatastoreDrafting
    from lengthwise.models.load import load_pretrained
    from lengthwise.retrieval.datastore import Datastore, fingerprint

    texts = Texts(sources, field)
    loaded, tokenizer, provenance = load_pretrained(model, device="cpu")
    vocabulary = int(loaded.config.get_text_config().vocab_size)
    with Bar() as bar:
        bar.stage(f"tokenising for {provenance.name}", 0, "documents")

        def tokens() -> Iterator[list[int]]:
            for batch in _batches(iter(texts)):
                yield from tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
                bar.advance(len(batch))

        found = Datastore.build(tokens(), vocabulary, fingerprint(tokenizer))
    found.save(out)
    say_skipped(texts.skipped)
    click.echo(
        f"{len(found) - found.documents:,} tokens of {found.documents:,} documents, "
        f"{out.stat().st_size / 1e6:.1f} MB; use it as {DatastoreDrafting(path=str(out))}"
    )


class Texts:
    """The documents of sources, one text each. skipped: what was wrong with files of folders."""

    def __init__(self, sources: tuple[str, ...], field: str) -> None:
        self.sources = sources
        self.field = field
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for source in self.sources:
            path = Path(os.path.expanduser(source))
            if not path.is_dir():
                yield from self._read(source)
                continue
            for _, text in texts_in(path, self._read, self.skipped):
                yield text

    def _read(self, source: str | Path) -> Iterator[str]:
        text = read_document(source).text
        if Path(source).suffix.lower() not in {".jsonl", ".ndjson"}:
            yield text
            return
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield self._line(line, f"{source}, line {number}")

    def _line(self, line: str, place: str) -> str:
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LengthwiseError(f"{place}: this is no JSON ({error})") from error
        text = value.get(self.field) if isinstance(value, dict) else None
        if not isinstance(text, str):
            known = ", ".join(value) if isinstance(value, dict) else "it is no object"
            raise LengthwiseError(f"{place}: no text under {self.field!r} (there: {known}); give "
                                  "--field")  # fmt: skip
        return text


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while batch := [text for _, text in zip(range(BATCH), texts, strict=False)]:
        yield batch
