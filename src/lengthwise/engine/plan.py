"""A recipe resolved for one model: what the engine needs to know, free of names and text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lengthwise.engine.placement import ORDINARY, Placement

if TYPE_CHECKING:
    from lengthwise.engine.mode import DecodingMode
    from lengthwise.engine.roles import Codec, Drafter, Retention, Selector
    from lengthwise.engine.speculative.draft_length import LengthPolicy
    from lengthwise.engine.speculative.verification import Verifier
    from lengthwise.models.probe import LayerFacts
    from lengthwise.models.rope import FrequencyRule


@dataclass(frozen=True, eq=False)
class Plan:
    """One answer per question; every default is full attention.

    text: the recipe as it prints. The starters make fresh state for a sequence. verifier, policy:
    None are the lossless one and goodput. mode: writes in place of choosing one token a step.
    checks: raise Refused for lengths of prompts that a method cannot serve.
    """

    text: str = "full"
    rule: FrequencyRule | None = None
    placement: Placement = ORDINARY
    selector: Callable[[LayerFacts], Selector | None] | None = None
    retention: Callable[[], Retention | None] | None = None
    codec: Callable[[LayerFacts], Codec | None] | None = None
    drafters: tuple[Callable[[], Drafter | None], ...] = ()
    verifier: Callable[[], Verifier | None] | None = None
    policy: LengthPolicy | None = None
    mode: Callable[[], DecodingMode | None] | None = None
    lossless: bool = True
    checks: tuple[Callable[[int], None], ...] = ()

    def check_prompt(self, length: int) -> None:
        """Raises Refused where a prompt of `length` tokens cannot be served; reads nothing."""
        for check in self.checks:
            check(length)

    @property
    def drops(self) -> bool:
        """Whether a text that is long enough loses tokens."""
        where = self.placement
        bounded = where.window is not None and (not where.keeps_far or where.keep_far is not None)
        return self.retention is not None or bounded


FULL = Plan()
