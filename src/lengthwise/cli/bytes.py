"""`lengthwise bytes`: the likeliest next bytes behind a prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lengthwise.cli.arguments import COUNT, SEED, WHOLE, Real, Whole, check_texts
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.reports.table import PIPE_WIDTH

if TYPE_CHECKING:
    from lengthwise.api.bytes_law import ByteGeneration, ByteReader
    from lengthwise.tokenization.byte_covers import ByteLaw


@click.command("bytes")
@click.argument("prompt")
@click.option("--with", "others", multiple=True, metavar="MODEL",
              help="another model, to mix with --model; may be repeated")  # fmt: skip
@click.option("--weight", "shares", multiple=True, type=Real(0),
              help="of each model in their order (default: equal)")  # fmt: skip
@click.option("--suffix", help="what follows the text that is to be filled in")
@click.option(
    "--order",
    type=click.Choice(["spm", "psm"]),
    default="spm",
    show_default=True,
    help="of prompt and suffix: the middle goes on from the prompt, or stands last",
)
@click.option("--context", help="text that stands before the prompt, special tokens as such")
@click.option("--count", default=10, show_default=True, type=Whole(1, 257),
              help="bytes that are shown")  # fmt: skip
@click.option("--max-new-bytes", default=0, show_default=True, type=WHOLE,
              help="written behind the prompt; 0 writes none")  # fmt: skip
@click.option("--temperature", type=Real(0),
              help="of what is written (default: 0, which is greedy)")  # fmt: skip
@click.option("--seed", type=SEED, help="of what is drawn (default: 0)")
@click.option("--chunk", type=COUNT, help="tokens of a prefill forward")
@click.option("-r", "--recipe", default="full", show_default=True,
              help="under which every model reads; see `lengthwise methods`")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead")
@model_options
def bytes_(
    prompt: str, others: tuple[str, ...], shares: tuple[float, ...], suffix: str | None,
    order: str, context: str | None, count: int, max_new_bytes: int, temperature: float | None,
    seed: int | None, chunk: int | None, recipe: str, as_json: bool, choice: ModelChoice,
) -> None:  # fmt: skip
    """Print the likeliest next bytes behind PROMPT, which may end within a token.

    The law is exact: it counts every way to write the prompt in tokens. Of several models it is
    the mean, whatever their tokenizers.
    """
    from lengthwise.api.byte_ensemble import ByteEnsemble
    from lengthwise.recipes import parse

    parsed = parse(recipe)
    check_texts("the prompt", [prompt])
    check_texts("--suffix", [suffix] if suffix else [])
    check_texts("--context", [context] if context else [])
    _check(choice, others, shares)
    for option, value in (("--temperature", temperature), ("--seed", seed)):
        if value is not None and not max_new_bytes:
            raise LengthwiseError(f"{option} is of what is written: give --max-new-bytes too")
    readers: list[ByteReader] = []
    for name in [choice.model, *others]:
        model = replace(choice, model=name).open()
        readers.append(model.bytes(prompt, parsed, context=context, suffix=suffix, order=order,
                                   chunk=chunk))  # fmt: skip
    reader = ByteEnsemble(readers, shares or None) if others else readers[0]
    law = reader.law()
    written = None
    if max_new_bytes:
        written = reader.generate(max_new_bytes, temperature=temperature or 0.0, seed=seed or 0)
    if as_json:
        click.echo(json.dumps(_row(law, count, written), ensure_ascii=False))
        return
    _show(law, count, written)


def _check(choice: ModelChoice, others: tuple[str, ...], weights: tuple[float, ...]) -> None:
    if choice.is_remote:
        raise LengthwiseError(
            f"{choice.model} is behind a server, which does not tell the law of the next token; "
            "name a model that runs here"
        )
    if weights and len(weights) != len(others) + 1:
        raise LengthwiseError(f"{len(weights)} weights for {len(others) + 1} models")
    if weights and not sum(weights):
        raise LengthwiseError("all weights are 0; give at least one that is not")


def _row(law: ByteLaw, count: int, written: ByteGeneration | None) -> dict[str, object]:
    found: dict[str, object] = {
        "law": [{"byte": byte, "shown": _shown(byte), "prob": prob}
                for byte, prob in law.top(count)],
        "end": law.end, "leak": law.leak,
    }  # fmt: skip
    if written is not None:
        found |= {"text": written.text, "bytes": list(written.data), "drawn": written.drawn,
                  "tokens": list(written.tokens),
                  "finish_reason": written.finish_reason}  # fmt: skip
    return found


def _show(law: ByteLaw, count: int, written: ByteGeneration | None) -> None:
    table = Table(box=None, pad_edge=False)
    for head in ("byte", "shown", "probability"):
        table.add_column(head, justify="right" if head == "probability" else "left")
    for byte, prob in law.top(count):
        name = "-" if byte is None else f"{byte:02x}"
        table.add_row(name, Text(_shown(byte)), f"{prob:.6f}")
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(markup=False, width=PIPE_WIDTH, color_system=None)
    console.print(table)
    if written is not None:
        click.echo(written.text)


def _shown(byte: int | None) -> str:
    """A byte as a reader knows it."""
    if byte is None:
        return "(end)"
    if byte == ord(" "):
        return "(space)"
    if 0x21 <= byte < 0x7F:
        return chr(byte)
    names = {0x09: "(tab)", 0x0A: "(line end)", 0x0D: "(return)"}
    return names.get(byte, "(of a longer character)" if byte >= 0x80 else "(control)")


__all__ = ["bytes_"]
