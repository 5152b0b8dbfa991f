"""Beam search, with transformers' length penalty or that of GNMT.

Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, arXiv:1211.3711, for the
search; Wu et al., "Google's Neural Machine Translation System: Bridging the Gap between Human and
Machine Translation", 2016, arXiv:1609.08144, for the penalty.

    score(y v) = score(y) + log p(v | x, y);   the best `width` of all go on
    rank(y)    = score(y) / |y| ^ length_penalty                      norm=length, as transformers
    rank(y)    = score(y) / ((5 + |y|) / 6) ^ length_penalty          norm=gnmt
                 + coverage * sum_i log min(sum_j a_ij, 1)            with coverage above 0

a_ij is the attention that token j of the text gives token i of the prompt: the paper's is that of
its decoder on the source. A model that has a decoder alone has none, so ours is the mean over the
heads of one of its layers, of the queries that were fed behind the prompt. A token of the prompt
that gets none counts as 1e-10. The paper has 0.2 for both on models trained by likelihood.

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

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.decoding._shared.beams import EARLY, Beam, BeamGroup, BeamSearch, Rank
from lengthwise.models.adapted_model import AdaptedModel

# Attention that a token of the prompt has got at least, so that its logarithm is a number.
LEAST = 1e-10
COVERS = Needs("coverage above 0", lambda method: method.coverage > 0)


def rank_of(norm: str, penalty: float, coverage: float = 0.0) -> Rank:
    """How texts that have ended are ranked.

    Args:
        norm: "length" or "gnmt".
        penalty: the exponent.
        coverage: what the logarithm of attention to the prompt counts.
    """

    def rank(logprob: float, length: int, beam: Beam) -> float:
        by = float(length) if norm == "length" else (5 + length) / 6
        covered = 0.0
        if coverage and beam.covered is not None:
            covered = coverage * float(beam.covered.clamp(LEAST, 1).log().sum())
        return float(logprob / by**penalty + covered)

    return rank


@dataclass(frozen=True)
class BeamMethod(Method):
    """width: texts that go on together. length_penalty: the exponent of the norm. early_stopping:
    when a search ends, see `BeamGroup`. norm: what a score is divided by. coverage: what it counts
    that a text attends to all of the prompt. layer: by which that is told, -1 for the last."""

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
    coverage: float = option(0.0, "weight of attention to all of the prompt", low=0.0)
    layer: int = option(-1, "layer whose attention that is", needs=COVERS)

    @classmethod
    def identity(cls, length: int) -> BeamMethod:
        """Greedy decoding."""
        return cls(width=1)

    def check(self, model: AdaptedModel) -> None:
        """Refuses a layer that there is not, or one that does not see the whole prompt."""
        count = len(model.layers)
        if self.coverage and not -count <= self.layer < count:
            raise Refused(
                f"{self.name}: this model has no layer {self.layer}",
                f"give -{count} to {count - 1}",
            )
        if self.coverage and model.layers[self.layer % count].window is not None:
            raise Refused(
                f"{self.name}: layer {self.layer} of this model sees a window of the prompt alone",
                "give another layer",
            )

    def start_mode(self, model: AdaptedModel) -> BeamSearch:
        def groups(limit: int) -> list[BeamGroup]:
            rank = rank_of(self.norm, self.length_penalty, self.coverage)
            return [BeamGroup(self.width, rank, EARLY[self.early_stopping], limit)]

        covering = self.layer % len(model.layers) if self.coverage else None
        return BeamSearch(self.name, groups, covering=covering)


__all__ = ["BeamMethod", "rank_of"]
