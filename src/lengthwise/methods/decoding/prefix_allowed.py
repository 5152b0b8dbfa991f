"""A function of the user's that says which tokens may follow, as transformers' `generate` takes.

It is Python and not text, so it stands in a list of methods and in no recipe that is written:

    model.generate(prompt, [prefix_allowed_tokens(fn)])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise.engine.context_ids import ContextIds
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import ConstraintError, RecipeError
from lengthwise.methods.base import Method, Question

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.models.adapted_model import AdaptedModel

# Gets the number of the row and the ids so far, int64 `[tokens]`; gives ids that may follow.
PrefixAllowed = Callable[[int, Tensor], Seq[int]]


@dataclass(frozen=True)
class _Given(Method):
    """What a function of the user's allows."""

    name: ClassVar[str] = "prefix_allowed_tokens"
    question: ClassVar[str] = Question.DECODING
    paper = None
    fn: ClassVar[PrefixAllowed]

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        return PrefixAllowedLaw(self.name, type(self).fn)


def prefix_allowed_tokens(fn: PrefixAllowed, by_path: bool = True) -> Method:
    """A method out of transformers' `prefix_allowed_tokens_fn`.

    Args:
        fn: gets 0, as every row is asked alone, and the ids of prompt and text so far. It gives the
            ids that may follow, at least one.
        by_path: what it gives depends on these ids alone. False refuses drafters beside it.

    Returns:
        The method, for a list of methods.

    Raises:
        RecipeError: for what is no function.
    """
    if not callable(fn):
        raise RecipeError(f"prefix_allowed_tokens({fn!r}): give a function of a row and its ids")
    facts = {"fn": staticmethod(fn), "by_path": by_path}
    made: type[_Given] = dataclass(frozen=True)(type("PrefixAllowedTokens", (_Given,), facts))
    return made()


class PrefixAllowedLaw(NextTokenLaw):
    """Masks all but what a function gives."""

    def __init__(self, name: str, fn: PrefixAllowed) -> None:
        self.name, self._fn = name, fn
        self._context: list[int] = []
        self._prompt = 0
        self._text = ContextIds()

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        self._context = list(sequence.tokens)
        self._prompt = len(self._context)
        self._text = ContextIds()

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        self._context[self._prompt :] = written
        self._text.follow(self._context, self._prompt, scores.device)
        # The function may keep what it is shown.
        ids = self._text.ids.clone()
        where = f"{self.name}: nothing may follow token {len(written)}"
        try:
            allowed = torch.tensor(list(self._fn(0, ids)), dtype=torch.int64, device=scores.device)
        except Exception as error:
            raise ConstraintError(f"{where}: its function failed: {first_line(error)}") from error
        if not len(allowed) or int(allowed.min()) < 0 or int(allowed.max()) >= len(scores):
            gave = allowed.tolist()[:8]
            raise ConstraintError(f"{where}: its function gave {gave}, no ids of {len(scores)}")
        kept = torch.full_like(scores, -torch.inf)
        kept[allowed] = scores[allowed]
        return kept


__all__ = ["PrefixAllowed", "PrefixAllowedLaw", "prefix_allowed_tokens"]
