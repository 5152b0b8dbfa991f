"""`lengthwise tokenizer hypernetwork`: what the transplant zett makes its rows by."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from lengthwise._utils.embedded_file import EMBEDDED
from lengthwise._utils.outputs import HYPERNETWORK, Output, check_outputs
from lengthwise.cli.arguments import COUNT, NATURAL, Place, Real, check_texts, force_option
from lengthwise.cli.cartridge import CartridgeBar
from lengthwise.cli.documents import given_documents
from lengthwise.tokenization.transplant.hypernetwork import Shape
from lengthwise.tokenization.transplant.sampled import Sampling
from lengthwise.training.zett import Settings

_HOW, _SHAPE, _SAMPLING = Settings(), Shape(), Sampling()


@click.command()
@click.argument("model")
@click.argument("sources", nargs=-1, required=True, metavar="TEXT...")
@click.option("--out", "-o", required=True, type=Place(), help="file of the network to write")
@force_option("network")
@click.option("--identity", default=_HOW.identity, show_default=True, type=COUNT,
              help="steps that teach old rows (the paper's: 10,000)")  # fmt: skip
@click.option("--steps", default=_HOW.steps, show_default=True, type=COUNT,
              help="steps on sampled tokenizers (the paper's: 200,000)")  # fmt: skip
@click.option("--batch", default=_HOW.batch, show_default=True, type=COUNT,
              help="texts of a step (the paper's: 128)")  # fmt: skip
@click.option("--length", default=_HOW.length, show_default=True, type=COUNT,
              help="bytes of a text")  # fmt: skip
@click.option("--lr", default=_HOW.lr, show_default=True, type=Real(0, min_open=True),
              help="AdamW's rate at its highest")  # fmt: skip
@click.option("--vocabulary", default=_SAMPLING.vocabulary, show_default=True, type=COUNT,
              help="tokens of a sampled tokenizer (the paper's: 32,768)")  # fmt: skip
@click.option("--layers", default=_SHAPE.layers, show_default=True, type=COUNT,
              help="of the network")  # fmt: skip
@click.option("--seed", default=_HOW.seed, show_default=True, type=NATURAL,
              help="of what is drawn")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def hypernetwork(
    model: str, sources: tuple[str, ...], out: Path, force: bool, vocabulary: int, layers: int,
    as_json: bool, **numbers: Any,
) -> None:  # fmt: skip
    """Train a network that makes MODEL rows for any tokenizer (ZeTT), on TEXT.

    MODEL is a folder, a .gguf file, a hub name or `embedded`; it stays as it is. `lengthwise
    tokenizer transplant MODEL NEW --by "zett(path=OUT)"` asks the network.
    """
    from lengthwise.models.load import load_pretrained
    from lengthwise.training.zett import train

    known = {each.name for each in fields(Settings)}
    how = Settings(
        sampling=Sampling(vocabulary=vocabulary),
        **{name: value for name, value in numbers.items() if name in known},
    )
    check_outputs([Output("--out", out, HYPERNETWORK)], [model, *sources], force)
    texts = [each.text for each in given_documents(sources)]
    check_texts("the text to train on", texts)
    opened, own, _ = load_pretrained(None if model == EMBEDDED else model, "fp32")
    with CartridgeBar() as bar:
        phase = ""

        def told(name: str, done: int, steps: int, loss: float) -> None:
            nonlocal phase
            if name != phase:
                phase = name
                bar.stage(name, steps, "steps")
            bar.reached(done, steps, said=f"{loss:.4f}")

        found = train(opened, own, texts, out, Shape(layers=layers), how, told)
    weights = sum(each.numel() for each in found.network.parameters())
    tail = found.losses[-20:]
    last = sum(tail) / len(tail)
    if as_json:
        click.echo(json.dumps({"out": str(out), "weights": weights, "identity": found.identity,
                               "nats_a_byte": last}))  # fmt: skip
        return
    click.echo(
        f"{out}: {weights / 1e6:.1f} M weights; old rows to {found.identity:.3f} of variance; "
        f"then {last:.3f} nats a byte with sampled tokenizers (mean of the last steps)"
    )


__all__ = ["hypernetwork"]
