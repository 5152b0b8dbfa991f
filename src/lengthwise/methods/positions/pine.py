"""PINE: documents that have no order, each query putting them in its own.

Wang et al., "Eliminating Position Bias of Language Models: A Mechanistic Approach", ICLR 2025,
arXiv:2407.01100.

Documents 1..N of n_i tokens stand behind a prefix of P tokens. All of them end at the same position
E - 1 = P + n_1 + .. + n_N - 1, and what follows stands from E on. They see each other in both
directions. Importance is attention without positions, for each layer and query head:

    p       = softmax(q K^T / sqrt(d)),  q and K before rotation, K of documents alone
    s_j     = sum of p over the tokens of document j, divided by n_j
    shift_j = n of all documents with a greater s                document j ends at E - 1 - shift_j

A token behind the documents sees the prefix, all documents so placed, and the text before it. A
token of document i sees the prefix, its own document causally, and the others whole: p is over the
others, s is summed over all tokens of i, which has one order, and its own document ranks first. So
no query knows in which order documents were given. With one document all of it is full attention.

Ours differs in how it is computed: a document stays where it is and the query turns (see
`engine/kv_cache/order_free.py`), p comes from log-sum-exps in float32, and theirs in the model's
dtype. Documents of equal importance stand in the order of their token ids; `Model.read_apart` reads
them in that order, so that others give the same bits. Theirs takes a batch of 1 and no codec.
Refused are models with windows of their own and models that change frequencies with the length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.engine.kv_cache.order_free import OrderFree
from lengthwise.methods.base import Method, Paper, Question
from lengthwise.methods.positions.whole_view import needs_whole_view

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Pine(Method):
    """It has no options: the documents say all of it."""

    name: ClassVar[str] = "pine"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "Eliminating Position Bias of Language Models: A Mechanistic Approach",
        "Wang et al.",
        2025,
        arxiv="2407.01100",
        venue="ICLR",
        code="https://github.com/wzq016/PINE",
    )
    raw_keys: ClassVar[bool] = True
    frozen_positions: ClassVar[bool] = True
    ordinary_only: ClassVar[bool] = True

    @classmethod
    def identity(cls, length: int) -> Pine:
        # One document, or none, is read in order.
        return cls()

    def check(self, model: AdaptedModel) -> None:
        needs_whole_view(self, model)

    def contexts(self, model: AdaptedModel) -> OrderFree:
        return OrderFree()


__all__ = ["Pine"]
