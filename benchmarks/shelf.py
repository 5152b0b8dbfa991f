"""What stands around `lengthwise bench shelf`: the text for other libraries, and tables of rows.

python -m benchmarks.shelf text [--length N] [--follow N]     token ids, as JSON
python -m benchmarks.shelf folder PLACE                       the model, for any transformers
python -m benchmarks.shelf markdown ROWS.jsonl                the shelf as markdown
python -m benchmarks.shelf short ROWS.jsonl                   a line a method: KL at each share
python -m benchmarks.shelf against OURS.jsonl THEIRS.jsonl    ours beside another library's
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lengthwise
from lengthwise.documents.files import read_document
from lengthwise.evaluation.compare.shelf import FOLLOW, LENGTH
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.shelf_rows import ShelfRow, ShelfRows, read_rows
from lengthwise.evaluation.reports.columns import number
from lengthwise.evaluation.reports.shelf_table import against, markdown
from lengthwise.evaluation.tasks.shelf_text import shelf_text
from lengthwise.models.embedded import converted_folder


def text(length: int, follow: int) -> str:
    """The default document on the embedded model, as `bench shelf` reads it by default.

    Beside it the model's name, its dtype and the machine, which rows of another library take over.
    """
    model = lengthwise.load()
    document = read_document()
    tokenizer: Any = model.tokenizer
    ids = model.encode(document.text, special="text")
    made = shelf_text(document.name, ids, tokenizer, length, follow)
    found = {
        **json.loads(made.to_json()), "model": model.name, "dtype": model.adapted.dtype_text,
        "origin": asdict(Origin.here()),
    }  # fmt: skip
    return json.dumps(found)


def folder(place: Path) -> None:
    """The embedded model as a folder for any version of transformers, its tokenizer included.

    Weights are links to those that lengthwise converted, in the dtype that it runs in.
    """
    model = lengthwise.load()
    source = converted_folder(model.adapted.dtype)
    place.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(source / name)
    assert model.tokenizer is not None
    model.tokenizer.save_pretrained(place)


def of_one_setting(rows: list[ShelfRow]) -> ShelfRows:
    """The rows that have the setting of the last one, as a shelf. Of what was tried again the last
    counts."""
    found = {
        (row.engine, row.asked, row.share): row
        for row in rows if row.setting == rows[-1].setting
    }  # fmt: skip
    return ShelfRows(list(found.values()))


def short(rows: ShelfRows) -> str:
    """A line a method: KL at each share below 100%, with the loss of the copy, and the tokens a
    second written at the least of them. Sorted by the middle one."""
    shares = sorted({row.share for row in rows.rows if row.share < 1}, reverse=True)
    lines = []
    for question in dict.fromkeys(row.question for row in rows.rows if row.question):
        methods: dict[str, dict[float, ShelfRow]] = {}
        for row in rows.rows:
            if row.question == question:
                methods.setdefault(row.asked, {})[row.share] = row
        heads = [f"**{question}**", *(f"{share:.0%}" for share in shares), "tok/s"]
        lines += [_line(heads), "|" + "---|" * len(heads)]
        for name, of in sorted(methods.items(), key=lambda item: _best(item[1], shares)):
            written = [of[share].tokens_per_s for share in shares if share in of]
            speed = next((x for x in reversed(written) if x is not None), None)
            cells = [_cell(of.get(share)) for share in shares]
            lines.append(_line([f"`{name}`", *cells, number(speed)]))
        lines.append("")
    return "\n".join(lines)


def _best(of: dict[float, ShelfRow], shares: list[float]) -> float:
    """The KL by which methods are sorted: at the middle share, or the nearest that there is."""
    middle = shares[len(shares) // 2]
    near = sorted((row for row in of.values() if row.kl is not None),
                  key=lambda row: abs(row.share - middle))  # fmt: skip
    return float("inf") if not near else near[0].kl or 0.0


def _cell(row: ShelfRow | None) -> str:
    if row is None:
        return ""
    return "refused" if row.kl is None else f"{row.kl:.3f} ({number(row.copy_loss)})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    made = verbs.add_parser("text")
    made.add_argument("--length", type=int, default=LENGTH)
    made.add_argument("--follow", type=int, default=FOLLOW)
    verbs.add_parser("folder").add_argument("place", type=Path)
    verbs.add_parser("markdown").add_argument("rows", type=Path)
    verbs.add_parser("short").add_argument("rows", type=Path)
    beside = verbs.add_parser("against")
    beside.add_argument("ours", type=Path)
    beside.add_argument("theirs", type=Path)
    given = parser.parse_args()
    if given.verb == "text":
        print(text(given.length, given.follow))
    elif given.verb == "folder":
        folder(given.place)
    elif given.verb == "markdown":
        print(markdown(of_one_setting(read_rows(given.rows))), end="")
    elif given.verb == "short":
        print(short(of_one_setting(read_rows(given.rows))))
    else:
        theirs = read_rows(given.theirs)
        found = [row for row in read_rows(given.ours) if row.setting == theirs[-1].setting]
        print(against(found, theirs), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
