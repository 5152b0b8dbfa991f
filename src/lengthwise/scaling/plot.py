"""A fit as a picture: the curve through the rows where one input varies, else predicted against
observed; below it what is left over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise._utils.files import write_aside
from lengthwise._utils.outputs import picture_metadata
from lengthwise.scaling.fit import Fit
from lengthwise.scaling.law import Array, ScalingError, find_law
from lengthwise.scaling.predict import over_draws

FORMATS = ("pdf", "png", "svg")


def check_plot(path: Path) -> None:
    """Refuses a file that `plot_fit` could not write, before any fitting is done."""
    if path.suffix.lstrip(".") not in FORMATS:
        raise ScalingError(f"--out {path}: a plot ends in {', '.join('.' + f for f in FORMATS)}")
    if path.is_dir():
        raise ScalingError(f"--out {path}: this is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise ScalingError(f"--out {path}: there is no folder {path.parent}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ScalingError("plots need matplotlib: pip install 'lengthwise[scaling]'") from None


def plot_fit(fit: Fit, columns: Mapping[str, Array], path: Path) -> None:
    """Writes the picture of a fit to its rows, columns `[rows]`, as PNG, SVG or PDF."""
    check_plot(path)
    from matplotlib.figure import Figure

    law = find_law(fit.law)
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 1))
    inputs = {name: columns[name] for name in law.inputs}
    observed = columns[law.output[0]]
    predicted = law.evaluate(inputs, fit.values, log=False)
    if len(inputs) == 1:
        _curve(above, fit, inputs, observed)
    else:
        _against(above, law.output[0], observed, predicted)
    above.set_title(f"{fit.law}: {law.equation}", fontsize=9)
    first = next(iter(inputs))
    relative = fit.objective.log
    below.axhline(0, color="0.6", linewidth=1)
    below.plot(inputs[first], np.log(predicted / observed) if relative else predicted - observed,
               "o", markersize=3)  # fmt: skip
    for axes in (above, below) if len(inputs) == 1 else (below,):
        if inputs[first].max() > 10 * inputs[first].min():
            axes.set_xscale("log")
    below.set_xlabel(f"{first}: {law.inputs[first]}")
    below.set_ylabel("log predicted / observed" if relative else "predicted - observed", fontsize=8)
    with write_aside(path) as place:
        figure.savefig(place, dpi=150, metadata=picture_metadata(path), format=path.suffix[1:])


def _curve(axes: Any, fit: Fit, inputs: Mapping[str, Array], observed: Array) -> None:
    law = find_law(fit.law)
    ((name, column),) = inputs.items()
    line = np.geomspace(column.min(), column.max(), 200)
    if fit.draws:
        low, high = over_draws(law, fit, {name: line})
        axes.fill_between(line, low, high, alpha=0.25, label=f"{fit.level:.0%} interval")
    axes.plot(line, law.evaluate({name: line}, fit.values, log=False), label="fit")
    axes.plot(column, observed, "o", markersize=4, color="black", label="rows")
    if law.logarithmic:
        axes.set_yscale("log")
    axes.set_ylabel(f"{law.output[0]}: {law.output[1]}", fontsize=8)
    axes.legend()


def _against(axes: Any, name: str, observed: Array, predicted: Array) -> None:
    ends = [min(observed.min(), predicted.min()), max(observed.max(), predicted.max())]
    axes.plot(ends, ends, color="0.6", linewidth=1)
    axes.plot(observed, predicted, "o", markersize=4)
    axes.set_xlabel(f"{name} observed")
    axes.set_ylabel(f"{name} predicted")
