"""The parts of a long text that are done, on the disk beside the text they will be.

`OUT.parts.jsonl` begins with the job: instruction, words, model and all that decides what is
written. The plan follows, and then each part, on the disk before the next is begun. When the last
one is there, OUT is written whole, and its digest ends the journal: so it is known for ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lengthwise._utils.appended import AppendedLines, HoldsLines
from lengthwise._utils.files import write_aside
from lengthwise._utils.outputs import Kind
from lengthwise._utils.version import __version__
from lengthwise.errors import LengthwiseError
from lengthwise.workflows.agentwrite import Plan, WrittenPart, joined_parts
from lengthwise.workflows.writing_plan import Part

FORMAT, VERSION = "lengthwise writing", 1


def journal_of(out: Path) -> Path:
    """Where the parts of a text are kept.

    Args:
        out: where the text will be.
    """
    return out.with_name(f"{out.name}.parts.jsonl")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _rows(path: Path) -> list[Any]:
    """What a journal holds; nothing where it is none."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        rows: list[Any] = [json.loads(line) for line in lines]
        if rows and (rows[0]["format"], rows[0]["version"]) == (FORMAT, VERSION):
            return rows
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return []


def _is_text(path: Path) -> bool:
    """Whether a file is a text that a journal beside it ends with, or that one began over."""
    rows = _rows(journal_of(path))
    known = {rows[0].get("over"), rows[-1].get("done")} if rows else set()
    return _digest(path.read_bytes()) in known


LONG_TEXT = Kind("long text", _is_text)


class Journal(HoldsLines):
    """What is done of a text, and where more is added.

    out: where the text will be. plan: None until there is one. parts: that are done. ended: whether
    OUT is written.
    """

    def __init__(self, out: Path, job: Mapping[str, Any], force: bool = False) -> None:
        """Opens a journal, or begins one.

        Args:
            out: where the text will be.
            job: what decides what is written, by names that a message may show.
            force: another job's, or what is no journal, is begun anew, and a finished one too.

        Raises:
            LengthwiseError: for another job's, and for what is none.
        """
        self.out, self._job = out, json.loads(json.dumps(dict(job)))
        self.plan: Plan | None = None
        self.parts: list[WrittenPart] = []
        self.ended = False
        path = journal_of(out)
        if not force:
            self.require_ours(out, job)
        self._lines = AppendedLines(path, "writer")
        try:
            if force:
                self._lines.clear()
            for number, raw in self._lines.lines():
                self._note(number, raw)
            if not path.stat().st_size:
                over = _digest(out.read_bytes()) if out.is_file() else None
                self._lines.add({"format": FORMAT, "version": VERSION, "library": __version__,
                                 "over": over, "job": self._job})  # fmt: skip
        except BaseException:
            self._lines.close()
            raise

    @staticmethod
    def require_ours(out: Path, job: Mapping[str, Any]) -> None:
        """Refuses a journal that is another job's, before there is a model.

        Args:
            out: where the text will be.
            job: as far as it is known; names that are not in it are not compared.

        Raises:
            LengthwiseError: for another job's journal, and a file that is none.
        """
        path = journal_of(out)
        if not path.exists() or (path.is_file() and b"\n" not in path.read_bytes()):
            # Torn before its first line was whole.
            return
        rows = _rows(path)
        if not rows or not isinstance(rows[0].get("job"), dict):
            raise LengthwiseError(
                f"{path}: here the parts of {out.name} are kept, and a file that is no journal of "
                "lengthwise, or a damaged one, lies there: name another output, or add --force to "
                "begin anew"
            )
        before = rows[0]["job"]
        for name, value in json.loads(json.dumps(dict(job))).items():
            if (was := before.get(name)) != value:
                raise LengthwiseError(
                    f"{path}: belongs to {_shown(name, was)}, and {_shown(name, value)} is asked "
                    "for: name another output, or add --force to begin anew"
                )

    def _note(self, number: int, raw: bytes) -> None:
        try:
            row = json.loads(raw)
            if "plan" in row:
                parts = tuple(Part(str(point), int(words)) for point, words in row["plan"])
                self.plan = Plan(parts, tuple(map(str, row["notes"])))
            elif "text" in row:
                self.parts.append(WrittenPart(**row))
            elif "done" in row:
                self.ended = True
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LengthwiseError(
                f"{journal_of(self.out)}: line {number} is damaged ({error!r}): delete it and "
                f"those behind it, and {self.out.name}, and what they held is written again"
            ) from error

    def add_plan(self, plan: Plan) -> None:
        """Keeps the plan.

        Args:
            plan: that the parts follow.
        """
        self.plan = plan
        rows = [[part.point, part.words] for part in plan.parts]
        self._lines.add({"plan": rows, "notes": list(plan.notes)})

    def add_part(self, part: WrittenPart) -> None:
        """Keeps a part.

        Args:
            part: the next one.
        """
        self.parts.append(part)
        self._lines.add(asdict(part))

    def end(self) -> None:
        """Writes OUT of all parts, where it is not there as this journal left it."""
        text = joined_parts([part.text for part in self.parts]).encode()
        if self.ended and self.out.is_file() and self.out.read_bytes() == text:
            return
        with write_aside(self.out, sync=True) as aside:
            aside.write_bytes(text)
            # Known for ours before it has its name: a crash may come between the two.
            self._lines.add({"done": _digest(text)})
        self.ended = True


def _shown(name: str, value: object) -> str:
    said = str(value)
    return f"{name} {said[:60]!r}" + ("..." if len(said) > 60 else "")


__all__ = ["LONG_TEXT", "Journal", "journal_of"]
