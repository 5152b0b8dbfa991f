"""`curriculum`: which lengths a training run would read, step by step, before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.outputs import PICTURE, Output, check_outputs
from lengthwise.cli.arguments import COUNT, NATURAL, Place, force_option
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.curricula import MOST_STEPS, NAMES, Curriculum
from lengthwise.sequences.curriculum_picture import plot
from lengthwise.sequences.store import manifest_in

# Stretches of a cycle that the text lists.
STRETCHES = 8


@click.command()
@click.option("--buckets", help="rows of each length, such as 256=1000,512=400")
@click.option("--data", type=Place(exists=True, file_okay=False),
              help="a data set made by `lengthwise sequences build`: read its counts")  # fmt: skip
@click.option("--name", default="grow-p2", show_default=True, help=f"one of {', '.join(NAMES)}")
@click.option("--cycles", default=8, show_default=True, type=COUNT,
              help="times an epoch goes short to long")  # fmt: skip
@click.option("--tokens-per-step", required=True, type=COUNT,
              help="tokens of a step on all ranks, a multiple of every length")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=NATURAL,
              help="of the order of buckets and rows")  # fmt: skip
@click.option("--epochs", default=1, show_default=True, type=COUNT, help="epochs to draw")
@click.option("--out", "-o", type=Place(), help="write a picture: .png, .svg or .pdf")
@force_option("picture")
@click.option("--json", "as_json", is_flag=True, help="print one JSON line instead")
def curriculum(
    buckets: str | None, data: Path | None, name: str, cycles: int, tokens_per_step: int,
    seed: int, epochs: int, out: Path | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show the curriculum NAME over buckets of lengths: steps, odds, and lengths along the way."""
    if (buckets is None) == (data is None):
        raise LengthwiseError("give either --buckets 256=1000,512=400 or --data DIR, one of them")
    check_outputs([Output("--out", out, PICTURE)], [data], force)
    counts = parse_buckets(buckets) if buckets is not None else read_counts(data or Path())
    schedule = Curriculum(counts, tokens_per_step, name=name, cycles=cycles, seed=seed)
    steps = epochs * schedule.steps_per_epoch
    if steps > MOST_STEPS:
        raise LengthwiseError(
            f"--epochs {epochs} have {steps:,} steps, and {MOST_STEPS:,} are drawn at most: give "
            f"--epochs {MOST_STEPS // schedule.steps_per_epoch} or fewer"
        )
    if out is not None:
        plot(schedule, out, epochs=epochs)
    lengths = np.concatenate([schedule.lengths(epoch) for epoch in range(epochs)])
    if as_json:
        click.echo(json.dumps({
            "name": name, "cycles": cycles, "seed": seed, "tokens_per_step": tokens_per_step,
            "steps_per_epoch": schedule.steps_per_epoch, "steps": schedule.batches,
            "odds": schedule.odds, "left_out_rows": schedule.left_out,
            "mean_length": schedule.mean_length, "mean_context": schedule.mean_context,
            "lengths": lengths.tolist(), "picture": str(out) if out else None,
        }))  # fmt: skip
        return
    click.echo(
        f"{name}: {schedule.steps_per_epoch:,} steps of {tokens_per_step:,} tokens an epoch; "
        f"a row has {schedule.mean_length:,.0f} tokens on average, a token sees "
        f"{schedule.mean_context:,.0f} earlier ones"
    )
    weights = schedule.odds
    for length, rows in sorted(counts.items()):
        steps, left = schedule.batches.get(length, 0), schedule.left_out[length]
        share = weights.get(length, 0.0) / sum(weights.values())
        note = f"; {left:,} of {rows:,} rows left out" if left or not steps else ""
        click.echo(f"  {length:>9,}: {steps:>9,} steps, odds {share:7.2%} at first{note}")
    along = " ".join(f"{each:,.0f}" for each in along_a_cycle(lengths, cycles * epochs))
    click.echo(f"  mean length along a cycle: {along}")
    if out is not None:
        click.echo(f"picture: {out}", err=True)


def along_a_cycle(lengths: NDArray[np.int64], cycles: int) -> list[float]:
    """Mean length of each stretch of a cycle, over all cycles of [steps] lengths."""
    parts = [np.array_split(cycle, STRETCHES) for cycle in np.array_split(lengths, cycles)]
    joined = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return [float(each.mean()) for each in joined if len(each)]


def parse_buckets(text: str) -> dict[int, int]:
    """Rows of each length from '256=1000,512=400'. Raises LengthwiseError, quoting what is off."""
    counts: dict[int, int] = {}
    for item in text.split(","):
        length, _, rows = item.partition("=")
        try:
            bucket, count = int(length), int(rows)
        except ValueError as error:
            raise LengthwiseError(
                f"--buckets: {item.strip()!r} is not LENGTH=ROWS, such as 256=1000"
            ) from error
        if bucket in counts:
            raise LengthwiseError(f"--buckets: the length {bucket} is given twice: give it once")
        counts[bucket] = count
    return counts


def read_counts(folder: Path) -> dict[int, int]:
    """Rows of each length that has any, from the manifest of a built data set."""
    path = manifest_in(folder)
    if path is None:
        raise LengthwiseError(f"{folder} has no manifest.json: build it with `sequences build`")
    try:
        buckets: Any = json.loads(path.read_text(encoding="utf-8"))["buckets"]
        counts = {int(each["inputs"]): int(each["rows"]) for each in buckets.values()}
        # A run does not read empty buckets: their lengths need not fit its steps either.
        counts = {length: rows for length, rows in counts.items() if rows}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise LengthwiseError(f"{path} is no manifest of a built data set: {error!r}") from error
    if not counts:
        raise LengthwiseError(
            f"{folder} has no buckets by length, which only the method `decompose` builds: build "
            "with it, or give the counts with --buckets 256=1000,512=400"
        )
    return counts
