"""TOVA: what the newest token attends to stays, and the least attended goes.

Oren et al., "Transformers are Multi-State RNNs", EMNLP 2024, arXiv:2401.06104.

A cache of a fixed size makes a transformer a recurrent network with several states. Which of them
goes is decided by the attention of the newest query alone, averaged over the heads of a layer. So
no token is favoured for where it stands, not even the latest. With p the softmax of the model and t
the newest token,

    s[j] = mean over all query heads h of p_h[t, j]
    kept = the `budget` entries of the largest s, one set for all heads of a layer

A prompt is read in full and cut at its end by its last query, as the authors' code does. While
decoding every new token decides again.

Ours: entries are dropped in runs of budget/64, by the query that fills the cache, not one a step.
So memory is really freed, and drafts have room. Entries keep their original positions, as the
authors' code does by default. The index of a token is paid out of the budget. A share is never
fewer tokens than `floor`.

kvpress always keeps the last token of the prompt, and drops nothing while decoding.

The paper has no default. Ours is its smallest size that stays near full attention in language
modelling, 512: an eighth of what its models were trained for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.received import received_attention
from lengthwise.engine.kv_cache.retention import CacheUpdate
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Paper, Question, option
from lengthwise.methods.retention.counting import SIDE_BYTES, floor_option, plain_bytes
from lengthwise.methods.retention.steady import RUNS, Steady, SteadyMethod

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class TOVA(SteadyMethod):
    """Keeps what the newest token attends to."""

    name: ClassVar[str] = "tova"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "Transformers are Multi-State RNNs",
        "Oren et al.",
        2024,
        arxiv="2401.06104",
        venue="EMNLP",
        code="https://github.com/schwartz-lab-NLP/TOVA",
    )
    ordinary_only: ClassVar[bool] = True
    deletes_each_step: ClassVar[bool] = True

    budget: Budget = option(Budget(512), "what each layer keeps, at all times")
    floor: int = floor_option()

    @classmethod
    def example(cls) -> TOVA:
        return cls(budget=Budget(24), floor=8)

    @classmethod
    def identity(cls, length: int) -> TOVA:
        return cls(budget=Budget(length))

    def capacity(self, model: AdaptedModel, layer: LayerFacts, tokens: int) -> tuple[int, int]:
        """Entries that the bytes of `tokens` plain tokens pay for, and how many are dropped at
        once; raises Refused where none would stay."""
        plain = plain_bytes(layer, model.dtype)
        # All heads keep the same tokens, so a token has one index.
        capacity, run = tokens * plain // (plain + SIDE_BYTES), max(1, tokens // RUNS)
        if capacity <= run:
            raise Refused(
                f"tova: {tokens} tokens do not pay for one entry and its index",
                "give a budget of at least 3",
            )
        return capacity, run

    def start_retention(self, model: AdaptedModel) -> NewestVotes:
        return NewestVotes(self)


class NewestVotes(Steady):
    """Goes on keeping what the newest query attends to."""

    window = 1
    wants_attention_mass = False
    follows_queries = True

    def keep(self, group: HeadGroup, update: CacheUpdate, count: int, room: int) -> None:
        group.keep(newest_votes(group, update).topk(count).indices.sort().values, room)


def newest_votes(group: HeadGroup, update: CacheUpdate) -> Tensor:
    """What each entry is given by the newest query, `[entries]`, on average over all heads."""
    return received_attention(group, update, 1).mean(0)


__all__ = ["TOVA", "NewestVotes", "newest_votes"]
