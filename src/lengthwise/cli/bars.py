"""The bar that a verb which takes a while draws on standard error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Drawn,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lengthwise._utils.progress import Progress

Thing = TypeVar("Thing")


def _usual() -> tuple[ProgressColumn, ...]:
    """Rich's own columns, but that text in brackets is text: a recipe may hold some."""
    return (
        TextColumn("{task.description}", "progress.description", markup=False), BarColumn(),
        TaskProgressColumn(), TimeRemainingColumn(),
    )  # fmt: skip


class Bar(Progress):
    """A bar while a `with` block lasts, where standard error is a terminal; notes stand above it.

    columns: of rich; without any its own. quiet: says nothing at all. fields: first values of what
    columns show beside a stage's name and its size.
    """

    def __init__(self, *columns: ProgressColumn, quiet: bool = False, **fields: Any) -> None:
        self.console = Console(markup=False, stderr=True, quiet=quiet)
        self._drawn = Drawn(
            *(columns or _usual()),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._fields = fields
        self._task = self._drawn.add_task("", total=None, **fields)

    def __enter__(self) -> Self:
        self._drawn.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def shown(self) -> bool:
        """Whether the bar is drawn, on a terminal."""
        return self._drawn.live.is_started

    def stop(self) -> None:
        """The bar goes."""
        self._drawn.stop()

    def stage(self, name: str, total: int, unit: str) -> None:
        self._drawn.reset(self._task, description=name, total=total or None, **self._fields)

    def advance(self, done: int, tokens: int = 0) -> None:
        self._drawn.advance(self._task, done)

    def reached(self, done: int, total: int, **fields: Any) -> None:
        """`done` of `total` units in all."""
        self._drawn.update(self._task, completed=done, total=total, **fields)

    def track(self, things: Sequence[Thing], name: str, unit: str) -> Iterator[Thing]:
        """Things one by one, as a stage."""
        self.stage(name, len(things), unit)
        for thing in things:
            yield thing
            self.advance(1)

    def note(self, text: str) -> None:
        self.console.print(text, style="dim", highlight=False, soft_wrap=True, markup=False)


class SampleBar(Bar):
    """A bar that counts what is done of a stage, such as samples."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(),
        )  # fmt: skip


__all__ = ["Bar", "SampleBar"]
