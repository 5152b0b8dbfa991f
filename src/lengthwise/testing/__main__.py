"""`python -m lengthwise.testing`: the laws for methods, or the page of what goes with what."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lengthwise.errors import LengthwiseError
from lengthwise.methods.registry import methods
from lengthwise.testing.find_class import method_at
from lengthwise.testing.laws import FAMILIES
from lengthwise.testing.report import check_method


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME | MODULE:CLASS | PATH.py:CLASS]...")
@click.option("--write", "path", type=click.Path(path_type=Path), help="Write the page here.")
@click.option("--family", "families", multiple=True, default=FAMILIES, show_default=True,
              type=click.Choice(FAMILIES))  # fmt: skip
def main(names: tuple[str, ...], path: Path | None, families: tuple[str, ...]) -> None:
    """Check methods (all that are registered where none is given), or write the page of what goes
    with what. The exit status is 1 where a check failed, or a method named here was not checked."""
    try:
        if path is not None:
            _write(path)
            return
        reports = []
        for cls in [method_at(name) for name in names] or list(methods().values()):
            reports.append(check_method(cls, families))
            click.echo(reports[-1])
    except LengthwiseError as error:
        click.echo(error, err=True)
        sys.exit(1)
    unchecked = names and not all(report.checked for report in reports)
    sys.exit(1 if unchecked or not all(report.ok for report in reports) else 0)


def _write(path: Path) -> None:
    from lengthwise.testing.matrix import page

    text = page(lambda what: click.echo(what, err=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
