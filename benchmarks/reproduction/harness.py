"""What a check of a reproduction page needs, and what runs it.

    python -m benchmarks.reproduction QUESTION/METHOD [CHECK] [--options] [--json FILE]
    python -m benchmarks.reproduction --list

A file `<question>/<method>.py` holds one check or several, each a function that yields rows:

    @check({"recipe": "", "loss": ".3f"})
    def kivi(bits: int = 4) -> Iterator[Found]:
        yield {"recipe": f"kivi(bits={bits})", "loss": ...}

The columns are those of the page's table, with the format of their floats. A check of several
tables names them, `@check({...}, by_position={...})`, and yields `("by_position", {...})` for all
but the first; `Note({...})` is for figures of the page's text. Parameters are the options of the
command: numbers, texts, paths, and tuples of these. Without CHECK the one runs that is called as
the file is, or else the first. Rows are shown as they come; at the end the tables are printed, and
written to results/QUESTION/METHOD.json with machine, versions, commit and command.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import inspect
import json
import shlex
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import lengthwise
from benchmarks.reproduction import tables
from benchmarks.reproduction.tables import Columns
from lengthwise.api.model import Model
from lengthwise.documents.files import read_document
from lengthwise.engine.plan import FULL, Plan
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.methods.base import Method
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.reproduction"
Row = dict[str, Any]


class Note(dict[str, Any]):
    """Figures that stand in the text of a page and not in its table."""


Found = Row | tuple[str, Row] | Note


@dataclass(frozen=True)
class Check:
    """A function that yields what it finds, and the columns of its tables, the first one first."""

    run: Callable[..., Iterable[Found]]
    tables: dict[str, Columns]

    @property
    def name(self) -> str:
        return next(iter(self.tables))

    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(self.run, eval_str=True).parameters)


def check(columns: Columns, **more: Columns) -> Callable[[Callable[..., Iterable[Found]]], Check]:
    """Makes a function a check. Its own name is that of the first table; others are NAME.OTHER."""

    def made(run: Callable[..., Iterable[Found]]) -> Check:
        name = run.__name__
        others = {f"{name}.{other}": dict(found) for other, found in more.items()}
        return Check(run, {name: dict(columns), **others})

    return made


@cache
def load(dtype: str | None = None) -> Model:
    """The embedded model, loaded once; dtype None is what the machine is fast at."""
    return lengthwise.load(dtype=dtype)


def encode(model: Model, text: str) -> list[int]:
    """Token ids of a text as it stands, without special tokens."""
    assert model.tokenizer is not None
    return list(model.tokenizer.encode(text, add_special_tokens=False))


@cache
def reference(model: Model) -> list[int]:
    """Token ids of the default document, Python's language reference."""
    return encode(model, read_document().text)


@dataclass(frozen=True)
class Workbench:
    """A loaded model and what checks over the default document ask of it."""

    loaded: Model

    @property
    def model(self) -> AdaptedModel:
        return self.loaded.adapted

    def document(self) -> list[int]:
        return reference(self.loaded)

    def plan(self, method: Method | None) -> Plan:
        return FULL if method is None else resolve([method], self.model)


def methods() -> list[str]:
    """QUESTION/METHOD of every file that has checks."""
    paths = sorted(HERE.glob("*/*.py"))
    names = [f"{path.parent.name}/{path.stem}" for path in paths]
    return [name for name in names if "@check(" in (HERE / f"{name}.py").read_text("utf-8")]


def checks_of(name: str) -> dict[str, Check]:
    """The checks of QUESTION/METHOD by name, in the order they are written in."""
    module: ModuleType = importlib.import_module(f"{__package__}.{name.replace('/', '.')}")
    found = [each for each in vars(module).values() if isinstance(each, Check)]
    return {each.name: each for each in found if each.run.__module__ == module.__name__}


def run(found: Check, origin: dict[str, Any], **options: Any) -> dict[str, tables.Table]:
    """Runs a check; its tables as a file holds them. Raises ValueError for a row that fits none."""
    made: dict[str, tables.Table] = {
        name: {"origin": origin, "columns": columns, "rows": [], "notes": {}}
        for name, columns in found.tables.items()
    }
    for each in found.run(**options):
        if isinstance(each, Note):
            made[found.name]["notes"].update(each)
            print(json.dumps(each, ensure_ascii=False), file=sys.stderr, flush=True)
            continue
        name, row = each if isinstance(each, tuple) else ("", each)
        place = f"{found.name}.{name}" if name else found.name
        strange = [column for column in row if column not in found.tables[place]]
        if strange:
            raise ValueError(f"{place}: a row has {', '.join(strange)}, which is no column")
        made[place]["rows"].append(row)
        print(json.dumps(row, ensure_ascii=False), file=sys.stderr, flush=True)
    return made


def parser(name: str, found: Check) -> argparse.ArgumentParser:
    """The command line of a check."""
    about = (inspect.getdoc(found.run) or "").split("\n\n")[0]
    made = argparse.ArgumentParser(prog=f"{COMMAND} {name} {found.name}", description=about)
    for parameter in found.parameters().values():
        kind, many = _kind(parameter.annotation)
        needed = parameter.default is inspect.Parameter.empty
        made.add_argument(
            f"--{parameter.name.replace('_', '-')}", type=kind, nargs="+" if many else None,
            required=needed, default=None if needed else parameter.default,
            help=None if needed else f"default: {parameter.default}",
        )  # fmt: skip
    made.add_argument("--json", type=Path, help="the file to write, in place of that in results/")
    return made


def _kind(annotation: Any) -> tuple[Callable[[str], Any], bool]:
    """What makes a value of a text, and whether there may be several."""
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def listing() -> str:
    """A line a check: what to type, and its options."""
    lines = []
    for name in methods():
        for each in checks_of(name).values():
            usage = [
                f"--{p.name.replace('_', '-')}{'' if p.default is p.empty else '?'}"
                for p in each.parameters().values()
            ]
            lines.append(" ".join([name, each.name, *usage]))
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Runs what the command line asks for; the exit status."""
    if list(arguments) == ["--list"]:
        print(listing())
        return 0
    if not arguments or arguments[0] not in methods():
        print(f"name one of: {', '.join(methods())}", file=sys.stderr)
        return 2
    name, *rest = arguments
    known = checks_of(name)
    own = name.rpartition("/")[2]
    first = own if own in known else next(iter(known))
    chosen = rest.pop(0) if rest and not rest[0].startswith("-") else first
    if chosen not in known:
        print(f"{name} has no check {chosen!r}: name one of {', '.join(known)}", file=sys.stderr)
        return 2
    options = vars(parser(name, known[chosen]).parse_args(rest))
    path = options.pop("json") or tables.RESULTS / f"{name}.json"
    many = {key: tuple(value) for key, value in options.items() if isinstance(value, list)}
    made = run(known[chosen], {}, **(options | many))
    origin = _origin(shlex.join([*COMMAND.split(), *_kept(arguments)]))
    for each in made.values():
        each["origin"] = origin
    tables.write(path, made)
    for title, each in made.items():
        print(f"{title}\n\n{tables.table(each)}\n")
    print(f"written to {path}", file=sys.stderr)
    return 0


def _kept(arguments: Sequence[str]) -> list[str]:
    """The arguments but for where the file is written, and for where folders lie here."""
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--json")
    given = known.parse_known_args(arguments)[1]
    return ["FOLDER" if Path(each).is_absolute() else each for each in given]


def _origin(command: str) -> dict[str, Any]:
    """Machine, versions, commit and command of what this process has measured."""
    here = Origin.here(command)
    return {
        "date": datetime.date.today().isoformat(), "machine": dict(here.machine),
        "versions": dict(here.versions), "commit": here.commit, "command": here.command,
    }  # fmt: skip


__all__ = ["Check", "Found", "Note", "Row", "check", "encode", "load", "reference"]
