"""`python -m lengthwise.conformance`: the laws for methods, or what goes with what."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lengthwise.conformance.laws import FAMILIES, ConformanceError, check_method
from lengthwise.errors import LengthwiseError
from lengthwise.methods.registry import methods


@click.command()
@click.argument("names", nargs=-1)
@click.option("--write", "path", type=click.Path(path_type=Path), help="Measure all, into here.")
@click.option("--family", "families", multiple=True, default=FAMILIES, show_default=True)
def main(names: tuple[str, ...], path: Path | None, families: tuple[str, ...]) -> None:
    """Check the methods NAMES (all where none is given), or measure what goes with what."""
    try:
        if path is not None:
            _write(path)
            return
        for name in names or methods():
            refused = check_method(name, families)
            click.echo(f"{name}: conforms" + "".join(f"\n  refused on {line}" for line in refused))
    except (ConformanceError, LengthwiseError) as error:
        click.echo(error, err=True)
        sys.exit(1)


def _write(path: Path) -> None:
    from lengthwise.conformance.matrix import measure

    text = measure(lambda what: click.echo(what, err=True)).dump()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
