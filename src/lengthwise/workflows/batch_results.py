"""The items of a labelling job that are done, on the disk.

OUT has a JSON line for each item, in the order in which they are done: `item` (its number, from 1),
`id`, `label`, `votes`, `rounds`, `settled` and `text`. `OUT.manifest.json` says which job it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence as Seq
from pathlib import Path
from typing import Any

from lengthwise._utils.appended import AppendedLines, HoldsLines
from lengthwise._utils.files import write_aside
from lengthwise._utils.outputs import Kind
from lengthwise._utils.version import __version__
from lengthwise.documents.item_files import Item
from lengthwise.errors import LengthwiseError
from lengthwise.workflows.batchprompt import Labelled

FORMAT, VERSION = "lengthwise labels", 1
# How every line of OUT begins, which tells a torn line from somebody's notes.
_START = b'{"item": '


def manifest_of(out: Path) -> Path:
    """Where the manifest of an OUT lies.

    Args:
        out: its path.
    """
    return out.with_name(f"{out.name}.manifest.json")


def _job_of(out: Path) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(manifest_of(out).read_text(encoding="utf-8"))
        if (found["format"], found["version"]) == (FORMAT, VERSION):
            return dict(found["job"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _is_output(path: Path) -> bool:
    if _job_of(path) is None:
        return False
    with path.open("rb") as file:
        begun = file.read(len(_START))
    return _START.startswith(begun)


LABELS = Kind("labels", _is_output)


def require_ours(out: Path, job: Mapping[str, Any]) -> None:
    """Refuses an OUT that is another job's.

    Args:
        out: its path.
        job: as far as it is known; names that are not in it are not compared.

    Raises:
        LengthwiseError: for another job's, and for a file that is no labels.
    """
    if not out.exists() or not out.stat().st_size:
        return
    before = _job_of(out)
    if before is None or not _is_output(out):
        raise LengthwiseError(
            f"{out}: a file that is no labels of lengthwise lies there: name another one, or add "
            "--force to overwrite it"
        )
    for name, value in json.loads(json.dumps(dict(job))).items():
        if before.get(name) != value:
            what = f"another {name}" if name in ("items", "model") else _shown(name, before)
            raise LengthwiseError(
                f"{out}: belongs to {what}; name another file for this job, or add --force to "
                "begin it anew"
            )


def _shown(name: str, job: Mapping[str, Any]) -> str:
    said = str(job.get(name))
    return f"{name} {said[:60]!r}" + ("..." if len(said) > 60 else "")


class Results(HoldsLines):
    """OUT: what is done of a job, and where more is added.

    out: its path. done: numbers of the items with a label, from 0, and what was found of them.
    """

    def __init__(
        self, out: Path, job: Mapping[str, Any], items: Seq[Item], force: bool = False
    ) -> None:
        """Opens OUT, or begins it.

        Args:
            out: its path.
            job: what decides the labels, by names that a message may show.
            items: all of them.
            force: begin anew, whatever lies there.

        Raises:
            LengthwiseError: as in `require_ours`, and for a damaged line.
        """
        if not force:
            require_ours(out, job)
        self.out, self._items = out, items
        self.done: dict[int, Labelled] = {}
        self._lines = AppendedLines(out, "labelling job")
        try:
            if force:
                self._lines.clear()
            for number, raw in self._lines.lines():
                self._note(number, raw)
            if not self.done:
                self._write_manifest(job)
        except BaseException:
            self._lines.close()
            raise

    def _note(self, number: int, raw: bytes) -> None:
        try:
            row = json.loads(raw)
            item = int(row["item"]) - 1
            self._items[item]
            self.done[item] = Labelled(
                item, row["label"], dict(row["votes"]), int(row["rounds"]), bool(row["settled"])
            )
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise LengthwiseError(
                f"{self.out}: line {number} is damaged ({error!r}); delete it, and its item is "
                "labelled again"
            ) from error

    def _write_manifest(self, job: Mapping[str, Any]) -> None:
        kept = {"format": FORMAT, "version": VERSION, "library": __version__, "job": dict(job)}
        with write_aside(manifest_of(self.out), sync=True) as aside:
            aside.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")

    def add(self, found: Labelled) -> None:
        """Adds an item that is done.

        Args:
            found: with its label.
        """
        self._lines.add(row_of(found, self._items[found.item]))
        self.done[found.item] = found


def row_of(found: Labelled, item: Item) -> dict[str, Any]:
    """A line of OUT.

    Args:
        found: an item with its label.
        item: as it was read.
    """
    return {
        "item": found.item + 1, "id": item.id, "label": found.label, "votes": found.votes,
        "rounds": found.rounds, "settled": found.settled, "text": item.text,
    }  # fmt: skip


__all__ = ["LABELS", "Results", "manifest_of", "require_ours", "row_of"]
