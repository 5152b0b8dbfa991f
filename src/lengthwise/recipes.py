"""Recipes: parsed from text, checked, resolved for a model, refused with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lengthwise.engine.placement import ORDINARY
from lengthwise.engine.plan import Plan

if TYPE_CHECKING:
    from lengthwise.methods.base import Method
    from lengthwise.models.adapt import Adapted


def resolve(methods: Sequence[Method], model: Adapted) -> Plan:
    """The plan of methods on a model."""
    rule, placement = None, None
    selection = retention = codec = None
    for method in methods:
        method.check(model)
        rule = method.frequencies(model) or rule
        own = method.placement(model)
        if own is not None and (placement is None or method.question == "positions"):
            placement = own
        cls = type(method)
        if cls.start_selector is not _base().start_selector:
            selection = method
        if cls.start_retention is not _base().start_retention:
            retention = method
        if cls.start_codec is not _base().start_codec:
            codec = method
    drafters = tuple(
        (lambda m=m: m.start_drafter(model))
        for m in methods
        if type(m).start_drafter is not _base().start_drafter
    )
    return Plan(
        " + ".join(str(m) for m in methods) or "full",
        rule,
        placement or ORDINARY,
        selection.start_selector if selection else None,
        (lambda: retention.start_retention(model)) if retention else None,
        codec.start_codec if codec else None,
        drafters,
        all(m.lossless for m in methods),
    )


def _base() -> type[Method]:
    from lengthwise.methods.base import Method

    return Method
