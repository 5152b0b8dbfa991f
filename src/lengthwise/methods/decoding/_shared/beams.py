"""Beams: texts that grow together, of which every step keeps the likeliest.

A beam is a fork of what the prompt left (`Sequence.branch`), so prompts are read once and held
once. Scores, the order of candidates and the rules by which a search ends are those of
transformers' beam search, so that both give the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq, Set
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lengthwise.engine.decoding_mode import Alternative, DecodingMode, StepInput
from lengthwise.engine.kv_cache.received import newest_attention
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.watching import follow_queries
from lengthwise.engine.sampler import DRAWN, Sampler
from lengthwise.errors import ConstraintError

# Words of a recipe for transformers' `early_stopping`.
EARLY: dict[str, bool | str] = {"false": False, "true": True, "never": "never"}


@dataclass
class Beam:
    """A text that goes on. tokens: behind the prompt; the last of them is not fed yet. score: by
    which it is kept. logprob: its log-probability, without what a search adds. covered: float32
    `[prompt]`, the attention that its tokens gave each token of the prompt; None takes nothing off
    a rank."""

    sequence: Sequence
    tokens: list[int]
    score: float = 0.0
    logprob: float = 0.0
    covered: Tensor | None = None


@dataclass(frozen=True)
class Candidate:
    """A token behind a beam. ended: nothing may follow it."""

    beam: Beam
    token: int
    score: float
    logprob: float
    ended: bool

    @property
    def length(self) -> int:
        """Tokens of the text, a stop token included."""
        return len(self.beam.tokens) + 1


@dataclass
class Ended:
    """A text that has ended. tokens: stop tokens left out. by_stop: rather than cut off."""

    tokens: list[int]
    score: float
    by_stop: bool


# The rank of a text that has ended, of its log-probability, its length with the stop token, and
# the beam that it came of.
Rank = Callable[[float, int, Beam], float]


def by_length(penalty: float) -> Rank:
    """Log-probability over length ** penalty, which is transformers' `length_penalty`."""
    return lambda logprob, length, beam: logprob / length**penalty


# What a search adds to the scores `[beams, vocab]` of a group's candidates: it is given the group,
# the scores, and the tokens that groups before it took at this step.
Steer = Callable[["BeamGroup", Tensor, Seq[int]], Tensor]


@dataclass
class BeamGroup:
    """Beams that compete with each other.

    width: how many. rank: of ended texts. early_stopping: as in transformers: True ends as soon as
    `width` texts have ended, False where no beam can win at its length of now, "never" where none
    can at any length. That counts with a `length_penalty` above 0, and with all that it may come to
    cover.
    """

    width: int
    rank: Rank
    early_stopping: bool | str
    limit: int
    alive: list[Beam] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    closed: bool = False

    def candidates(
        self, ranks: Tensor, scores: Tensor, logprobs: Tensor, stop_ids: Set[int],
        ends: Callable[[Seq[int]], bool],
    ) -> list[Candidate]:  # fmt: skip
        """The best tokens behind the beams, best first: as many as leave `width` that go on.

        Args:
            ranks: `[beams, vocab]`, by which they are chosen: the scores, or these with noise.
            scores: `[beams, vocab]` of the texts, by which they are kept.
            logprobs: `[beams, vocab]` of the texts, the model's own.
            stop_ids: tokens that end a text.
            ends: whether a text is complete for another reason.
        """
        vocab = ranks.shape[-1]
        count = min(ranks.numel(), max(2, 1 + len(stop_ids)) * self.width)
        best, places = ranks.reshape(-1).topk(count)
        found = []
        for rank, place in zip(best.tolist(), places.tolist(), strict=True):
            if rank == float("-inf"):
                break
            row, token = divmod(place, vocab)
            beam = self.alive[row]
            ended = token in stop_ids or len(beam.tokens) + 1 >= self.limit
            ended = ended or ends([*beam.tokens, token])
            score, logprob = float(scores[row, token]), float(logprobs[row, token])
            found.append(Candidate(beam, token, score, logprob, ended))
        return found

    def take(self, found: Seq[Candidate], stop_ids: Set[int]) -> None:
        """Makes beams and ended texts of candidates, best first."""
        for candidate in found[: self.width]:
            if candidate.ended:
                self._end(candidate, stop_ids)
        going = [candidate for candidate in found if not candidate.ended][: self.width]
        self.alive = _forked(going)
        self.closed = self.closed or not self.alive or self._decided()

    def _end(self, candidate: Candidate, stop_ids: Set[int]) -> None:
        by_stop = candidate.token in stop_ids
        tokens = [*candidate.beam.tokens, *([] if by_stop else [candidate.token])]
        rank = self.rank(candidate.logprob, candidate.length, candidate.beam)
        self.ended.append(Ended(tokens, rank, by_stop))
        # The sort is stable: of equals the first to end comes first.
        self.ended = sorted(self.ended, key=lambda each: -each.score)[: self.width]

    def _decided(self) -> bool:
        """Whether no beam can become one of the best texts."""
        if len(self.ended) < self.width:
            return False
        if self.early_stopping is True:
            return True
        beams, lengths = self.alive, [len(self.alive[0].tokens)]
        if self.early_stopping == "never":
            lengths.append(self.limit)
            beams = [replace(beam, covered=None) for beam in beams]
        possible = max(
            self.rank(beam.logprob, length, beam) for beam in beams for length in lengths
        )
        return possible <= self.ended[-1].score


def _forked(going: Seq[Candidate]) -> list[Beam]:
    """Beams of candidates: the last child of a beam takes its sequence over, others fork it."""
    last = {id(candidate.beam): number for number, candidate in enumerate(going)}
    beams = []
    for number, each in enumerate(going):
        sequence = each.beam.sequence
        if last[id(each.beam)] != number:
            sequence = sequence.fork()
        tokens = [*each.beam.tokens, each.token]
        beams.append(Beam(sequence, tokens, each.score, each.logprob, each.beam.covered))
    return beams


class BeamSearch(DecodingMode):
    """Groups of beams over one prompt; each group is grown once a step, in order.

    groups: makes them for a limit of new tokens. steer: see `Steer`. covering: the layer whose
    attention to the prompt is summed up in `Beam.covered`; None sums nothing.
    """

    def __init__(
        self, name: str, groups: Callable[[int], list[BeamGroup]], steer: Steer | None = None,
        covering: int | None = None,
    ) -> None:  # fmt: skip
        self.name, self._make, self._steer, self._covering = name, groups, steer, covering
        self._width = sum(group.width for group in groups(1))
        self.groups: list[BeamGroup] = []
        self.prompt: list[int] = []
        self._context: list[int] = []
        self.stop_ids: Set[int] = frozenset()
        self.fed = 0
        self._last: list[Sequence] = []

    def begin(self, sampler: Sampler, limit: int, stop_ids: Set[int]) -> None:
        self.sampler, self.stop_ids = sampler, stop_ids
        self.groups = self._make(limit)

    def start(self, sequence: Sequence, logits: Tensor) -> None:
        self.prompt = list(sequence.tokens)
        self._context = list(self.prompt)
        covers = self._covering is not None
        for group in self.groups:
            # Nothing is fed yet, so a text that ends at once covers nothing.
            covered = torch.zeros(len(self.prompt), device=logits.device) if covers else None
            # The first fork freezes what the prompt left, and all others hold it in common.
            group.alive = [Beam(sequence.branch(), [], covered=covered)]
            if covers:
                follow_queries(group.alive[0].sequence.layers)
        self._grow([logits] * len(self.groups))

    @property
    def done(self) -> bool:
        return all(group.closed for group in self.groups)

    @property
    def growing(self) -> list[BeamGroup]:
        """Groups that go on."""
        return [group for group in self.groups if not group.closed]

    def step_inputs(self) -> list[StepInput]:
        return [
            StepInput(beam.sequence, beam.tokens[-1])
            for group in self.growing
            for beam in group.alive
        ]

    def advance(self, logits: Seq[Tensor]) -> None:
        self.fed += len(logits)
        self._last = [beam.sequence for group in self.growing for beam in group.alive]
        if self._covering is not None:
            for beam in (beam for group in self.growing for beam in group.alive):
                given = newest_attention(beam.sequence, self._covering)[: len(self.prompt)]
                assert beam.covered is not None
                beam.covered = beam.covered + given.to(beam.covered.device)
        self._grow(logits)

    def _grow(self, logits: Seq[Tensor]) -> None:
        """One token more for every beam; logits `[vocab]` of each, group by group."""
        given = iter(logits)
        chosen: list[int] = []
        for group in self.growing:
            laws = torch.stack([self._law(beam, next(given)) for beam in group.alive])
            device = laws.device
            logprobs = laws + torch.tensor([[b.logprob] for b in group.alive], device=device)
            scores = laws + torch.tensor([[beam.score] for beam in group.alive], device=device)
            if self._steer is not None:
                scores = self._steer(group, scores, chosen)
            found = self._best(group, scores, logprobs)
            if not found and not group.ended:
                raise ConstraintError(
                    f"{self.name}: nothing may follow any of its {len(group.alive)} texts at "
                    f"token {len(group.alive[0].tokens)}; loosen the constraint, or widen the beam"
                )
            group.take(found, self.stop_ids)
            chosen += [beam.tokens[-1] for beam in group.alive]

    def _law(self, beam: Beam, logits: Tensor) -> Tensor:
        """Log-probabilities `[vocab]` behind a beam, as the request has them."""
        law = torch.log_softmax(logits.float(), -1)
        if self.sampler.plain:
            return law
        # The prompt may be long, and stays: what stands behind it is exchanged.
        self._context[len(self.prompt) :] = beam.tokens
        return self.sampler.process(law, self._context)

    def _best(self, group: BeamGroup, scores: Tensor, logprobs: Tensor) -> list[Candidate]:
        """Candidates, best first, or in the order in which they are drawn without replacement."""
        ranks = scores
        if self.sampler.sampling.temperature > 0:
            position = len(self.prompt) + len(group.alive[0].tokens)
            first = DRAWN + self.groups.index(group) * 1024
            ranks = scores + torch.stack([
                self.sampler.noise(position, row, first + number)
                for number, row in enumerate(scores)
            ])  # fmt: skip
        return group.candidates(ranks, scores, logprobs, self.stop_ids, self.sampler.ends)

    def alternatives(self) -> list[Alternative]:
        found = [each for group in self.groups for each in group.ended]
        if not found:
            found = [
                Ended(beam.tokens, group.rank(beam.logprob, len(beam.tokens), beam), False)
                for group in self.groups
                for beam in group.alive
            ]
        best: dict[tuple[int, ...], Alternative] = {}
        for each in sorted(found, key=lambda ended: -ended.score):
            best.setdefault(tuple(each.tokens), Alternative(each.tokens, each.score, each.by_stop))
        return list(best.values())

    @property
    def width(self) -> int:
        return self._width

    def held(self) -> list[Sequence]:
        alive = [beam.sequence for group in self.groups for beam in group.alive]
        # When all texts have ended, what the last step held is what they took.
        return alive or self._last

    @property
    def figures(self) -> dict[str, float]:
        return {f"{self.name}: tokens fed": float(self.fed)}


__all__ = [
    "EARLY", "Beam", "BeamGroup", "BeamSearch", "Candidate", "Ended", "Rank", "Steer", "by_length",
]  # fmt: skip
