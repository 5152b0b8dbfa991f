"""Superposed decoding: several continuations from the forwards of one.

Shen et al., "Superposed Decoding: Multiple Generations from a Single Autoregressive Inference
Pass", NeurIPS 2024, arXiv:2405.18400.

The model is fed the mixture of the last tokens of all drafts. Its one answer is an approximate
mixture of theirs. N-gram models see each draft by itself, and say which token belongs to which
draft.

    input = sum_i w_i E[last token of draft i],   w = softmax(l)
    p     = softmax(logits / temperature), its `top` likeliest tokens, renormalised
    s(i, v) = (1 - alpha) log p(v) + alpha log sum_n weight_n freq_n(v | last n tokens of draft i)
    l_i v = l_i + s(i, v);   the best 2k of all (i, v) are split into going on and ended

Drafts share their keys and values. So they are suggestions to choose from, and no samples. With one
draft and alpha 0 this is greedy decoding. Ours counts n-grams in the prompt and in each draft, and
in a datastore where one is given. With corpora that small,

- a token that no n-gram knows loses `penalty` where others are known, and is not ruled out as soon
  as its own draft knows any. The authors' 200 was measured to cost perplexity here, hence 5. Where
  nothing is known no token is penalised, which keeps drafts that have ended comparable.
- a stop token is judged by the model alone, because no corpus says where an answer ends.
- a draft ends only if that is among the best k of a step. When k have ended the search is over.
  Texts are ranked by their mean score.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq, Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.decoding_mode import Alternative, DecodingMode, StepInput
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampler import Sampler
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.limits import takes_embeddings
from lengthwise.retrieval.datastore import Datastore, check_tokenizer, opened
from lengthwise.retrieval.ngrams import NgramModels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Superposed(Method):
    """drafts: texts written at once. top: tokens of a step that are looked at. temperature: of the
    model's distribution before that. alpha: weight of the n-gram models. penalty: in nats.
    datastore: a file whose n-grams are counted too."""

    name: ClassVar[str] = "superposed"
    question: ClassVar[Question] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Superposed Decoding: Multiple Generations from a Single Autoregressive Inference Pass",
        "Shen et al.",
        2024,
        arxiv="2405.18400",
        venue="NeurIPS",
        code="https://github.com/RAIVNLab/SuperposedDecoding",
    )
    mixes_tokens: ClassVar[bool] = True
    drafts: int = option(3, "texts written at once", low=1, high=64)
    top: int = option(9, "likeliest tokens that are looked at", low=1)
    temperature: float = option(0.06, "of the model's distribution", low=1e-3)
    alpha: float = option(0.54, "weight of the n-gram models", low=0.0, high=1.0)
    penalty: float = option(5.0, "what a token loses that no n-gram knows", low=0.0)
    datastore: str = option("", "file made by `lengthwise datastore build`")

    @classmethod
    def identity(cls, length: int) -> Superposed:
        """Greedy decoding."""
        return cls(drafts=1, alpha=0.0)

    def check(self, model: AdaptedModel) -> None:
        """Opens the datastore and tries whether the model can be fed a mixture."""
        if not takes_embeddings(model):
            raise Refused(
                f"{self.name} feeds mixtures of embeddings, and models of family {model.family!r} "
                "answer otherwise when they are fed embeddings than when they are fed tokens",
                "use another recipe, and sample several answers",
            )
        store = self.open()
        if store is not None:
            check_tokenizer(store, self.datastore, model)

    def open(self) -> Datastore | None:
        """The datastore, mapped once a process; None where none is asked for."""
        return opened(self.name, self.datastore) if self.datastore else None

    def start_mode(self, model: AdaptedModel) -> Superposition:
        return Superposition(self, model, self.open())


@dataclass(frozen=True)
class _Draft:
    """tokens, and the sum of their scores."""

    tokens: list[int]
    total: float


class Superposition(DecodingMode):
    """Drafts that share one sequence. alive: those that go on, best first; ended: by stop tokens,
    best first."""

    mixes: ClassVar[bool] = True

    def __init__(self, options: Superposed, model: AdaptedModel, store: Datastore | None) -> None:
        self.options, self.model, self.store = options, model, store
        self.alive = [_Draft([], 0.0)]
        self.ended: list[Alternative] = []
        self.limit = 0
        self.stop_ids: Set[int] = frozenset()
        self.grams: NgramModels | None = None

    def begin(self, sampler: Sampler, limit: int, stop_ids: Set[int]) -> None:
        if not sampler.sampling.plain:
            raise LengthwiseError(
                f"{self.options.name} ranks its texts and samples none: leave out temperature and "
                "repetition penalty, or leave out superposed"
            )
        self.limit, self.stop_ids = limit, stop_ids

    def start(self, sequence: Sequence, logits: Tensor) -> None:
        self.sequence = sequence
        if self.options.alpha:
            self.grams = NgramModels(sequence.tokens, self.store)
        self.advance([logits])

    @property
    def done(self) -> bool:
        full = len(self.ended) >= self.options.drafts
        return full or not self.alive or len(self.alive[0].tokens) >= self.limit

    def step_inputs(self) -> list[StepInput]:
        ids = [draft.tokens[-1] for draft in self.alive]
        device = self.model.device
        totals = torch.tensor([draft.total for draft in self.alive], dtype=torch.float64)
        weights = torch.softmax(totals, 0).to(device, torch.float32)
        each = self.model.embed(torch.tensor(ids, device=device))
        return [StepInput(self.sequence, ids[0], (weights @ each.float()).to(each.dtype))]

    def advance(self, logits: Seq[Tensor]) -> None:
        """Grows every draft by the tokens that suit it, and keeps the best."""
        tokens, log_probs = _likeliest(logits[0], self.options.top, self.options.temperature)
        totals = np.array([[draft.total] for draft in self.alive]) + self._judge(tokens, log_probs)
        count = self.options.drafts
        best = (-totals.ravel()).argsort(kind="stable")[: 2 * count]
        alive: list[_Draft] = []
        parents, columns = [], []
        for rank, place in enumerate(best.tolist()):
            parent, column = divmod(place, len(tokens))
            token, total = int(tokens[column]), float(totals[parent, column])
            if token in self.stop_ids:
                if rank < count:
                    self._end(self.alive[parent].tokens, total)
            elif len(alive) < count:
                alive.append(_Draft([*self.alive[parent].tokens, token], total))
                parents.append(parent)
                columns.append(column)
        self.alive = alive
        if self.grams is not None and alive:
            self.grams.take(parents, columns)

    def alternatives(self) -> list[Alternative]:
        found = list(self.ended)
        if len(found) < self.options.drafts:
            found += [Alternative(d.tokens, d.total / len(d.tokens), False) for d in self.alive]
        return sorted(found, key=lambda each: -each.score)[: self.options.drafts]

    def _end(self, tokens: list[int], total: float) -> None:
        """Notes a draft that has ended; two stop tokens after the same text make one."""
        if all(tokens != each.tokens for each in self.ended):
            self.ended.append(Alternative(tokens, total / (len(tokens) + 1), True))

    def _judge(self, tokens: NDArray[np.int64], log_probs: Floats) -> Floats:
        """Scores `[drafts, n]` of tokens after each draft; log_probs `[n]`: the model's."""
        alpha = self.options.alpha
        scores = np.broadcast_to((1 - alpha) * log_probs, (len(self.alive), len(tokens)))
        if self.grams is None:
            return scores
        ngram_probs = self.grams.probs(tokens)
        known = ngram_probs > 0
        if known.any():
            said = alpha * np.log(ngram_probs, where=known, out=np.zeros_like(ngram_probs))
            scores = scores + np.where(known, said, -self.options.penalty)
        stops = np.array([int(token) in self.stop_ids for token in tokens])
        return np.where(stops, log_probs, scores)


def _likeliest(logits: Tensor, top: int, temperature: float) -> tuple[NDArray[np.int64], Floats]:
    """The `top` likeliest tokens of logits `[vocab]`, best first, of equals the first, and their
    renormalised log-probabilities."""
    values, ids = logits.float().topk(min(top, len(logits)))
    numbers, tokens = values.double().cpu().numpy(), ids.cpu().numpy()
    order = np.lexsort((tokens, -numbers))
    scaled = (numbers[order] - numbers.max()) / temperature
    return tokens[order], scaled - np.log(np.exp(scaled).sum())
