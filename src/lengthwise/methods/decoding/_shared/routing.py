"""Two models write one text: each token is one model's.

No method of its own: what the routers have in common. The held model is the small one. It reads
every token, as the loop has it, and what it says decides. The second model is asked for some
tokens, and reads what it has missed in one forward before each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence as Seq
from typing import Any

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.loading import doubt
from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.methods.decoding._shared.reading import Reading, fitted
from lengthwise.methods.options import option
from lengthwise.methods.second_model import compared_by_size, second_model
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.limits import position_limit


def second_option() -> Any:
    return option("", "the larger model: folder, GGUF file, hub name or a given model")


def load_second(method: Method, path: str, model: AdaptedModel) -> AdaptedModel:
    """The second model of a router: what it says is written, so it has to be its stock self.

    Args:
        method: the router.
        path: what its option names.
        model: the held one.

    Raises:
        ModelError: where it cannot be had.
        Refused: where none is named, its vocabulary is another one, or its logits are not those of
            the stock model.
    """
    if not path:
        raise Refused(
            f"{method.name} writes with two models, and no second one is named",
            f"write {method.name}(model=PATH); lengthwise.drafting_model gives a loaded one a path",
        )
    second = second_model(str(method), path, model, "use one that has: two sizes of one family")
    if (reason := doubt(second)) is not None:
        raise Refused(
            f"{method}: what the second model says would be written, and it differs from its stock "
            f"self: {reason}",
            "use another second model",
        )
    return second


def require_room(method: Method, second: AdaptedModel, length: int) -> None:
    """Raises Refused where a prompt is longer than the second model has positions for.

    Args:
        method: the router.
        second: its second model.
        length: tokens of the prompt.
    """
    limit = position_limit(second)
    if limit is not None and length > limit:
        raise Refused(
            f"{method}: the second model has learned positions for {limit:,} tokens, and the "
            f"prompt has {length:,}",
            "give a shorter prompt, or another second model",
        )


def parameters(model: AdaptedModel) -> int:
    """Weights of a model, tied ones counted once."""
    return sum(weight.numel() for weight in model.model.parameters())


class Routed(NextTokenLaw):
    """Writes each token with one of two models. router: weights that decide, run at each token."""

    def __init__(
        self, name: str, model: AdaptedModel, second: AdaptedModel, router: int = 0
    ) -> None:
        self.name, self.model, self.second, self.router = name, model, second, router
        self.reading: Reading | None = None
        self._tokens = self._seconds = self._switches = 0
        self._last: bool | None = None

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        self.reading = Reading(self.second, sequence.tokens, limit)

    @abstractmethod
    def process(self, scores: Tensor, written: Seq[int]) -> Tensor: ...

    def route(self, to_second: bool, scores: Tensor, written: Seq[int]) -> Tensor:
        """The law of whichever model writes, float32 `[vocab]`.

        Args:
            to_second: whether that is the second one.
            scores: the held model's law.
            written: ids behind the prompt.
        """
        assert self.reading is not None
        self._tokens += 1
        self._seconds += to_second
        self._switches += self._last is not None and self._last != to_second
        self._last = to_second
        return fitted(self.reading.logits(written), scores) if to_second else scores

    def held(self) -> list[Sequence]:
        return [] if self.reading is None else self.reading.held()

    @property
    def notes(self) -> Seq[str]:
        return compared_by_size(self.name, self.model, self.second, "what the second one says is")

    def active(self, share: float) -> float:
        """Parameters active at a token, as the paper counts them.

        Args:
            share: of tokens that the second model writes.
        """
        return parameters(self.model) + self.router + share * parameters(self.second)

    @property
    def figures(self) -> dict[str, float]:
        if self.reading is None or not self._tokens:
            return {}
        share, read = self._seconds / self._tokens, self.reading.read / self._tokens
        own = parameters(self.second)
        found = {
            "share of tokens by the second model": share,
            "switches": float(self._switches),
            "tokens that it read to catch up": float(self.reading.caught_up),
            "active parameters a token, as the paper counts": self.active(share),
            "parameters a token, all that was run": self.active(0.0) + read * own,
        }
        return {f"{self.name}: {what}": value for what, value in found.items()}


__all__ = ["Routed", "load_second", "parameters", "require_room", "second_option"]
