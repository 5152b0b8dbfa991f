"""`lengthwise scaling`: fit the published scaling laws to your runs, predict, and check them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lengthwise.cli.arguments import NATURAL, WHOLE, Place, Real, force_option

if TYPE_CHECKING:
    from lengthwise.scaling.fit import Fit
    from lengthwise.scaling.law import Law


@click.group()
def scaling() -> None:
    """Fit the published scaling laws to your runs, predict the next run, recompute the papers."""


@scaling.command()
@click.argument("name", required=False)
def laws(name: str | None) -> None:
    """List every law, or describe the law NAME with its parameters and published constants."""
    from lengthwise.scaling import LAWS, find_law

    if name is None:
        for each in LAWS.entries():
            if each.value is None:
                click.echo(f"{each.name} of {each.package} cannot be used: {each.error}")
            else:
                click.echo(f"{each.name}\n    {each.value.equation}\n    {each.value.paper}")
        return
    law = find_law(name)
    click.echo(f"{law.doc}\n\n{law.paper}\n\ncolumns")
    for column, meaning in (*law.inputs.items(), law.output):
        click.echo(f"  {column}: {meaning}")
    click.echo(f"\nparameters: {', '.join(law.names)}")
    for which, constants in law.constants.items():
        shown = ", ".join(f"{key} {value:g}" for key, value in constants.values.items())
        click.echo(f"  paper:{which}: {shown} ({constants.origin})")
    if law.solver is not None:
        given = ", ".join((*law.solver.needs, *(f"[{each}]" for each in law.solver.optional)))
        click.echo(f"\nsolve: {law.solver.answers}; give {given}")


@scaling.command()
@click.argument("data", nargs=-1, required=True, type=Place())
@click.option("--law", "name", required=True, help="a name that `lengthwise scaling laws` lists")
@click.option("--column", "-c", "columns", multiple=True, metavar="NAME=COLUMN",
              help="the file's column for a name of the law; may be repeated")  # fmt: skip
@click.option("--last", is_flag=True, help="use only the last row of each file")
@click.option(
    "--delta", default="1e-3", show_default=True,
    help="residual beyond which a row pulls with constant force; inf: plain squares",
)  # fmt: skip
@click.option(
    "--residual", type=click.Choice(["log", "linear"]),
    help="of logarithms or of values (default: log, if the law cannot be negative)",
)  # fmt: skip
@click.option("--bootstrap", default=1000, show_default=True, type=WHOLE,
              help="resamples for intervals")  # fmt: skip
@click.option("--level", default=0.95, show_default=True,
              type=Real(0, 1, min_open=True, max_open=True),
              help="share that an interval covers")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=NATURAL, help="of the resamples")
@click.option("--out", "-o", type=Place(),
              help="draw the fit to a .png, .svg or .pdf")  # fmt: skip
@click.option("--save", type=Place(), help="keep the fit for `predict`")
@force_option("picture, or fit,")
@click.option("--json", "as_json", is_flag=True, help="print the fit as one JSON object instead")
def fit(
    data: tuple[Path, ...], name: str, columns: tuple[str, ...], last: bool, delta: str,
    residual: str | None, bootstrap: int, level: float, seed: int, out: Path | None,
    save: Path | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Fit a law to the rows of DATA: CSV files, or JSON lines such as training logs."""
    from lengthwise._utils.files import write_text
    from lengthwise._utils.outputs import FIT, PICTURE, Output, check_outputs
    from lengthwise.cli.bars import Bar
    from lengthwise.scaling import Objective, find_law, fit_law, read_table
    from lengthwise.scaling.plot import check_plot, plot_fit

    law = find_law(name)
    check_outputs([Output("--out", out, PICTURE), Output("--save", save, FIT)], data, force)
    if out is not None:
        check_plot(out)
    objective = Objective(
        _number("--delta", delta), law.logarithmic if residual is None else residual == "log"
    )
    rows = read_table(data, law, _pairs("--column", columns), last)
    for note in rows.notes:
        click.echo(note, err=True)
    with Bar() as bar:
        bar.stage(f"resampling {len(rows)} rows", bootstrap, "draws")
        found = fit_law(
            law, rows.columns, objective, bootstrap, level, seed, bar.reached
        )  # fmt: skip
    if save is not None:
        write_text(save, found.to_json() + "\n")
    if out is not None:
        plot_fit(found, rows.columns, out)
    click.echo(found.to_json() if as_json else _report(law, found))


def _report(law: Law, found: Fit) -> str:
    lines = [law.equation]
    for name, value in found.values.items():
        low, high = found.intervals.get(name, (math.nan, math.nan))
        interval = f"   {found.level:.0%}: {low:.4g} to {high:.4g}" if found.intervals else ""
        lines.append(f"  {name} = {value:.6g}{interval}")
    kind = "log" if found.objective.log else "linear"
    lines.append(
        f"{found.rows} rows, {kind} residuals: rms {found.rms:.3g}, largest {found.worst:.3g}, "
        f"R2 {found.r2:.4f}; {found.agreeing} of {found.searches} searches ended here"
    )
    return "\n".join([*lines, *(f"warning: {note}" for note in found.notes)])


def _law_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say which law, with which numbers."""
    for option in (
        click.option("--set", "given", multiple=True, metavar="NAME=VALUE",
                     help="a parameter's value; may be repeated"),
        click.option("--constants", default="paper", show_default=True,
                     help="paper, paper:SET, or a file that `fit --save` wrote"),
        click.option("--law", "name", help="a law's name (default: the fit's)"),
    ):  # fmt: skip
        function = option(function)
    return function


@scaling.command()
@_law_options
@click.option("--at", "points", multiple=True, required=True, metavar="N=7e9,D=2e12",
              help="inputs of one prediction; may be repeated")  # fmt: skip
def predict(
    name: str | None, constants: str, given: tuple[str, ...], points: tuple[str, ...]
) -> None:
    """Predict with a law at given inputs; says where that extrapolates."""
    from lengthwise.scaling import predict as predict_at

    law, values, ranges, fitted, warnings = _constants(name, constants, given)
    # Nothing is printed before every point is found to be right.
    lines = []
    for point in points:
        at = _numbers("--at", point.split(","))
        found = predict_at(law, values, at, ranges, fitted)
        interval = ""
        if found.interval is not None and fitted is not None:
            low, high = found.interval
            interval = f"   {fitted.level:.0%}: {low:.6g} to {high:.6g}"
        lines.append(f"{point}: {law.output[0]} = {found.value:.6g}{interval}")
        warnings += found.warnings
    _print(lines, warnings)


@scaling.command()
@_law_options
@click.option("--at", "point", required=True, metavar="C=1e21", help="what is given")
def solve(name: str | None, constants: str, given: tuple[str, ...], point: str) -> None:
    """Answer a law's question: the best size for a budget, the vocabulary for a size, ..."""
    from lengthwise.scaling.predict import outside, solve as solve_at

    law, values, ranges, fitted, warnings = _constants(name, constants, given)
    at = _numbers("--at", point.split(","))
    found = solve_at(law, values, at)
    known = fitted.ranges if fitted is not None else ranges
    warnings += outside(at | {k: v for k, v in found.items() if k in law.inputs}, known)
    _print([f"{key} = {value:.6g}" for key, value in found.items()], warnings)


@scaling.command()
def check() -> None:
    """Print what the papers claim beside what their constants give."""
    from lengthwise.scaling.checks import table

    click.echo(table())


def _print(lines: list[str], warnings: list[str]) -> None:
    for line in lines:
        click.echo(line)
    for warning in dict.fromkeys(warnings):
        click.echo(f"warning: {warning}", err=True)


def _constants(
    name: str | None, constants: str, given: tuple[str, ...]
) -> tuple[Law, dict[str, float], Mapping[str, tuple[float, float]], Fit | None, list[str]]:
    """The law, its values, the ranges they were fitted on, the fit if a file gave one, and what to
    warn of."""
    from lengthwise.scaling import Fit, ScalingError, find_law

    extra = _numbers("--set", given)
    kind, _, which = constants.partition(":")
    if kind != "paper":
        if not Path(constants).exists():
            sets = find_law(name).constants if name is not None else ("SET",)
            raise ScalingError(
                f"--constants {constants}: there is no such file; published ones are given as "
                f"{', '.join(f'paper:{each}' for each in sets)}"
            )
        fitted = Fit.read(Path(constants))
        if name not in (None, fitted.law):
            raise ScalingError(f"{constants} is a fit of law {fitted.law}, not of {name}")
        if extra:
            raise ScalingError("--set changes the paper's constants, not a fit's")
        return find_law(fitted.law), fitted.values, fitted.ranges, fitted, []
    if name is None:
        raise ScalingError("--law is missing; `lengthwise scaling laws` lists the names")
    law = find_law(name)
    found = law.published(which)
    warnings = [f"these constants are {found.origin}"] if "memory" in found.origin else []
    values = {**found.values, **extra}
    law.check_values(values)
    return law, values, found.ranges, None, warnings


def _pairs(option: str, given: tuple[str, ...] | list[str]) -> dict[str, str]:
    from lengthwise.scaling import ScalingError

    found = {}
    for each in given:
        key, separator, value = each.partition("=")
        if not (separator and key.strip() and value.strip()):
            raise ScalingError(f"{option} {each!r} is not of the form NAME=VALUE")
        if key.strip() in found:
            raise ScalingError(f"{option} gives {key.strip()} twice")
        found[key.strip()] = value.strip()
    return found


def _numbers(option: str, given: tuple[str, ...] | list[str]) -> dict[str, float]:
    return {key: _number(f"{option} {key}", value) for key, value in _pairs(option, given).items()}


def _number(option: str, text: str) -> float:
    from lengthwise.scaling import ScalingError

    try:
        return float(text)
    except ValueError:
        raise ScalingError(f"{option} is {text!r}, which is no number such as 7e9") from None
