"""`make bench`: the figures of this project, side by side in one run, to a dated page.

Every pair is measured in turn (A, B, A, B, ...) and medians are reported, because this kind of
machine is noisy and ratios survive what seconds do not. The page names machine, versions, commit
and command. Parts can be chosen: `python -m benchmarks.run decode prefill`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    batch_jobs,
    batches,
    coder,
    coder_shelf,
    edits,
    figures,
    selected,
    serving,
    sparse_prefill,
)  # fmt: skip
from lengthwise.evaluation.metrics.origin import Origin

RESULTS = Path(__file__).with_name("results")
PARTS: dict[str, Callable[[int], figures.Table]] = {
    "decode": figures.decode,
    "prefill": figures.prefill,
    "kernels": figures.kernels,
    "weights": figures.weights,
    "window": figures.window,
    "lookup": figures.lookup,
    "search": figures.draft_search,
    "bytes": figures.bytes_kept,
    "selection": figures.selection,
    "minference": sparse_prefill.figures,
    "selected": selected.selected,
    "prepack": batches.prepack,
    "edit": edits.edit,
    "pieces": edits.pieces,
    "sessions": serving.sessions,
    "prefixes": serving.prefixes,
    "serve": serving.serve,
    "beside": serving.beside,
    "coder": coder.figures,
    "coder_shelf": coder_shelf.figures,
    "batchllm": batch_jobs.figures,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds of each pair")
    parser.add_argument("--out", type=Path, help="page to write (default: by date and machine)")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; allowed are {', '.join(PARTS)}")
    today = datetime.date.today().isoformat()
    origin = Origin.here(f"python -m benchmarks.run {' '.join(arguments.parts)}".strip())
    path = arguments.out or RESULTS / f"{today}-{slug(origin)}.md"
    print(f"machine: {machine(origin)}", file=sys.stderr, flush=True)
    for page_of, whose in others(origin):
        print(f"another machine's: {page_of} ({whose})", file=sys.stderr, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = []
    for part in arguments.parts or PARTS:
        print(f"== {part}", file=sys.stderr, flush=True)
        tables.append(PARTS[part](arguments.rounds))
        print(tables[-1].markdown(), flush=True)
        # After every part: minutes of measuring should not be lost to an interruption.
        path.write_text(page(today, origin, tables), encoding="utf-8")
    print(json.dumps({table.name: table.rows for table in tables}))
    return 0


def machine(origin: Origin) -> str:
    """The machine in a line, as it stands at the top of a page."""
    return dict(origin.lines())["Machine"]


def slug(origin: Origin) -> str:
    """The machine in the name of a page: its GPU, or its processor and cores."""
    facts = origin.machine
    name = facts.get("gpu") or f"{facts['cpu']} {facts['cores']}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def others(origin: Origin) -> list[tuple[str, str]]:
    """Pages of other machines, and whose they are: their figures say nothing of this one."""
    found = []
    for path in sorted(RESULTS.glob("*.md")):
        line = re.search(r"^- Machine: (.*)$", path.read_text(encoding="utf-8"), re.M)
        whose = line.group(1) if line else "a machine it does not name"
        if origin.machine.get("gpu", origin.machine["cpu"]) not in whose:
            found.append((path.name, whose))
    return found


def page(today: str, origin: Origin, tables: list[figures.Table]) -> str:
    lines = [f"# Figures of {today}", ""]
    lines += [f"- {label}: {text}" for label, text in origin.lines()]
    for table in tables:
        lines += ["", f"## {table.title}", "", table.note, "", table.markdown()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
