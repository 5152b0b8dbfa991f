"""Reading a long prompt along the lines of MInference, in turn with reading all of it."""

from __future__ import annotations

from statistics import median

import lengthwise
from benchmarks.figures import Ours, Table, copy_loss, text_ids
from lengthwise.api.model import Model
from lengthwise.engine.kernels import blocks
from lengthwise.engine.kernels.blocks import Blocks

LENGTH = 16_384
RECIPES = ("minference", "minference(space=wide, slack=0.05, block=256)")


def share_read(model: Model, recipe: str, ids: list[int]) -> float:
    """Keys that are read, of all that queries could read; a block's own count as read."""
    read = whole = 0
    attend = blocks.attend

    def count(asked: Blocks) -> object:
        nonlocal read, whole
        own = asked.size * asked.count * len(asked.query)
        read += own + sum(int(asked.past(head).sum()) for head in range(len(asked.key)))
        starts = range(asked.start, asked.start + asked.count * asked.size, asked.size)
        whole += own + len(asked.query) * sum(starts)
        return attend(asked)

    blocks.attend = count  # type: ignore[assignment]
    try:
        Ours(model, ids, recipe)
    finally:
        blocks.attend = attend
    return read / whole


def figures(rounds: int) -> Table:
    """Prefill of 16,384 tokens by patterns against full attention, and the copy probe."""
    table = Table(
        "minference", "MInference: prefill of 16,384 tokens, and the copy probe at 4,096",
        "Seconds to the first token, medians of rounds that alternate with full (at most 2, they "
        "are long); the share of keys is that of 8,192 tokens; the copy loss is in nats a token.",
    )  # fmt: skip
    model = lengthwise.load()
    ids = text_ids(model, LENGTH)
    for recipe in RECIPES:
        model.plan(recipe)  # The search, where there was none yet, is no part of reading.
    seconds: dict[str, list[float]] = {name: [] for name in ("full", *RECIPES)}
    for _ in range(min(rounds, 2)):
        for name in seconds:
            seconds[name].append(Ours(model, ids, name).ttft_s)
    full, truth = median(seconds["full"]), copy_loss(model, "full", 4096)
    for name in RECIPES:
        own = median(seconds[name])
        table.rows.append({
            "recipe": name, "prefill_s": own, "full_s": full, "ratio": full / own,
            "keys_read": share_read(model, name, ids[:8192]),
            "copy_loss": copy_loss(model, name, 4096), "full_copy_loss": truth,
        })  # fmt: skip
    return table


__all__ = ["figures", "share_read"]
