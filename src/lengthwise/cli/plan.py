"""`plan`: sequence-parallel groups for a batch of varied lengths."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import click

from lengthwise.cli.arguments import COUNT, Place, Real, Whole
from lengthwise.documents.encodings import decode
from lengthwise.errors import LengthwiseError
from lengthwise.training.flexsp import best_static, plan as find_plan
from lengthwise.training.flexsp_costs import CONTEXT, Costs, gpt_on_a100, read_costs
from lengthwise.training.flexsp_groups import MicroBatch

# Of one job: more than any that is known of, and few enough to plan for in a second.
MOST_DEVICES = 1 << 16


@click.command()
@click.argument("lengths", type=click.File("rb"))
@click.option(
    "--devices", required=True, type=Whole(1, MOST_DEVICES), help="devices to form groups of"
)
@click.option("--costs", type=Place(exists=True, dir_okay=False),
              help="a cost table in JSON, measured on your machines")  # fmt: skip
@click.option(
    "--gpt", help="without --costs: the paper's GPT on A100, 7b, 13b or 30b (default: 7b)"
)
@click.option("--context", type=COUNT,
              help="without --costs: tokens that the paper's GPT has positions for "
                   "(default: 192,000, or the longest sequence)")  # fmt: skip
@click.option("--forgetting", type=Whole(0),
              help="without --costs: layers that compute their MLP again in the backward pass "
                   "(default: the authors')")  # fmt: skip
@click.option(
    "--memory-gib", type=Real(0, min_open=True), help="memory of a device (default: the table's)"
)
@click.option("--sizes", help="group sizes allowed, such as 1,2,4 (default: the table's but 1)")
@click.option(
    "--buckets", default=16, show_default=True, type=COUNT, help="distinct lengths in a program"
)
@click.option(
    "--tries", default=3, show_default=True, type=COUNT, help="counts of micro-batches to try"
)
@click.option("--time-limit", default=5.0, show_default=True,
              type=Real(0, min_open=True), help="seconds for each program")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print one JSON line instead")
def plan(
    lengths: BinaryIO, devices: int, costs: Path | None, gpt: str | None, context: int | None,
    forgetting: int | None, memory_gib: float | None, sizes: str | None, buckets: int, tries: int,
    time_limit: float, as_json: bool,
) -> None:  # fmt: skip
    """Plan one training step over the sequences whose LENGTHS stand in a file (-: standard input),
    and compare it with the best plan that has one group size.

    LENGTHS holds numbers of tokens, or JSON lines with tokens, bytes and words: then it also says
    bytes and words a second, which compare where tokenizers differ.
    """
    read = _lengths(decode(lengths.read(), "LENGTHS"))
    batch = read.tokens
    allowed = _numbers("--sizes", sizes.split(",")) if sizes else None
    table = _table(costs, gpt, devices, context, forgetting, batch)
    if memory_gib is not None:
        table = replace(table, memory_bytes=memory_gib * 2**30)
    with _quiet():
        found = find_plan(batch, devices, table, sizes=allowed, buckets=buckets, tries=tries,
                          time_limit_s=time_limit)  # fmt: skip
        static = best_static(batch, devices, table, sizes=allowed, tries=tries)
    if as_json:
        click.echo(json.dumps({
            "time_ms": found.time_ms, "gap": found.gap, "static_ms": static.time_ms,
            "static_size": static.micro_batches[0].groups[0].size, **read.sizes,
            "micro_batches": [
                {"time_ms": each.time_ms, "solver": each.solver, "gap": each.gap, "groups": [
                    {"size": group.size, "sequences": group.sequences, "tokens": group.tokens,
                     "time_ms": group.time_ms, "memory_bytes": group.memory_bytes}
                    for group in each.groups]}
                for each in found.micro_batches],
        }))  # fmt: skip
        return
    for number, each in enumerate(found.micro_batches, 1):
        click.echo(f"micro-batch {number}: {each.time_ms:,.0f} ms, {_describe(each)}")
    click.echo(
        f"{found.time_ms:,.0f} ms a step; {static.time_ms / found.time_ms:.2f} times as fast as "
        f"groups of {static.micro_batches[0].groups[0].size} only ({static.time_ms:,.0f} ms)"
    )
    for what, size in read.sizes.items():
        rate = size / found.time_ms * 1000
        click.echo(f"{size:,} {what} a step, {rate:,.0f} {what} a second")


def _table(
    path: Path | None, gpt: str | None, devices: int, context: int | None,
    forgetting: int | None, batch: list[int],
) -> Costs:  # fmt: skip
    """The user's table, or the paper's for this batch."""
    if path is None:
        longest = max(batch, default=0)
        if context is not None and context < longest:
            raise LengthwiseError(f"--context {context} is less than a sequence of {longest:,}")
        reach = max(CONTEXT, longest) if context is None else context
        return gpt_on_a100(gpt or "7b", devices, context=reach, forgetting=forgetting)
    for name, value in (("--gpt", gpt), ("--context", context), ("--forgetting", forgetting)):
        if value is not None:
            raise LengthwiseError(f"{name} is of the paper's GPT: it has no effect with --costs")
    return read_costs(path)


@dataclass(frozen=True)
class _Lengths:
    """tokens: of each sequence. sizes: bytes and words of all, where the file tells them."""

    tokens: list[int]
    sizes: dict[str, int] = field(default_factory=dict)


def _lengths(text: str) -> _Lengths:
    """Whole numbers, or JSON lines with tokens and, so that plans under other tokenizers compare,
    bytes and words."""
    if not text.lstrip().startswith("{"):
        return _Lengths(_numbers("LENGTHS", text.split()))
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise LengthwiseError(f"LENGTHS: line {number} is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise LengthwiseError(f"LENGTHS: line {number} is no object with tokens")
            rows.append(row)
    told = [name for name in ("bytes", "words") if all(name in row for row in rows)]
    for number, row in enumerate(rows, 1):
        odd = next((n for n in ("tokens", *told) if not _is_count(row.get(n))), None)
        if odd is not None:
            raise LengthwiseError(
                f"LENGTHS: {odd} of row {number} is {row.get(odd)!r}, and has to be a whole number "
                "such as 4096"
            )
    return _Lengths(
        [row["tokens"] for row in rows], {name: sum(row[name] for row in rows) for name in told}
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _describe(micro: MicroBatch) -> str:
    sizes = Counter(group.size for group in micro.groups)
    groups = " + ".join(f"{count} x {size}" for size, count in sorted(sizes.items(), reverse=True))
    tokens = sum(group.tokens for group in micro.groups)
    left = (
        "" if micro.gap is None else f", at most {micro.gap:.1%} above the optimum of its program"
    )
    return f"groups {groups}, {tokens:,} tokens{left}"


def _numbers(what: str, words: list[str]) -> list[int]:
    odd = [word for word in words if not word.strip().isdecimal()]
    if odd:
        raise LengthwiseError(f"{what}: {odd[0]!r} is not a whole number such as 4096")
    return [int(word) for word in words]


@contextmanager
def _quiet() -> Iterator[None]:
    """HiGHS prints stray lines straight to file descriptor 1, into what scripts read."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
