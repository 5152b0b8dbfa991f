"""What all pages share: templates that escape what came from others, and recipes by number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lengthwise._utils.plural import many
from lengthwise.evaluation.reports.svg import series_class

_SHORT_HEAD = 8  # characters of a heading that stay in one line
# No page may hold these: control characters, halves of a surrogate pair, what is no character.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(page: str) -> str:
    """A page without what no page may hold."""
    return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", page)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("lengthwise.evaluation.reports", "templates"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def environment(numbers: Mapping[str, int]) -> Environment:
    """The templates, with what they need to write a recipe's name as this page numbers it."""
    found = _templates().overlay()
    found.filters = found.filters | {
        "style_of": lambda recipe: series_class(numbers[recipe]),
        "number_of": lambda recipe: numbers[recipe] + 1,
        "broken": broken,
        "many": many,
        "broken_head": lambda head: broken(head) if len(head) > _SHORT_HEAD else head,
    }
    return found


def numbered(names: Iterable[str]) -> dict[str, int]:
    """A number for each recipe, 0 for `full`, the same in every table and chart of the page."""
    once = dict.fromkeys(names)
    ordered = [name for name in once if name == "full"] + [n for n in once if n != "full"]
    offset = 0 if "full" in once else 1
    return {name: i + offset for i, name in enumerate(ordered)}


def broken(name: str) -> Markup:
    """A name that a narrow line breaks before a plus, after a bracket or an underscore."""
    text = str(escape(name)).replace(" + ", " +&nbsp;")
    return Markup(re.sub(r"([(_,])", r"\1<wbr>", text))


__all__ = ["broken", "clean", "environment", "numbered"]
