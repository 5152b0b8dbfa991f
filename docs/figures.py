"""Fills tables of pages from the results of their checks; run by `make docs`.

A page of docs or docs/reproduction has its tables between two lines:

    <!-- figures: codecs/kivi -->
    <!-- end -->

names a file in benchmarks/reproduction/results, with the table behind it where it is not called as
the file is, and a colon and the rows to take where it is not all:

    <!-- figures: codecs/think pairs -->
    <!-- figures: positions/extension: full | pi(factor=2) -->

`--check` only tells whether the pages are what the results give, for the tests.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.reproduction import tables  # noqa: E402

HERE = Path(__file__).parent
PAGES = [*sorted(HERE.glob("*.md")), *sorted(HERE.glob("reproduction/*.md"))]
BLOCK = re.compile(
    r"^<!-- figures: (?P<file>[\w/]+)(?: (?P<table>[\w.]+))?(?:: (?P<rows>.+?))? -->\n"
    r".*?^<!-- end -->$",
    re.M | re.S,
)


def filled(page: Path) -> str:
    """The page with every table as its results give it. Raises LookupError, naming the page, where
    results are not there."""

    def block(match: re.Match[str]) -> str:
        first = match[0].split("\n", 1)[0]
        try:
            found = tables.read(tables.RESULTS / f"{match['file']}.json")
            chosen = found[match["table"] or match["file"].rpartition("/")[2]]
            only = [row.strip() for row in (match["rows"] or "").split(" | ") if row.strip()]
            parts = [first, tables.table(chosen, only), tables.origin_line(chosen["origin"])]
        except KeyError as error:
            raise LookupError(f"{page.name}: {first}: there is no {error}") from error
        return "\n\n".join([*(part for part in parts if part), "<!-- end -->"])

    return BLOCK.sub(block, page.read_text(encoding="utf-8"))


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for page in PAGES:
        text = filled(page)
        if text != page.read_text(encoding="utf-8"):
            stale.append(page.name)
            if not check:
                page.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"run `make docs`: {', '.join(stale)} differ from their results", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
