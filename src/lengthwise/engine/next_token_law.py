"""What changes the law of the next token before one is chosen: constraints, contrasts, routes.

A law is asked once for every token that is chosen, behind the model's own logits and before what
the request asks of them (suppressed tokens, temperature, top_p and the rest). It sees the tokens
that were written, never the cache, so it runs over every recipe. Several are asked in the order of
the recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence as Seq
from typing import TYPE_CHECKING, ClassVar, TypeVar

from torch import Tensor

from lengthwise._utils.messages import first_line, ran_out
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import ConstraintError, NotFinite

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.sequence import Sequence

Answer = TypeVar("Answer")


class NextTokenLaw(ABC):
    """Changes the next-token law of one sequence; one object per sequence.

    Where the method says `by_path`, what it answers depends on the written tokens alone, whatever
    it was asked before: guesses are verified under it, and texts fork. draws: what it says means
    nothing where the likeliest token is taken, so that requests need a temperature. wants_states:
    it reads `state`; its method is not `by_path`, for guesses are not told theirs.

    state: the hidden state `[hidden]` that the scores about to be given were read from, where it is
    known; None where not.
    """

    draws: ClassVar[bool] = False
    wants_states: ClassVar[bool] = False
    state: Tensor | None = None

    def check(self, sampling: Sampling) -> None:  # noqa: B027 - most serve every one
        """Asked before anything is read.

        Args:
            sampling: how tokens will be chosen.

        Raises:
            LengthwiseError: for what it cannot serve.
        """

    def begin(  # noqa: B027 - most have nothing to prepare
        self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]
    ) -> None:
        """The prompt has been read, and nothing is written yet.

        Args:
            sequence: that read it: its `tokens`, and its `model` with the tokenizer.
            sampling: how tokens will be chosen.
            limit: most tokens that will be written.
            stop_ids: tokens that end the text; may be empty.

        Raises:
            LengthwiseError: for what it cannot serve.
        """

    @abstractmethod
    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        """The scores of the token behind `written`, changed.

        Args:
            scores: float32 `[vocab]`: the model's logits, or what a law before this one made of
                them. They may be written to.
            written: ids behind the prompt.

        Returns:
            float32 `[vocab]`, minus infinity for tokens that are forbidden.

        Raises:
            ConstraintError: where no token may follow. The request ends there, and no other.
        """

    def ends(self, written: Seq[int]) -> bool:
        """Whether the text is complete, so that nothing may follow.

        Args:
            written: ids behind the prompt, at least one.
        """
        return False

    def forced(self, written: Seq[int]) -> Seq[int]:
        """Tokens that most likely follow whatever the model says of them: guesses, where a recipe
        guesses at all.

        Args:
            written: ids behind the prompt.
        """
        return ()

    def finish(self, written: Seq[int]) -> None:  # noqa: B027 - most have nothing to put away
        """The text is whole, or was broken off.

        Args:
            written: all of it, stop tokens left out.
        """

    def held(self) -> list[Sequence]:
        """Sequences of its own that hold entries now, of whatever model: their bytes count."""
        return []

    @property
    def notes(self) -> Seq[str]:
        """What the user has to know at the end, one sentence each."""
        return ()

    @property
    def figures(self) -> dict[str, float]:
        """What it did and cost, by its words: they join `RequestMetrics.figures`."""
        return {}


def asked(law: NextTokenLaw, call: Callable[..., Answer], *given: object) -> Answer:
    """What a law answers. Whatever else it raises ends its request, and no other: text that a
    constraint did not see must not be written, and others must not be lost by it.

    Args:
        law: that is asked.
        call: a function of it.
        *given: its arguments.

    Raises:
        ConstraintError: as the law says, or where it failed.
        NotFinite: where it met no numbers.
    """
    try:
        return call(*given)
    except (ConstraintError, NotFinite):
        raise
    except Exception as error:
        if ran_out(error):
            raise
        raise ConstraintError(f"{title(law)} failed: {first_line(error)}") from error


def title(law: NextTokenLaw) -> str:
    """How a law is called where something is said of it: its method's name, if it carries one.

    Args:
        law: any.
    """
    return str(getattr(law, "name", type(law).__name__))


__all__ = ["NextTokenLaw", "asked", "title"]
