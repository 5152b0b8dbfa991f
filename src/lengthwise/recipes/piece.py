"""A method of a recipe as the rules of composition see it on one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.errors import Refused
from lengthwise.methods import slots
from lengthwise.methods.base import Method, Question, needs_rope

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.contexts import ContextRule
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.rope import FrequencyRule


@dataclass(frozen=True)
class Piece:
    """A method of a recipe: the hooks its class overrides, and what they give on this model.

    reads_by_block: it selects for blocks of a prompt's queries, too. sums_attention: it deletes by
    what all queries give each entry. splits_heads: heads of one layer keep unequal numbers.
    """

    method: Method
    hooks: frozenset[str]
    rule: FrequencyRule | None = None
    placement: Placement | None = None
    contexts: ContextRule | None = None
    reads_by_block: bool = False
    sums_attention: bool = False
    splits_heads: bool = False

    @classmethod
    def of(cls, method: Method, model: AdaptedModel) -> Piece:
        """A method as it is on one model.

        Args:
            method: of a recipe, with its options.
            model: the adapted model the recipe runs on.

        Raises:
            Refused: where the model alone already rules the method out.
        """
        free = method.question in (Question.DRAFTING, Question.DECODING, Question.PROMPTING)
        if not free and all(x.window for x in model.layers):
            raise Refused(
                f"{method.name} has nothing to work on: every layer of this {model.family!r} model "
                "keeps only a window of its own",
                "use full, with a drafting method where speed matters",
            )
        method.check(model)
        hooks = frozenset(s.hook for s in slots.SLOTS if _answers(method, s.hook))
        if "start_verifier" in hooks and method.start_verifier(model) is None:
            hooks -= {"start_verifier"}
        if "start_renewal" in hooks and method.start_renewal(model) is None:
            hooks -= {"start_renewal"}
        if method.question == Question.POSITIONS:
            needs_rope(method, model)
            if not any(method.start_selector(layer) for layer in model.layers):
                hooks -= {"start_selector"}
        own_frequencies(method, hooks, model)
        started = map(method.start_selector, model.layers) if "start_selector" in hooks else ()
        blocks = any(each is not None and each.query_block is not None for each in started)
        retention = method.start_retention(model) if "start_retention" in hooks else None
        table = method.head_table(model) if "head_table" in hooks else None
        return cls(
            method, hooks, method.frequencies(model), method.placement(model),
            method.contexts(model), blocks,
            retention is not None and retention.wants_attention_mass,
            any(len(policies) > 1 for policies in (table or {}).values()),
        )  # fmt: skip

    @property
    def name(self) -> str:
        return self.method.name

    @property
    def far_moved(self) -> bool:
        """Far keys stand elsewhere than where they were born, or close ranks when some go."""
        where = self.placement
        return where is not None and (not where.far_is_ordinary or where.compact)

    @property
    def bounded(self) -> bool:
        """Nothing, or only a fixed few, is kept beyond a window."""
        return self.placement is not None and self.placement.bounded

    @property
    def gives_way(self) -> bool:
        """A selection's window at ordinary positions: any other placement may stand in for it."""
        return "start_selector" in self.hooks and not self.far_moved and not self.bounded

    @property
    def moves_stored_keys(self) -> bool:
        """Keys do not stay at the rotation they were stored with."""
        if self.rule is not None:
            return self.rule.dynamic
        compact = self.placement is not None and self.placement.compact
        return compact or self.method.raw_keys


def _answers(method: Method, hook: str) -> bool:
    """Whether a method's class has this hook as its own."""
    found = getattr(type(method), hook, None)
    return found is not None and found is not getattr(Method, hook, None)


def own_frequencies(method: Method, hooks: frozenset[str], model: AdaptedModel) -> None:
    """Raises Refused where a model that changes its own frequencies with the length undoes what a
    method holds.

    Args:
        method: of a recipe.
        hooks: names of those that its class overrides.
        model: the adapted model the recipe runs on.
    """
    rope = model.rope
    if rope is None or rope.switch is None:
        return
    if rope.grows and method.frozen_positions:
        raise Refused(
            f"{method.name} works on keys at the positions they were stored with, and this "
            f"{model.family!r} model turns them with every token beyond {rope.switch:,}",
            "use a method that holds entries alone, such as snapkv or kivi",
        )
    if "start_mode" in hooks:
        raise Refused(
            f"{method.name} reads mixtures of tokens, and this {model.family!r} model changes its "
            f"rotary frequencies beyond {rope.switch:,} tokens, where all is read again",
            "generate several texts with different seeds instead",
        )


__all__ = ["Piece", "own_frequencies"]
