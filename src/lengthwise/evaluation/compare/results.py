"""What `compare` returns: rows that show themselves as text, as a table and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from rich.console import RenderableType

from lengthwise._utils.files import write_text
from lengthwise._utils.outputs import REPORT, Output, check_outputs
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.rows import CompareRows
from lengthwise.evaluation.reports.html import page
from lengthwise.evaluation.reports.notebook import as_frame, as_text
from lengthwise.evaluation.reports.table import report


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(CompareRows):
    """The rows of one run with their reports; the fields are those of `Rows`.

    An interpreter prints the table, a notebook shows the page.
    """

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_frame(self.to_html())

    def to_html(
        self,
        path: str | PathLike[str] | None = None,
        title: str = "lengthwise compare",
        origin: Origin | None = None,
        force: bool = False,
    ) -> str:
        """The report as one self-contained HTML page.

        Args:
            path: a file that the page is also written to.
            title: of the page.
            origin: machine, versions and command; None takes the run's own.
            force: overwrite a file that is no report of ours.

        Returns:
            The page as text.

        Raises:
            LengthwiseError: for a file there that is no report of ours, and where nothing can be
                written.
        """
        text = page(self, title=title, origin=origin or self.origin)
        if path is not None:
            place = Path(path)
            if place.is_file() and not force and not REPORT.ours(place):
                raise LengthwiseError(
                    f"to_html: {place} is no report of lengthwise: name another file, or give "
                    "force=True to overwrite it"
                )
            check_outputs([Output("to_html", place, REPORT)], force=True)
            write_text(place, text)
        return text

    def table(self, full: bool = False) -> RenderableType:
        """The report for a terminal.

        Args:
            full: print whole answers, the beginnings that they share included.

        Returns:
            What a rich Console prints. `evaluation.reports.table.show` prints it at a width that
            also reads well in a file.
        """
        return report(self, full=full)
