"""asap: a grammar's texts, drawn as the model would have said them.

Park et al., "Grammar-Aligned Decoding", NeurIPS 2024, arXiv:2405.21047 (adaptive sampling with
approximate expected futures). Masking alone bends the law: a token may be likely for continuations
that are forbidden later. The law of the model's texts that are in the language is

    P(token | path) c(path + token) / c(path),   c = probability that the text stays in the language

c is not known. It is estimated from above by what samples have shown, one after the other, and
the law of the next sample follows the estimate: it converges to the exact one.

    rate(path) = 1 where nothing was sampled;  0 where the grammar forbids it
    rate(path) = sum over tokens of P(token | path) rate(path + token) where something was
    the next token is drawn by P(token | path) rate(path + token)

P is the full softmax at the request's temperature, before anything is masked. What narrows it
further (top_p and the like) is refused, for then there is no P to be true to; so is temperature 0.

Samples are remembered by model, recipe, grammar and prompt, so requests for the same prompt improve
each other. A request keeps the estimates it began with, and adds its sample at its end. So what it
says of a token depends on the path alone, and guesses are verified under it; rows of one batch
learn from the batches before. Ours holds of each path the probability of what is allowed, and of
the tokens chosen there: a few numbers where the authors' code holds the vocabulary.

The end of the text is a token of the law. So where the grammar allows nothing but the end, it is
drawn as well, at the cost of a step. A text that max_new_tokens broke off teaches what it passed.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Hashable, Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import ConstraintError, LengthwiseError
from lengthwise.methods.base import Paper, Question, option
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.methods.decoding._shared.constraint import GrammarLaw
from lengthwise.methods.decoding._shared.future import Futures, Node, Visit
from lengthwise.methods.decoding._shared.grammars import Constrained
from lengthwise.methods.decoding._shared.matcher import Matcher

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.models.adapted_model import AdaptedModel

# Prompts of a model whose samples are remembered.
PROMPTS = 64
_FUTURES: WeakKeyDictionary[AdaptedModel, Futures] = WeakKeyDictionary()


@dataclass(frozen=True)
class Asap(Constrained):
    """The options of `grammar`. samples: of a prompt that are learned from."""

    name: ClassVar[str] = "asap"
    question: ClassVar[str] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Grammar-Aligned Decoding", "Park et al.", 2024, arxiv="2405.21047", venue="NeurIPS",
        code="https://github.com/ebmoon/transformers-GAD",
    )  # fmt: skip
    samples: int = option(2000, "samples of a prompt that are learned from, at most", low=0)

    @classmethod
    def example(cls) -> Asap:
        """Nothing is learned: what was said before would change what is said next."""
        return cls(regex="[a-z ]{1,60}", samples=0)

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        futures = _FUTURES.setdefault(model, Futures(PROMPTS))
        return AsapLaw(self.name, self.start(model), futures, self.samples, self.grammar())


class AsapLaw(GrammarLaw):
    """Draws as the model would have, had it said nothing but texts of the grammar.

    futures: what samples have shown. most: samples of a prompt that are learned from. language: the
    grammar, whose samples these are.
    """

    draws = True

    def __init__(
        self, name: str, matcher: Matcher, futures: Futures, most: int, language: str
    ) -> None:
        super().__init__(name, matcher)
        self._futures, self._most, self._language = futures, most, language
        self._temperature = 1.0
        self._root: Node | None = None
        self._before = 0
        self._key: Hashable = None
        self._visits: list[Visit] = []
        self._path: list[int] = []
        self._raw: Tensor | None = None

    def check(self, sampling: Sampling) -> None:
        narrow = {
            "top_k": sampling.top_k, "top_p": sampling.top_p != 1, "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty != 1,
        }  # fmt: skip
        if found := [name for name, given in narrow.items() if given]:
            raise LengthwiseError(
                f"{self.name} draws by the model's whole law, and {' and '.join(found)} would "
                "change it: leave that out, or use grammar"
            )

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        super().begin(sequence, sampling, limit, stop_ids)
        tokens = list(sequence.tokens)
        digest = hashlib.blake2b(digest_size=16)
        # A model's weights may have changed since it was last asked.
        weights = fingerprint_now(sequence.model)
        for part in (weights, sequence.plan.text, self._language, repr(sorted(stop_ids))):
            digest.update(f"{part}\0".encode())
        digest.update(struct.pack(f"<d{len(tokens)}q", sampling.temperature, *tokens))
        self.open(digest.hexdigest(), sampling.temperature)

    def open(self, key: Hashable, temperature: float) -> None:
        """Takes the estimates of a prompt as they are now.

        Args:
            key: of the prompt, and of all else that the model's law depends on.
            temperature: of the request.
        """
        self._key, self._temperature = key, temperature
        self._root, self._before = self._futures.get(key)

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        raw = torch.softmax(scores / self._temperature, -1)
        follows = self._follow(list(written))
        try:
            scores = super().process(scores, written)
        except ConstraintError:
            if follows:
                self._visits.append(Visit(0.0))
            raise
        if follows:
            allowed = scores.isfinite()
            self._visits.append(Visit(float(raw[allowed].sum(dtype=torch.float64))))
            self._raw = raw
        node = self._known(written)
        for token, (_, below) in node.children.items() if node else ():
            # The logarithm of 0 forbids.
            rate = math.log(below.rate) if below.rate else -math.inf
            scores[token] += self._temperature * rate
        if node and not scores.isfinite().any():
            raise ConstraintError(
                f"{self.name}: nothing may follow token {len(written)}: samples have shown that no "
                "text of the grammar does"
            )
        return scores

    def _follow(self, path: list[int]) -> bool:
        """Goes to a path, and says whether all before it was noted: of others that is forgotten."""
        self._choose(path)
        shared = 0
        while shared < min(len(path), len(self._visits)):
            if self._visits[shared].token != path[shared]:
                break
            shared += 1
        del self._visits[shared:]
        self._path, self._raw = path, None
        return shared == len(path)

    def _choose(self, path: list[int]) -> None:
        """Notes the token by which a path goes on behind the newest one that was noted."""
        place = len(self._path)
        if self._raw is None or len(path) <= place or path[:place] != self._path:
            return
        visit, token = self._visits[place], path[place]
        self._visits[place] = Visit(visit.mass, token, float(self._raw[token]))

    def _known(self, path: Seq[int]) -> Node | None:
        node = self._root
        for token in path:
            found = node.children.get(token) if node else None
            node = found[1] if found else None
        return node

    def ends(self, written: Seq[int]) -> bool:
        return not self.stop_ids and super().ends(written)

    def finish(self, written: Seq[int]) -> None:
        super().finish(written)
        self._choose(list(written))
        if self._before < self._most and self._visits:
            self._futures.learn(self._key, self._visits[: len(written) + 1])

    @property
    def figures(self) -> dict[str, float]:
        rate = 1.0 if self._root is None else self._root.rate
        return {
            **super().figures,
            f"{self.name}: samples before": self._before,
            f"{self.name}: share of texts in the language, at most": rate,
        }


__all__ = ["Asap", "AsapLaw", "Futures"]
