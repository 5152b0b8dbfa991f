"""USCD: where the model is uncertain, what it says is contrasted with what a lame prompt says.

Wang et al., "USCD: Improving Code Generation of LLMs by Uncertainty-Aware Selective Contrastive
Decoding", 2024, arXiv:2409.05923. The lame prompt is the prompt without its input-output examples.
It makes the same noise and knows less, so what both say alike is noise.

    p+ = p(v | prompt, y),  p- = p(v | lame prompt, y)
    spread(p+) < threshold:  s(v) = log p+ + strength (log p+ - log p-)  if p+(v) >= cut max p+
                             s(v) = -infinity                            otherwise
    else                     s(v) = log p+

The spread is the standard deviation of the probabilities over the vocabulary; a flat law has a
small one. Ours is divided by that of a certain law, so that it goes from 0 to 1 whatever the
vocabulary:

    spread^2 = (sum p^2 - 1/V) / (1 - 1/V)

The paper takes examples out of HumanEval's docstrings, which is the rule `drop=">>>"`. A line that
begins so is left out, and so are the lines behind it. An empty line, the next example or the end of
the docstring ends them. `lame=FILE` gives the text of the lame prompt. `last=N` takes the prompt's
last N tokens, which contrasts with a context that was not read. The paper's threshold and strength
were not to be had: `threshold` and `strength` are ours, and `cut` is the customary one of
contrastive decoding. The lame prompt is read when first it is needed, by the model alone (no
recipe), in a cache of its own whose bytes count.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.documents.files import read_document
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.decoding._shared.reading import Reading, fitted
from lengthwise.models.adapted_model import AdaptedModel

DROP = ">>>"
_ENDS = re.compile(r"\s*($|\"\"\"|''')")


@dataclass(frozen=True)
class USCD(Method):
    """threshold: spread below which the model is uncertain. strength, cut: of the contrast. drop,
    lame, last: which prompt is the lame one."""

    name: ClassVar[str] = "uscd"
    question: ClassVar[Question] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "USCD: Improving Code Generation of LLMs by Uncertainty-Aware Selective Contrastive "
        "Decoding",
        "Wang et al.",
        2024,
        arxiv="2409.05923",
    )
    threshold: float = option(0.5, "spread below which is contrasted; 1: always", low=0, high=1)
    strength: float = option(0.5, "weight of the contrast", low=0)
    cut: float = option(0.1, "share of the largest probability that a token needs", low=0, high=1)
    drop: str = option(DROP, "lines of examples in the prompt begin with it")
    lame: str | None = option(None, "file with the text of the lame prompt")
    last: int | None = option(None, "the lame prompt is so many last tokens of the prompt", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [self.drop != DROP, self.lame is not None, self.last is not None]
        if sum(given) > 1:
            raise RecipeError(f"{self}: drop, lame and last each say what the lame prompt is; "
                              "give one of them")  # fmt: skip
        if not self.drop:
            raise RecipeError('uscd: drop="" begins every line; give what lines of examples begin '
                              "with")  # fmt: skip

    @classmethod
    def identity(cls, length: int) -> USCD:
        return cls(strength=0, last=8)

    @classmethod
    def example(cls) -> USCD:
        return cls(threshold=1, last=16)

    def check(self, model: AdaptedModel) -> None:
        if self.last is None and model.tokenizer is None:
            raise Refused(
                "uscd takes examples out of the prompt's text, and this model came without a "
                "tokenizer",
                "give the tokenizer to lengthwise.wrap, or write uscd(last=16)",
            )
        if self.lame is not None:
            self._file(model)

    def lame_prompt(self, tokens: Seq[int], model: AdaptedModel) -> list[int]:
        """The tokens of the lame prompt of a prompt.

        Args:
            tokens: the prompt.
            model: with its tokenizer, but for `last`.
        """
        if self.last is not None:
            return list(tokens[-self.last :])
        if self.lame is not None:
            return self._file(model)
        assert model.tokenizer is not None
        text = str(model.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
        left = without_examples(text, self.drop)
        if left == text:
            return list(tokens)
        return list(model.tokenizer.encode(left, add_special_tokens=False)) or list(tokens[:1])

    def _file(self, model: AdaptedModel) -> list[int]:
        assert self.lame is not None and model.tokenizer is not None
        text = read_document(Path(os.path.expanduser(self.lame))).text
        return list(model.tokenizer.encode(text))

    def start_law(self, model: AdaptedModel) -> Contrast:
        return Contrast(self)


def without_examples(text: str, drop: str = DROP) -> str:
    """A prompt's text without its examples.

    Args:
        text: the prompt.
        drop: what the first line of an example begins with, behind its indent.
    """
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        begins = line.lstrip().startswith(drop)
        inside = begins or (inside and not _ENDS.match(line))
        if not inside:
            kept.append(line)
    return "".join(kept)


def spread(probs: Tensor) -> float:
    """The standard deviation of probabilities `[vocab]`, as a share of that of a certain law."""
    size = len(probs)
    if size == 1:
        return 1.0
    squares = float((probs * probs).sum())
    return math.sqrt(max(0.0, (squares - 1 / size) / (1 - 1 / size)))


def contrasted(scores: Tensor, lame: Tensor, strength: float, cut: float) -> Tensor:
    """Scores `[vocab]` of a contrast, minus infinity for tokens that the model finds rare.

    Args:
        scores: logits `[vocab]` behind the prompt.
        lame: logits `[vocab]` behind the lame prompt.
        strength: of the contrast.
        cut: share of the largest probability that a token needs.
    """
    good = torch.log_softmax(scores, -1)
    probs = good.exp()
    found = good + strength * (good - torch.log_softmax(lame, -1))
    return found.masked_fill((probs < cut * probs.max()) | (probs == 0), float("-inf"))


class Contrast(NextTokenLaw):
    """Contrasts with the lame prompt where the law is flat."""

    def __init__(self, options: USCD) -> None:
        self.options = options
        self._reading: Reading | None = None
        self._nothing = False
        self._asked = self._contrasted = 0

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        prompt = list(sequence.tokens)
        lame = self.options.lame_prompt(prompt, sequence.model)
        self._nothing = lame == prompt
        idle = self._nothing or not self.options.strength or not self.options.threshold
        self._reading = None if idle else Reading(sequence.model, lame, limit)

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        self._asked += 1
        if self._reading is None:
            return scores
        if spread(scores.softmax(-1)) >= self.options.threshold:
            return scores
        self._contrasted += 1
        lame = fitted(self._reading.logits(written), scores)
        return contrasted(scores, lame, self.options.strength, self.options.cut)

    def held(self) -> list[Sequence]:
        return [] if self._reading is None else self._reading.held()

    @property
    def notes(self) -> Seq[str]:
        if not self._nothing:
            return ()
        if self.options.lame or self.options.last:
            return ["uscd: the lame prompt is the prompt itself, so nothing was contrasted"]
        return [
            f"uscd: no line of the prompt begins with {self.options.drop!r}, so nothing was "
            "contrasted; give drop=, lame=FILE or last=N"
        ]

    @property
    def figures(self) -> dict[str, float]:
        found = {"uscd: steps contrasted": float(self._contrasted)}
        found["uscd: share of steps contrasted"] = self._contrasted / max(1, self._asked)
        if self._reading is not None and self._reading.asked:
            found["uscd: tokens of the lame prompt"] = float(len(self._reading.prompt))
            found["uscd: tokens read behind it"] = float(self._reading.read)
        return found


__all__ = ["USCD", "Contrast", "contrasted", "spread", "without_examples"]
