"""The budget of a prompting method: tokens that are read of the documents."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

from lengthwise.errors import Refused
from lengthwise.methods.budget import Budget
from lengthwise.methods.options import option
from lengthwise.methods.prompts import TextModel, joined, whole


def text_budget(amount: int = 2048) -> Any:
    """The option of every prompting method that reads less than it is given."""
    return option(Budget(amount), "tokens, or a share, of the documents that are read", bytes=False)


def tokens_of(documents: Seq[str], budget: Budget, model: TextModel) -> tuple[int, int]:
    """Tokens of all documents in one text, and how many of them may be read.

    Args:
        documents: as they were given.
        budget: of the method.
        model: that counts.

    Raises:
        Refused: for a budget in bytes, which text has none of.
    """
    if budget.unit not in ("tokens", "%"):
        raise Refused(
            f"budget={budget}: what enters the context is counted in tokens, not in bytes",
            "give tokens (2048) or a share (25%); a retention or a codec takes bytes",
        )
    length = model.count(joined(whole(documents)))
    return length, budget.tokens(length, 1)


__all__ = ["text_budget", "tokens_of"]
