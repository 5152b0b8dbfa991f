"""What a scaling law is here: a formula on named columns, the parameters that a fit may move, and
the constants that its paper printed.

A formula takes `x` (the inputs, arrays of one length) and `p` (the parameters) and returns the
prediction. For laws that are sums of positive terms it returns the logarithm of that. Added by
log-sum-exp, such a sum keeps its precision while a search wanders through absurd parameters.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.papers import Paper
from lengthwise._utils.registry import Registry
from lengthwise._utils.suggestions import hint
from lengthwise.errors import LengthwiseError

Array: TypeAlias = NDArray[np.float64]
Formula: TypeAlias = Callable[[Any, Any], Array]


class ScalingError(LengthwiseError):
    """Rows, constants or a question that a scaling law cannot use."""


@dataclass(frozen=True)
class Parameter:
    """A number that a fit may move: where searches start, and where they may not go.

    A positive parameter is searched by its logarithm, since it may span twenty decades.
    """

    name: str
    starts: tuple[float, ...]
    low: float = -math.inf
    high: float = math.inf
    positive: bool = False


@dataclass(frozen=True)
class Constants:
    """Values as printed (possibly not all of them), where they were read, and over which inputs
    they were fitted, where that is known."""

    values: Mapping[str, float]
    origin: str
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Solver:
    """The question that a law is usually asked, answered from its constants.

    `run(at, p)` takes what was given (every name of `needs`, and of `optional` what was given) and
    returns the answers by name.
    """

    answers: str
    needs: Mapping[str, str]
    run: Callable[[Mapping[str, float], Any], dict[str, float]]
    optional: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Law:
    """A published law. `logarithmic` says that the formula returns the prediction's logarithm."""

    name: str
    paper: Paper
    inputs: Mapping[str, str]
    output: tuple[str, str]
    parameters: tuple[Parameter, ...]
    constants: Mapping[str, Constants]
    formula: Formula
    logarithmic: bool
    solver: Solver | None

    @property
    def equation(self) -> str:
        """The formula as text: the first line of its docstring."""
        return self.doc.splitlines()[0]

    @property
    def doc(self) -> str:
        """The formula's docstring: equation, then what is to be known of it."""
        return inspect.getdoc(self.formula) or ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    def evaluate(self, x: Mapping[str, Array], values: Mapping[str, float], log: bool) -> Array:
        """Predictions `[rows]` (their logarithms if `log`) for inputs `[rows]`.

        Args:
            x: inputs by name.
            values: all parameters by name.
            log: whether logarithms are wanted.
        """
        found = self.formula(SimpleNamespace(**x), SimpleNamespace(**values))
        if self.logarithmic:
            return found if log else np.exp(found)
        return np.log(found) if log else found

    def published(self, which: str = "") -> Constants:
        """A named set of published constants, the first one without a name.

        Args:
            which: the name; "" is the first set.

        Raises:
            ScalingError: where there is no set of that name.
        """
        if not which:
            return next(iter(self.constants.values()))
        if which not in self.constants:
            raise ScalingError(
                f"law {self.name} has no constants {which!r}{hint(which, self.constants)}"
            )
        return self.constants[which]

    def check_values(self, values: Mapping[str, float]) -> None:
        """Refuses parameters that the law does not have, and values that they cannot have.

        Args:
            values: some of the parameters, by name.

        Raises:
            ScalingError: for the first that is refused.
        """
        unknown = sorted(set(values) - set(self.names))
        if unknown:
            raise ScalingError(
                f"law {self.name} has no parameter {unknown[0]!r}{hint(unknown[0], self.names)}"
            )
        positive = {parameter.name for parameter in self.parameters if parameter.positive}
        for name, value in values.items():
            if not math.isfinite(value) or (name in positive and value <= 0):
                allowed = "a number above 0" if name in positive else "a finite number"
                raise ScalingError(f"{name} is {value:g}; law {self.name} needs {allowed}")

    def complete(self, values: Mapping[str, float]) -> dict[str, float]:
        """The values in the law's order; refuses unknown names and names what is missing.

        Args:
            values: all parameters by name.

        Raises:
            ScalingError: for a value that is refused or missing.
        """
        self.check_values(values)
        missing = [name for name in self.names if name not in values]
        if missing:
            raise ScalingError(
                f"law {self.name} lacks a value for {', '.join(missing)}, which its paper gives for"
                f" no setup; fit your own rows, or give --set {missing[0]}=VALUE"
            )
        return {name: float(values[name]) for name in self.names}


def _check(name: str, found: object) -> Law:
    if not isinstance(found, Law):
        raise TypeError("it is no formula decorated with lengthwise.scaling.law.law")
    if found.name != name:
        raise ValueError(f"its law is named {found.name!r}")
    return found


LAWS: Registry[Law] = Registry("lengthwise.laws", "law", _check, ScalingError)


def law(
    name: str,
    *,
    paper: Paper,
    inputs: Mapping[str, str],
    output: tuple[str, str],
    parameters: tuple[Parameter, ...],
    constants: Mapping[str, Constants],
    logarithmic: bool = True,
    solver: Solver | None = None,
) -> Callable[[Formula], Law]:
    """Makes a law of a formula, whose docstring's first line is its equation.

    It is found by its name once it is an entry point of the group `lengthwise.laws`.
    """

    def make(formula: Formula) -> Law:
        return Law(name, paper, inputs, output, parameters, constants, formula, logarithmic, solver)

    return make


def find_law(name: str) -> Law:
    """The law of that name; refuses others with the nearest.

    Args:
        name: as an entry point of the group `lengthwise.laws`.

    Raises:
        ScalingError: where there is none.
    """
    found = LAWS.get(name)
    if found is None:
        raise ScalingError(f"there is no law {name!r}{hint(name, LAWS)}")
    return found


def need_scipy() -> None:
    """Refuses what searches where scipy, which few need, is not installed."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise ScalingError(
            "fitting and solving need scipy: pip install 'lengthwise[scaling]'"
        ) from None


def log_sum(*terms: Any) -> Array:
    """log(exp(a) + exp(b) + ...), for terms that broadcast to `[rows]`."""
    found = np.asarray(terms[0], dtype=np.float64)
    for term in terms[1:]:
        found = np.logaddexp(found, term)
    return found
