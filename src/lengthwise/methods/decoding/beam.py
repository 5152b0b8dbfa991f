"""Beam search, with transformers' length penalty or that of GNMT.

Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711, for the
search; Wu et al., "Google's Neural Machine Translation System: Bridging the Gap between Human and
Machine Translation", 2016, arXiv:1609.08144, for the penalty.

    score(y v) = score(y) + log p(v | x, y);   the best `width` of all go on
    rank(y)    = score(y) / |y| ^ length_penalty                      norm=length, as transformers
    rank(y)    = score(y) / ((5 + |y|) / 6) ^ length_penalty          norm=gnmt

|y| counts the stop token. Texts, scores and the moment at which a search ends are transformers':
`num_beams` is `width`, `length_penalty` and `early_stopping` mean what they mean there. With a
temperature candidates are drawn without replacement, as its beam sampling does.

Ours differs in how it is computed. The prompt is read and held once, under any recipe, and every
beam is a fork of it that holds its own tokens alone; transformers copies the whole cache at each
step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.decoding._shared.beams import EARLY, BeamGroup, BeamSearch, Rank, by_length
from lengthwise.models.adapted_model import AdaptedModel


def rank_of(norm: str, penalty: float) -> Rank:
    """How texts that have ended are ranked.

    Args:
        norm: "length" or "gnmt".
        penalty: the exponent.
    """
    if norm == "length":
        return by_length(penalty)
    return lambda logprob, length, beam: logprob / ((5 + length) / 6) ** penalty


@dataclass(frozen=True)
class BeamMethod(Method):
    """width: texts that go on together. length_penalty: the exponent of the norm. early_stopping:
    when a search ends, see `BeamGroup`. norm: what a score is divided by."""

    name: ClassVar[str] = "beam"
    question: ClassVar[Question] = Question.DECODING
    paper: ClassVar[tuple[Paper, ...]] = (
        Paper("Sequence Transduction with Recurrent Neural Networks", "Graves", 2012,
              arxiv="1211.3711"),
        Paper("Google's Neural Machine Translation System: Bridging the Gap between Human and "
              "Machine Translation", "Wu et al.", 2016, arxiv="1609.08144"),
    )  # fmt: skip
    width: int = option(4, "texts that go on together", low=1, high=64)
    length_penalty: float = option(1.0, "exponent of the norm")
    early_stopping: str = option("false", "when a search ends", choices=tuple(EARLY))
    norm: str = option("length", "what a score is divided by", choices=("length", "gnmt"))

    @classmethod
    def identity(cls, length: int) -> BeamMethod:
        """Greedy decoding."""
        return cls(width=1)

    def start_mode(self, model: AdaptedModel) -> BeamSearch:
        def groups(limit: int) -> list[BeamGroup]:
            rank = rank_of(self.norm, self.length_penalty)
            return [BeamGroup(self.width, rank, EARLY[self.early_stopping], limit)]

        return BeamSearch(self.name, groups)


__all__ = ["BeamMethod", "rank_of"]
