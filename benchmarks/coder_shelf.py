"""The shelf on Qwen2.5-Coder-1.5B-Instruct: what a model that people use loses at a quarter.

Rows are kept in results/shelf-coder.jsonl as they are measured, so that a run that was stopped
goes on where it was. Rows of another machine are measured again here.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lengthwise
from benchmarks.coder import NAME, coder
from benchmarks.figures import Table
from lengthwise.documents.files import read_document
from lengthwise.errors import ModelError
from lengthwise.evaluation.compare.shelf import FOLLOW, QUESTIONS, shelf
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.shelf_rows import ShelfRow, read_rows
from lengthwise.evaluation.tasks.shelf_text import shelf_text
from lengthwise.recipes.registry import methods

ROWS = Path(__file__).with_name("results") / "shelf-coder.jsonl"
LENGTH, SHARE = 2048, 0.25
# What has to be calibrated first: heads, layers, gates, codebooks, bases; the last three for hours.
FITTED = ("razor", "tidal", "duo", "lserve", "a2ats", "matryoshka")


def figures(rounds: int) -> Table:
    """Every method that needs no training at a quarter of the cache, on a document's beginning."""
    table = Table(
        "coder_shelf", f"{NAME}: the shelf at 25% of {LENGTH:,} tokens (bf16)",
        "As in `lengthwise bench shelf`: a retention and a codec hold the share, or the nearest "
        "they come to, and a selection reads it. KL from full's probabilities and loss over "
        f"full's, in nats a token of the {FOLLOW} that follow; losses of words and of keys planted "
        f"in the text. Without {', '.join(FITTED)}, which have to be calibrated first.",
    )  # fmt: skip
    try:
        path = coder()
    except ModelError as error:
        print(error, file=sys.stderr)
        return table
    with lengthwise.load(str(path), dtype="bf16") as model:
        document = read_document()
        tokenizer: Any = model.tokenizer
        ids = model.encode(document.text, special="text")
        text = shelf_text(document.name, ids, tokenizer, LENGTH, FOLLOW)
        found = shelf(
            model, text, [name for name in _names() if name not in FITTED], shares=(SHARE,),
            known=_known(path), finished=_keep,
        )  # fmt: skip
    base = found.full.loss if found.full is not None else None
    for row in sorted(found.rows, key=_order):
        over = row.loss - base if row.loss is not None and base is not None else None
        table.rows.append({
            "recipe": f"`{row.recipe}`", "held, %": _percent(row.held),
            "read, %": _percent(row.read),
            "KL": _nats(row.kl), "loss over": _nats(over), "copy": _nats(row.copy_loss),
            "keys": _nats(row.needle_loss),
        })  # fmt: skip
    return table


def _names() -> list[str]:
    known = methods()
    return sorted((name for name, cls in known.items() if cls.question in QUESTIONS),
                  key=lambda name: QUESTIONS.index(str(known[name].question)))  # fmt: skip


def _order(row: ShelfRow) -> tuple[int, float]:
    place = QUESTIONS.index(row.question) if row.question in QUESTIONS else -1
    return place, float("inf") if row.kl is None else row.kl


def _known(path: Path) -> list[ShelfRow]:
    """Rows that this machine has measured, of the model at a path: they hold its name alone."""
    if not ROWS.exists():
        return []
    here = dict(Origin.here().machine)
    return [
        replace(row, model=str(path))
        for row in read_rows(ROWS) if row.origin.get("machine") == here and row.model == path.name
    ]  # fmt: skip


def _keep(row: ShelfRow) -> None:
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(replace(row, model=Path(row.model).name).to_json() + "\n")
    print(f"{row.recipe}: {row.refused or _nats(row.kl)}", file=sys.stderr, flush=True)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _nats(value: float | None) -> str:
    return "refused" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    print(figures(1).markdown())
