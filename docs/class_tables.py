"""Tables of classes: one verdict for two classes, with the exceptions named.

`shown` writes a table as markdown, `read` reads the page docs/compatibility.md back, and `expand`
gives the verdict on every two members. Nothing here needs the package, so the site can use it too.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

ALONE = "alone"
# What was found, and the reason where that is a refusal.
Cell = tuple[str, str]


@dataclass(frozen=True)
class Class:
    """Methods, or families of models, that stand together: a code, what they share, their names."""

    code: str
    words: tuple[str, ...]
    members: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One table: cells by the codes of row and column, and what single pairs got instead."""

    cells: dict[tuple[str, str], Cell]
    exceptions: dict[tuple[str, str], Cell]


def expand(
    table: Table, rows: Sequence[Class], columns: Sequence[Class]
) -> dict[tuple[str, str], Cell]:
    """The verdict on every two members of the classes that the table is about."""
    found = {}
    for a in rows:
        for b in columns:
            for x in a.members:
                for y in b.members:
                    if (a.code, b.code) in table.cells and x != y:
                        found[x, y] = table.cells[a.code, b.code]
    for (x, y), verdict in table.exceptions.items():
        for pair in ((x, y), (y, x)):
            if pair in found:
                found[pair] = verdict
    return found


def usual(
    found: Mapping[tuple[str, str], Cell],
) -> tuple[Cell, dict[tuple[str, str], Cell]]:
    """The verdict that most got, and those that got another."""
    counted = Counter(found.values())
    most = min(counted, key=lambda each: (-counted[each], each))
    return most, {pair: each for pair, each in found.items() if each != most}


def names(each: Sequence[str]) -> str:
    """Names as code."""
    return ", ".join(f"`{name}`" for name in each)


class Reasons:
    """Reasons by number, in the order in which tables give them."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def shown(self, cell: Cell | None) -> str:
        if cell is None:
            return ""
        kind, reason = cell
        return f"{kind} {self.found.setdefault(reason, len(self.found) + 1)}" if reason else kind

    def lines(self) -> list[str]:
        return [f"{number}. {reason}" for reason, number in self.found.items()]


def grid(
    table: Table, rows: Sequence[str], columns: Sequence[str], reasons: Reasons
) -> Iterator[str]:
    """Some rows and columns of a table."""
    yield f"| |{'|'.join(columns)}|"
    yield "|---" * (len(columns) + 1) + "|"
    for row in rows:
        cells = (reasons.shown(table.cells.get((row, column))) for column in columns)
        yield f"|**{row}**|{'|'.join(cells)}|"


def exceptions(table: Table, reasons: Reasons) -> Iterator[str]:
    """What single pairs got instead of what their classes did."""
    together: dict[tuple[str, Cell], list[str]] = defaultdict(list)
    for (a, b), verdict in table.exceptions.items():
        together[a, verdict].append(b)
    for (a, verdict), others in together.items():
        yield f"- `{a}` with {names(others)}: {reasons.shown(verdict)}"


def shown(table: Table, rows: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    """A table with its exceptions and its reasons."""
    reasons = Reasons()
    yield from grid(table, rows, columns, reasons)
    if table.exceptions:
        yield "\nBut:\n"
    yield from exceptions(table, reasons)
    yield from ("", *reasons.lines())


@dataclass(frozen=True)
class Read:
    """What a page says, read back from its text."""

    rows: list[Class]
    families: list[Class]
    absent: dict[str, str]
    pairs: Table
    on_families: Table

    def goes_with(self, name: str) -> list[str]:
        """Lines for the page of one method: with which classes and methods, and why not."""
        if name in self.absent:
            return [f"Nothing was run: {self.absent[name]}."]
        own = {y: cell for (x, y), cell in expand(self.pairs, self.rows, self.rows).items()
               if x == name}  # fmt: skip
        found: dict[Cell, list[str]] = defaultdict(list)
        for each in self.rows:
            cells = {other: own[other] for other in each.members if other in own}
            if len(set(cells.values())) == 1 and len(cells) > 1:
                found[own[next(iter(cells))]].append(f"{each.code} ({names(list(cells))})")
            else:
                for other, cell in cells.items():
                    found[cell].append(f"`{other}`")
        lines = ["| | with |", "|---|---|"]
        for (kind, reason), others in sorted(found.items(), key=lambda item: item[0]):
            lines.append(f"| {kind}{reason and ': ' + reason} | {', '.join(others)} |")
        return [*lines, "", "The letters are [classes of methods](../compatibility.md)."]


def read(text: str) -> Read:
    """The page, back to classes and tables: what a reader can conclude from it."""
    pairs, families = text.split("\n## Methods on families\n")
    absent = dict(re.findall(r"^- `([^`]+)`: (.*)$", pairs, re.M))
    return Read(
        _read_classes(pairs), _read_classes(families), absent, _read_table(pairs),
        _read_table(families),
    )  # fmt: skip


def _read_classes(text: str) -> list[Class]:
    rows = re.findall(r"^\| \*\*(\w+)\*\* \| (.*) \| (.*) \|$", text, re.M)
    return [
        Class(code, tuple(words.split("; ")), tuple(re.findall(r"`([^`]+)`", names)))
        for code, words, names in rows
    ]


def _read_table(text: str) -> Table:
    reasons = dict(re.findall(r"^(\d+)\. (.*)$", text, re.M))

    def verdict(cell: str) -> Cell:
        kind, _, number = cell.partition(" ")
        return kind, reasons[number] if number else ""

    cells, columns = {}, []
    # A line without a row is the head of the lines that follow.
    for row, line in re.findall(r"^\|(?: |\*\*(\w+)\*\*)\|(.*)\|$", text, re.M):
        if not row:
            columns = line.split("|")
            continue
        for column, cell in zip(columns, line.split("|"), strict=True):
            if cell:
                cells[row, column] = verdict(cell)
    exceptions = {
        (name, other): verdict(cell)
        for name, others, cell in re.findall(r"^- `([^`]+)` with (`.*`): (.*)$", text, re.M)
        for other in re.findall(r"`([^`]+)`", others)
    }
    return Table(cells, exceptions)
