"""A draft model of some of the target's layers, and how an option writes those layers.

The modules are new, so that layers can be renumbered and the original is not touched. Parameters
and buffers are the original's own.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from lengthwise.engine.speculative.loading import LOCK, adapt_draft_model
from lengthwise.errors import RecipeError, Refused, UnsupportedModel
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.cut import cut_model


def layer_subset(model: AdaptedModel, kept: tuple[int, ...]) -> AdaptedModel:
    """The model with only the kept layers, whose parameters are the same tensors; made once.

    It is not held against a stock model of these layers, for it only guesses. Raises Refused where
    a family's layers cannot run without the others.
    """
    with LOCK:
        known = _THINNED.setdefault(model, {})
        if kept not in known:
            try:
                fuse = model.fast is not None
                known[kept] = adapt_draft_model(cut_model(model.model, kept), fuse)
            except UnsupportedModel as error:
                raise Refused(
                    f"some layers of this {model.family!r} model cannot guess for all of them: "
                    f"{error.reason}",
                    "use a drafter that needs no model, such as lookup or recycling",
                ) from error
        return known[kept]


_THINNED: WeakKeyDictionary[AdaptedModel, dict[tuple[int, ...], AdaptedModel]] = WeakKeyDictionary()


def kept_layers(keep: str, model: AdaptedModel) -> tuple[int, ...]:
    """The layers an option names, ascending: numbers and ranges from 0, or how many of the first
    and the last as a number or a share. Raises RecipeError where there are none such."""
    total = len(model.layers)
    if keep.endswith("%") or keep.isdecimal():
        return _ends(_count(keep, total), total)
    return tuple(sorted(parse_layers(keep, total)))


def _count(text: str, total: int) -> int:
    """How many layers a number or a share means."""
    if text.isdecimal() and 1 <= int(text) <= total:
        return int(text)
    share = text.removesuffix("%")
    if text.endswith("%") and share.isdecimal() and 1 <= int(share) <= 100:
        return max(1, round(int(share) * total / 100))
    raise RecipeError(f"layers(keep={text}): allowed is 1 to {total} layers, or 1% to 100%")


def _ends(count: int, total: int) -> tuple[int, ...]:
    """The first and the last layers, as many of either."""
    first = (count + 1) // 2
    return *range(first), *range(total - count + first, total)


def parse_layers(text: str, total: int) -> set[int]:
    """The layers of a list such as `0-5,24-29`."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RecipeError(
                f'layers: {part.strip()!r} is no layer and no range; write "0-5,{total - 1}"'
            )
        ends = int(first), int(last) if dash else int(first)
        if not ends[0] <= ends[1] < total:
            raise RecipeError(
                f"layers: {part.strip()} is not among the layers 0 to {total - 1} of this model"
            )
        found.update(range(ends[0], ends[1] + 1))
    return found


__all__ = ["kept_layers", "layer_subset", "parse_layers"]
