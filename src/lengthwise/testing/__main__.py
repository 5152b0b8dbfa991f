"""`python -m lengthwise.testing`: the laws for methods, or what goes with what."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lengthwise._utils.files import write_text
from lengthwise.errors import LengthwiseError
from lengthwise.recipes.registry import methods
from lengthwise.testing.find_class import method_at
from lengthwise.testing.laws import FAMILIES
from lengthwise.testing.report import check_method


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME | MODULE:CLASS | PATH.py:CLASS]...")
@click.option("--write", "path", type=click.Path(path_type=Path), help="Measure all, into here.")
@click.option("--family", "families", multiple=True, default=FAMILIES, show_default=True,
              type=click.Choice(FAMILIES))  # fmt: skip
def main(names: tuple[str, ...], path: Path | None, families: tuple[str, ...]) -> None:
    """Check methods (all that are registered where none is given), or measure what goes
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
    from lengthwise.testing.matrix import measure

    text = measure(lambda what: click.echo(what, err=True)).dump()
    write_text(path, text)


if __name__ == "__main__":
    main()
