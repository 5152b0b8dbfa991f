"""A recipe resolved for one model: what the engine needs to know, free of names and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lengthwise.engine.decoding_mode import DecodingMode
from lengthwise.engine.kv_cache.cache_plan import CachePlan
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.speculative.draft_length import LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.verification import Verifier
from lengthwise.errors import Refused


@dataclass(frozen=True, eq=False)
class Plan(CachePlan):
    """What is kept (`CachePlan`), and who guesses ahead; every default is full attention.

    verifier, policy: None are the lossless one and goodput. mode: writes in place of choosing one
    token a step. laws: what changes the law of the next token, in order. first_token: what every
    answer begins with; None leaves it to the model. checks: raise Refused for lengths of prompts
    that a method cannot serve. answers: those of slots that have no field here, by the name of
    their hook. learned_as: what is learned of drafting under it is kept by this name, in which laws
    stand without their options; "" becomes the text.
    """

    drafters: tuple[Callable[[], Drafter | None], ...] = ()
    verifier: Callable[[], Verifier | None] | None = None
    policy: LengthPolicy | None = None
    mode: Callable[[], DecodingMode | None] | None = None
    laws: tuple[Callable[[], NextTokenLaw | None], ...] = ()
    first_token: int | None = None
    lossless: bool = True
    checks: tuple[Callable[[int], None], ...] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)
    learned_as: str = ""

    def __post_init__(self) -> None:
        if not self.learned_as:
            object.__setattr__(self, "learned_as", self.text)

    @property
    def decides(self) -> bool:
        """Whether a method has a say in what is written: a law, a mode or a first token. What asks
        for the model's own law has to refuse that."""
        return bool(self.laws) or self.mode is not None or self.first_token is not None

    def check_prompt(self, length: int, apart: bool = False) -> None:
        """Raises Refused where a prompt that takes `length` positions cannot be served; reads
        nothing. apart: documents of it are set apart."""
        if self.contexts is not None and not apart:
            raise Refused(
                f"{self.text} {self.contexts.does}, and this is one text",
                "give the documents to Model.read_apart, or several times -d to lengthwise run",
            )
        for check in self.checks:
            check(length)


FULL = Plan()


def whole(plan: CachePlan) -> Plan:
    """The plan that a sequence was made with; under one for the cache alone nobody guesses."""
    return plan if isinstance(plan, Plan) else Plan(**vars(plan))
