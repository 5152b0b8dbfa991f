"""The files of a batch job, in OpenAI's batch format.

IN holds a request a line: `{"custom_id": ..., "method": "POST", "url": "/v1/chat/completions",
"body": {...}}`. OUT gets a line for each as it is done: `{"id", "custom_id", "response":
{"status_code", "request_id", "body"}, "error"}`, on the disk before the next. A manifest beside OUT
says which IN, model and recipe it belongs to, so that the same command goes on after a crash.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise._utils.appended import AppendedLines, HoldsLines
from lengthwise._utils.files import write_aside
from lengthwise._utils.outputs import Kind
from lengthwise._utils.version import __version__
from lengthwise.errors import LengthwiseError

FORMAT, VERSION = "lengthwise batch", 1
URLS = ("/v1/chat/completions", "/v1/completions")
# How every line of OUT begins, which tells a torn line from somebody's notes.
_START = '{"id": "batch_req_'
# Line numbers that a message names.
_NAMED = 5


class BatchError(LengthwiseError):
    """A batch job cannot begin, or go on: why, and what to do."""


@dataclass(frozen=True)
class Line:
    """A line of IN. number: from 1. url, body: of the request.

    error: code and message of a line that holds no request; None where it does.
    """

    number: int
    custom_id: str | None
    url: str = ""
    body: Mapping[str, Any] | None = None
    error: tuple[str, str] | None = None

    @property
    def key(self) -> str | int:
        """What tells its result from others in OUT."""
        return self.number if self.custom_id is None else self.custom_id


def read_lines(path: Path) -> tuple[list[Line], str]:
    """Every line of IN that is not blank, and the sha256 of the file.

    Args:
        path: of IN.

    Returns:
        The lines, those that are no requests with their error, and the digest.

    Raises:
        BatchError: for a file that cannot be read, one without lines, and custom_ids that several
            lines have, with the numbers of the lines.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BatchError(f"{path}: cannot be read ({error.strerror or error})") from error
    rows = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    lines = [_line(n, row) for n, row in enumerate(rows, 1) if row.strip()]
    if not lines:
        raise BatchError(
            f"{path}: holds no request; write one JSON object a line, with custom_id, method, url "
            "and body"
        )
    _refuse_duplicates(path, lines)
    return lines, hashlib.sha256(raw).hexdigest()


def _refuse_duplicates(path: Path, lines: Seq[Line]) -> None:
    found: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        if line.custom_id is not None:
            found[line.custom_id].append(line.number)
    several = [(name, numbers) for name, numbers in found.items() if len(numbers) > 1]
    if several:
        name, numbers = several[0]
        shown = ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")
        more = f" (and {len(several) - 1} other custom_ids)" if len(several) > 1 else ""
        raise BatchError(
            f"{path}: custom_id {name!r} stands on lines {shown}{more}; give every request its own"
        )


def _line(number: int, raw: bytes) -> Line:
    """A request, or what is wrong with the line."""
    try:
        found: Any = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        return Line(number, None, error=("invalid_json_line", f"line {number} is no JSON: {error}"))
    if not isinstance(found, dict):
        said = f"line {number} is no JSON object"
        return Line(number, None, error=("invalid_json_line", said))
    name = found.get("custom_id")
    if not isinstance(name, str) or not name:
        said = f"line {number} has no custom_id; give a text that no other line has"
        return Line(number, None, error=("missing_required_parameter", said))
    url, body = found.get("url"), found.get("body")
    if found.get("method", "POST") != "POST":
        said = f"method is {found['method']!r}; allowed is POST"
        return Line(number, name, error=("invalid_method", said))
    if url not in URLS:
        said = f"url is {url!r}; allowed are {' and '.join(URLS)}"
        return Line(number, name, error=("invalid_url", said))
    if not isinstance(body, dict):
        said = "body is no JSON object; give what would be sent to the url"
        return Line(number, name, error=("missing_required_parameter", said))
    return Line(number, name, url, body)


@dataclass(frozen=True)
class Manifest:
    """What an OUT belongs to. source: the sha256 of IN. model: its fingerprint."""

    source: str
    model: str
    dtype: str
    recipe: str

    @property
    def mark(self) -> str:
        """A short name of the job, from which the ids of its results are made."""
        said = json.dumps([self.source, self.model, self.dtype, self.recipe])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def manifest_of(out: Path) -> Path:
    """Where the manifest of an OUT lies.

    Args:
        out: its path.
    """
    return out.with_name(f"{out.name}.manifest.json")


def _read_manifest(out: Path) -> Manifest | None:
    try:
        found: Any = json.loads(manifest_of(out).read_text(encoding="utf-8"))
        if found["format"] != FORMAT or found["version"] != VERSION:
            return None
        return Manifest(*(str(found[name]) for name in ("source", "model", "dtype", "recipe")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_output(path: Path) -> bool:
    if _read_manifest(path) is None:
        return False
    with path.open("rb") as file:
        begun = file.read(len(_START))
    return _START.encode().startswith(begun)


OUTPUT = Kind("batch output", _is_output)


class Results(HoldsLines):
    """OUT: what is done of a job, and where more is added line by line.

    done: the keys of lines that have a result. given: tokens that requests have given, by the
    custom_id, for those that ended well.
    """

    def __init__(self, out: Path, manifest: Manifest, force: bool = False) -> None:
        self._out, self._manifest = out, manifest
        self.done: set[str | int] = set()
        self.given: dict[str, int] = {}
        try:
            self._require_ours()
        except BatchError:
            if not force:
                raise
            out.unlink()
        self._lines = AppendedLines(out, "batch job", BatchError)
        try:
            # A last line that a crash has torn is cut off.
            for number, raw in self._lines.lines():
                self._note(number, raw)
        except BaseException:
            self._lines.close()
            raise
        if not self.done:
            self._write_manifest()

    def _require_ours(self) -> None:
        """Refuses an OUT that is another job's."""
        out = self._out
        if not out.exists() or not out.stat().st_size:
            return
        before = _read_manifest(out)
        if before is None or not _is_output(out):
            raise BatchError(
                f"{out}: a file that is no batch output of lengthwise lies there: name another "
                "one, or add --force to overwrite it"
            )
        told = {"source": "another input file", "model": "another model", "dtype": "another dtype",
                "recipe": f"the recipe {before.recipe!r}"}  # fmt: skip
        for name, what in told.items():
            if getattr(before, name) != getattr(self._manifest, name):
                raise BatchError(
                    f"{out}: belongs to {what}; name another file for this job, or add --force to "
                    "begin it anew"
                )

    def _note(self, number: int, raw: bytes) -> None:
        try:
            found: Any = json.loads(raw)
            name, error = found["custom_id"], found["error"]
            self.done.add(int(error["line"]) if name is None else str(name))
            if found["response"] is not None and found["response"]["status_code"] == 200:
                usage = found["response"]["body"]["usage"]
                self.given[str(name)] = int(usage["completion_tokens"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BatchError(
                f"{self._out}: line {number} is damaged ({error!r}); delete it, and its request "
                "is run again"
            ) from error

    def _write_manifest(self) -> None:
        kept = {"format": FORMAT, "version": VERSION, "library": __version__}
        with write_aside(manifest_of(self._out), sync=True) as aside:
            text = json.dumps({**kept, **vars(self._manifest)}, indent=1)
            aside.write_text(text + "\n", encoding="utf-8")

    def request_id(self, line: Line) -> str:
        """The id of a request, the same whenever it is run.

        Args:
            line: of the request.
        """
        said = f"{self._manifest.mark}/{line.key!r}"
        return hashlib.sha256(said.encode()).hexdigest()[:24]

    def add_body(self, line: Line, status: int, body: Mapping[str, Any]) -> None:
        """Adds what a request gave, or the body that says why it was refused.

        Args:
            line: of the request.
            status: as of HTTP: 200 for an answer.
            body: as the url would have sent it.
        """
        response = {"status_code": status, "request_id": f"req_{self.request_id(line)}"}
        self._add(line, {**response, "body": dict(body)}, None)

    def add_error(self, line: Line, code: str, message: str) -> None:
        """Adds why a line held no request.

        Args:
            line: of IN.
            code: as OpenAI's batches have them, `invalid_json_line` for instance.
            message: what is wrong, and what is allowed.
        """
        self._add(line, None, {"code": code, "message": message, "line": line.number})

    def _add(self, line: Line, response: Any, error: Any) -> None:
        row = {"id": f"batch_req_{self.request_id(line)}", "custom_id": line.custom_id,
               "response": response, "error": error}  # fmt: skip
        self._lines.add(row)
        self.done.add(line.key)


__all__ = ["OUTPUT", "URLS", "BatchError", "Line", "Manifest", "Results", "manifest_of",
           "read_lines"]  # fmt: skip
