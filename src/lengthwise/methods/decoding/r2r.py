"""R2R: a router has a larger model say the tokens at which the two would part for good.

Fu et al., "R2R: Efficiently Navigating Divergent Reasoning Paths with Small-Large Model Token
Routing", NeurIPS 2025, arXiv:2505.21600. Of the words in which a small and a large model differ
most change nothing in what follows. A router looks at the small model before its word is said:

    router(state, embedding of the word, 100 largest logits) >= threshold
        =>  the large model reads what it has missed, and says this token instead
    cost = small + router + share of tokens by the large one * large      in active parameters

`lengthwise calibrate r2r` trains the router and chooses the threshold, which catches 95% of the
divergent places held out. `threshold` replaces it: 0 is the large model alone, 1 the small one.

Ours differs in the labels. The paper has a model of 72B judge whether two continuations differ in
what they mean; ours come together again or not, token by token (`divergence.py`). Under
sampling the router looks at the likeliest word, for the one that will be drawn is not known to a
law. The router for 135M is smaller than the paper's (`token_router.py`). The held model is
the small one, and `model` the large one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.calibration import fingerprint
from lengthwise.methods.decoding import token_router
from lengthwise.methods.decoding._shared.routing import (
    Routed,
    load_second,
    require_room,
    second_option,
)
from lengthwise.methods.decoding.divergence import largest
from lengthwise.methods.decoding.token_router import TokenRouter
from lengthwise.models.adapted_model import AdaptedModel

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.placement import Placement


@dataclass(frozen=True)
class R2R(Method):
    """model: the large one. router: its file. threshold: in place of the router's own."""

    name: ClassVar[str] = "r2r"
    question: ClassVar[Question] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "R2R: Efficiently Navigating Divergent Reasoning Paths with Small-Large Model Token "
        "Routing",
        "Fu et al.",
        2025,
        arxiv="2505.21600",
        venue="NeurIPS",
        code="https://github.com/thu-nics/R2R",
    )
    by_path: ClassVar[bool] = False
    model: str = second_option()
    router: str | None = option(None, "file of a trained router: lengthwise calibrate r2r")
    threshold: float | None = option(
        None, "probability from which the large model writes; none: the router's", low=0, high=1
    )

    @classmethod
    def identity(cls, length: int) -> R2R:
        """The held model alone."""
        return cls(threshold=1)

    @property
    def idle(self) -> bool:
        """Whether the large model is never asked."""
        return self.threshold == 1

    def check(self, model: AdaptedModel) -> None:
        if self.model or not self.idle:
            self.trained(model, self.load(model))

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        if not self.idle:
            require_room(self, self.load(model), length)

    def load(self, model: AdaptedModel) -> AdaptedModel:
        """The large model; raises Refused or ModelError where there is none to be had."""
        return load_second(self, self.model, model)

    def trained(self, model: AdaptedModel, second: AdaptedModel) -> TokenRouter | None:
        """The router; None where the threshold leaves it nothing to decide.

        Args:
            model: the small one.
            second: the large one.

        Raises:
            LengthwiseError: for a file that is none.
            Refused: where none is named, or it was trained for other models.
        """
        if self.router is None:
            if self.threshold in (0, 1):
                return None
            raise Refused(
                f"{self}: who writes a token is decided by a router that was trained for these two "
                "models, and none is named",
                f"train one: lengthwise calibrate r2r --large {self.model} --out FILE, then write "
                "r2r(model=..., router=FILE)",
            )
        found = token_router.load(os.path.expanduser(self.router))
        for what, own, its in (
            ("small", fingerprint(model), found.small), ("large", fingerprint(second), found.large)
        ):  # fmt: skip
            if own != its:
                raise Refused(
                    f"{self.router} was trained for another {what} model",
                    "train one for these two, or leave out whatever changed the model",
                )
        return found.to(model.device)

    def start_law(self, model: AdaptedModel) -> Route | None:
        if self.idle:
            return None
        second = self.load(model)
        return Route(self, model, second, self.trained(model, second))


class Route(Routed):
    """Asks the router before each token."""

    wants_states = True

    def __init__(
        self, options: R2R, model: AdaptedModel, second: AdaptedModel, router: TokenRouter | None
    ) -> None:
        super().__init__(options.name, model, second, 0 if router is None else router.size)
        self.decides, self.threshold = router, options.threshold
        if self.threshold is None and router is not None:
            self.threshold = router.threshold
        self._prompt: list[int] = []

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        super().begin(sequence, sampling, limit, stop_ids)
        self._prompt = list(sequence.tokens)

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        return self.route(self._prob(scores, written) >= (self.threshold or 0), scores, written)

    def _prob(self, scores: Tensor, written: Seq[int]) -> float:
        """The router's probability that the small model's word here is divergent."""
        if self.decides is None or not self.threshold:
            return 1.0
        state = self._state(written)[None]
        word = self.model.embed(scores.argmax()[None])
        return float(self.decides.probs(state, word, largest(scores)[None])[0])

    def _state(self, written: Seq[int]) -> Tensor:
        """The small model's state of the last token; read anew where nobody noted it."""
        if self.state is not None:
            return self.state
        sequence = Sequence(self.model)
        sequence.noted = []
        prefill(sequence, [*self._prompt, *written])
        return sequence.noted[-1][-1]


__all__ = ["R2R", "Route"]
