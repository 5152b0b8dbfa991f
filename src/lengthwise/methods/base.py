"""The contract of a method: one frozen dataclass of options that answers one of six questions.

A method is registered under the entry-point group `lengthwise.methods`, ours and a third party's
alike. Its class says what it is (name, question, paper) and overrides the hooks it needs; objects
with state (a selector's index, a retention's scores) are made afresh for every sequence by `start_*`.
Options are dataclass fields made with `option`, so that the parser knows their types and ranges.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.budget import Budget

if TYPE_CHECKING:
    from lengthwise.engine.placement import Placement
    from lengthwise.engine.roles import Codec, Drafter, Retention, Selector
    from lengthwise.models.adapt import Adapted
    from lengthwise.models.probe import LayerFacts
    from lengthwise.models.rope import FrequencyRule


class Question(str, Enum):
    """What a method answers; also the folder it lives in."""

    POSITIONS = "positions"
    SELECTION = "selection"
    RETENTION = "retention"
    CODECS = "codecs"
    DRAFTING = "drafting"
    PROMPTING = "prompting"


def option(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """A dataclass field that is an option of a recipe: int, float, bool, str or Budget.

    low and high are inclusive bounds, choices the allowed values.
    """
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Method:
    """Base of all methods.

    chunking_exact: chunked prefill gives what one pass gives. decoding_exact: token by token gives
    what a prefill gives (before anything is dropped). raw_keys: needs un-rotated keys, or moves
    positions after keys were stored. frozen_positions: holds objects made of rotated keys, which
    nothing may move afterwards. ordinary_only: works only where every key is near and ordinary.
    """

    name: ClassVar[str]
    question: ClassVar[Question]
    paper: ClassVar[str]
    lossless: ClassVar[bool] = False
    chunking_exact: ClassVar[bool] = True
    decoding_exact: ClassVar[bool] = True
    raw_keys: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = False
    ordinary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low, high = field.metadata.get("low"), field.metadata.get("high")
            choices = field.metadata.get("choices")
            if choices is not None and value not in choices:
                allowed = ", ".join(map(str, choices))
                raise RecipeError(f"{self.name}({field.name}={value}): allowed are {allowed}")
            if isinstance(value, int | float) and not isinstance(value, bool):
                if (low is not None and value < low) or (high is not None and value > high):
                    raise RecipeError(
                        f"{self.name}({field.name}={value}): allowed is {_range(low, high)}"
                    )

    @classmethod
    def identity(cls, length: int) -> Method | None:
        """The setting at which the method does nothing up to `length` tokens; None if it has none."""
        return None

    def check(self, model: Adapted) -> None:
        """Raises Refused where this model cannot run the method."""

    def frequencies(self, model: Adapted) -> FrequencyRule | None:
        """New rotary frequencies, for positions/ methods."""
        return None

    def placement(self, model: Adapted) -> Placement | None:
        """Where tokens stand. A selection method gives its local window here."""
        return None

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        """State of a selection for one layer of one sequence; None leaves that layer dense."""
        return None

    def start_retention(self, model: Adapted) -> Retention | None:
        """State of a retention for one sequence (all its layers)."""
        return None

    def start_codec(self, layer: LayerFacts) -> Codec | None:
        """State of a codec for one layer of one sequence."""
        return None

    def start_drafter(self, model: Adapted) -> Drafter | None:
        """State of a drafter for one sequence."""
        return None


def needs_rope(method: Method, model: Adapted) -> None:
    """Refuses a method that moves positions on a model without rotary positions."""
    if model.rope is None:
        raise Refused(
            f"{method.name} changes rotary positions and models of family {model.family!r} have none",
            "use a selection, retention or codec method instead",
        )


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


__all__ = ["Budget", "Method", "Question", "needs_rope", "option"]
