"""`lengthwise sequences`: documents into rows that a model is trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lengthwise._utils.embedded_file import EMBEDDED
from lengthwise._utils.outputs import check_folder
from lengthwise.cli.answers import answers
from lengthwise.cli.arguments import COUNT, NATURAL, WHOLE, Place, Renamed, named_values
from lengthwise.cli.bars import Bar
from lengthwise.cli.curriculum import curriculum
from lengthwise.cli.shorten import shorten
from lengthwise.sequences.build import ORDERS, Build, Settings, build as run_build
from lengthwise.sequences.builders.base import BUILDERS, make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import BYTES, load_encoder
from lengthwise.sequences.engines import ENGINES, make_engine
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import parse_bytes
from lengthwise.sequences.manifest import ends_lost
from lengthwise.sequences.records import Fields
from lengthwise.sequences.store import TOKENS


class _Speed(ProgressColumn):
    """Tokens a second since the stage began."""

    def render(self, task: Task) -> Text:
        seconds = task.elapsed or 0
        tokens = task.fields.get("tokens", 0)
        return Text(f"{tokens / seconds:,.0f} tokens/s" if seconds > 0.1 and tokens else "")


class Bars(Bar):
    """A bar a stage, with tokens a second."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Speed(),
            TimeRemainingColumn(),
            tokens=0,
        )

    def advance(self, done: int, tokens: int = 0) -> None:
        before = self._drawn.tasks[0].fields["tokens"]
        self._drawn.update(self._task, advance=done, tokens=before + tokens)


@click.group()
def sequences() -> None:
    """Build and look at training sequences."""


sequences.add_command(answers)
sequences.add_command(curriculum)
sequences.add_command(shorten)


@sequences.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", "-o", required=True, type=Place(), help="folder of the result")
@click.option("--method", "-m", cls=Renamed, old="-m", required=True, help=", ".join(BUILDERS))
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE",
              help="an option of the method, such as min_length=64; may be repeated")  # fmt: skip
@click.option("--max-length", "-n", cls=Renamed, old="-n", type=COUNT,
              help="tokens of the longest row (default: 8192)")  # fmt: skip
@click.option("--order", default="shuffle", show_default=True, help=", ".join(ORDERS))
@click.option("--encoder", help="folder of the model that embeds documents for the order icp "
              "(default: hashed words)")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=NATURAL,
              help="of everything that is random")  # fmt: skip
@click.option("--tokenizer", "-t", default=EMBEDDED, show_default=True,
              help=f"{EMBEDDED} (the default model's), {BYTES}, a tokenizer.json, a model's "
              "folder, a .gguf file or a hub name")  # fmt: skip
@click.option("--end-token", help="appended to every document (default: the tokenizer's own)")
@click.option("--text-field", default="text", show_default=True,
              help="the field of JSON, the column of Parquet and Arrow")  # fmt: skip
@click.option("--repository-field", help="the field that names a record's repository")
@click.option("--suffix", "suffixes", multiple=True,
              help="read these files of a folder, such as .py; may be repeated")  # fmt: skip
@click.option("--encoding", "text_encoding", metavar="NAME",
              help="of text files that are not UTF-8, such as cp1252 or gb18030 (default: they are "
              "skipped, and the summary says what they probably are)")  # fmt: skip
@click.option("--strict", is_flag=True,
              help="stop at a file that cannot be read (default: skip and count it)")  # fmt: skip
@click.option("--memory", default="1GiB", show_default=True, help="what the build may take")
@click.option("--tokens", type=Place(),
              help="folder of the token store, to share it (default: OUT/__tokens__)")  # fmt: skip
@click.option("--shuffle-rows/--rows-in-order", default=True,
              help="order of rows within a part of the corpus (default: shuffled)")  # fmt: skip
@click.option("--engine", default="local", show_default=True,
              help=f"who does the work: {', '.join(ENGINES)}; the result is the same")  # fmt: skip
def build(
    sources: tuple[str, ...], out: Path, method: str, options: tuple[str, ...],
    max_length: int | None, order: str, encoder: str | None, seed: int, tokenizer: str,
    end_token: str | None, text_field: str, repository_field: str | None,
    suffixes: tuple[str, ...], text_encoding: str | None, strict: bool, memory: str,
    tokens: Path | None, shuffle_rows: bool, engine: str,
) -> None:  # fmt: skip
    """Turn documents into training sequences in the folder OUT.

    SOURCE is a text, code, PDF, HTML, Word, JSON, JSONL, Parquet or Arrow file, a folder of them,
    or datasets:NAME[,CONFIG][@SPLIT]; text and JSON may be packed (.gz, .zst, .bz2). Stopped, even
    by kill -9, the same command goes on.
    """
    check_folder("--out", out, sources)
    if tokens is not None:
        # Where it lies in the result it may be made with it.
        check_folder("--tokens", tokens, sources, within=out)
    chosen = make_builder(method, named_values("--set", options), max_length)
    settings = Settings(order, seed, shuffle_rows, parse_bytes(memory), encoder)
    fields = Fields(text_field, repository_field, settings.memory, text_encoding)
    task = Build(
        Sources(sources, fields, suffixes, strict), load_encoder(tokenizer, end_token), chosen,
        settings, out, tokens or out / TOKENS,
    )  # fmt: skip
    worker = make_engine(engine)
    with Bars() as bars:
        manifest = run_build(task, bars, worker)
    click.echo(_summary(manifest, out))


@sequences.command()
@click.argument("folder", type=Place())
@click.option("--row", type=WHOLE, help="also print this row as text")
@click.option("--bucket", type=WHOLE, help="the row's bucket (default: 0)")
@click.option("--verify", is_flag=True, help="also compare every file with its checksum")
@click.option("--json", "as_json", is_flag=True, help="print the manifest")
def show(folder: Path, row: int | None, bucket: int | None, verify: bool, as_json: bool) -> None:
    """Tell what the data set in FOLDER holds."""
    from lengthwise.sequences.store import SequenceSet

    if row is None and bucket is not None:
        raise SequenceError("--bucket is the bucket of a --row, and none is given")
    opened = SequenceSet(folder)
    text = None if row is None else _row_text(opened, row, bucket or 0)
    if verify:
        opened.verify()
        click.echo(f"{len(opened.manifest['shards'])} files are as they were written", err=True)
    if as_json:
        click.echo(json.dumps(opened.manifest, indent=1, sort_keys=True))
        return
    Console(markup=False).print(_table(opened.manifest))
    if text is not None:
        click.echo(text)


def _summary(manifest: dict[str, Any], out: Path) -> str:
    dropped = sum(manifest["dropped"].values())
    line = (
        f"{out}: {manifest['documents']:,} documents, {manifest['document_tokens']:,} tokens -> "
        f"{manifest['rows']:,} rows, {manifest['tokens']:,} tokens, {dropped:,} dropped"
    )
    if "padding_share" in manifest:
        line += f", {manifest['padding_share']:.2%} padding"
    if lost := ends_lost(manifest):
        line += f"; {lost.partition(':')[0]}"
    skipped = sum(kind["count"] for kind in manifest["skipped"].values())
    passed = sum(manifest.get("not_read", {}).values())
    for count, what in ((skipped, "skipped (see `sequences show`)"), (passed, "not read")):
        line += f"; {count:,} {what}" if count else ""
    return line


def _table(manifest: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    table.add_row("method", manifest["method"])
    table.add_row("options", ", ".join(f"{k}={v}" for k, v in manifest["options"].items()))
    table.add_row("order", f"{manifest['order']}, seed {manifest['seed']}")
    for name in ("documents", "document_tokens", "rows", "tokens"):
        table.add_row(name.replace("_", " "), f"{manifest[name]:,}")
    table.add_row("mean context", f"{manifest['mean_context']:,} tokens before a token, on average")
    if "padding_share" in manifest:
        table.add_row("padding", f"{manifest['padding_share']:.3%}")
    for why, tokens in manifest["dropped"].items():
        table.add_row("dropped", f"{tokens:,} tokens: {why}")
    for why, kind in manifest["skipped"].items():
        documents = "document" if kind["count"] == 1 else "documents"
        table.add_row("skipped", f"{kind['count']:,} {documents}: {why}")
    for why, count in manifest.get("not_read", {}).items():
        table.add_row("not read", f"{count:,}: {why}")
    if lost := ends_lost(manifest):
        table.add_row("end tokens", lost)
    for bucket, facts in manifest["buckets"].items():
        rows = f"{facts['rows']:,} rows of {facts['inputs']:,}, {facts['tokens']:,} tokens"
        table.add_row(f"bucket {bucket}", rows)
    return table


def _row_text(opened: Any, number: int, bucket: int) -> str:
    from tokenizers import Tokenizer

    row = opened.row(number, bucket)
    tokenizer = Tokenizer.from_file(str(opened.tokenizer_file))
    text = tokenizer.decode(row.input_ids.tolist(), skip_special_tokens=False)
    return (
        f"row {number}: {len(row.input_ids):,} tokens in pieces of {row.lengths.tolist()}\n{text}"
    )
