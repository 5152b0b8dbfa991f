"""The law of documents that are set apart from the text around them."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from lengthwise.engine.documents import read_documents
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import FULL, Plan
from lengthwise.methods.base import Method
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.drive import WHOLE, read
from lengthwise.testing.laws import SHIFT, SHIFT_TOLERANCE, TOLERANCE, difference, fail
from lengthwise.testing.tiny import tokens

PREFIX, TEXT, STEPS = tokens(5, 1), tokens(13, 2), 6
DOCUMENTS = [tokens(21, 3), tokens(9, 4), tokens(16, 5)]


def check_documents(cls: type[Method], model: AdaptedModel) -> None:
    """Laws 1 and 4 for documents set apart: the setting that does nothing, chunks, single tokens,
    forks and moved positions; and their order, where the rule says that it is nothing.

    Args:
        cls: the method, at `cls.example` and `cls.identity`.
        model: what it runs on.

    Raises:
        ConformanceError: where logits of the text behind the documents differ.
    """
    method = cls.example()
    plan = resolve((method,), model)
    if plan.contexts is None:
        fail(cls, model, f"{method} has the hook `contexts`, which gives no rule")
    right = _answer(_read(model, plan, DOCUMENTS))
    cases = {
        "documents read 7 tokens at a time": (_answer(_read(model, plan, DOCUMENTS, 7)), TOLERANCE),
        "a fork of documents": (_answer(_read(model, plan, DOCUMENTS).fork()), TOLERANCE),
        "the text behind documents in one piece": (
            read(_read(model, plan, DOCUMENTS), TEXT), TOLERANCE,
        ),
        "documents with all positions moved": (
            _answer(_read(model, plan, DOCUMENTS, offset=SHIFT)), SHIFT_TOLERANCE,
        ),
    }  # fmt: skip
    if plan.contexts.order_free:
        for order in ((2, 0, 1), (1, 0, 2)):
            mixed = [DOCUMENTS[n] for n in order]
            cases[f"documents in the order {order}"] = _answer(_read(model, plan, mixed)), TOLERANCE
    identity = cls.identity(sum(map(len, DOCUMENTS)))
    if identity is not None:
        alone = _answer(_read(model, resolve((identity,), model), DOCUMENTS[:1]))
        whole = Sequence(model, FULL)
        read(whole, [*PREFIX, *DOCUMENTS[0]])
        _require(cls, model, "one document at the identity", alone, _answer(whole), TOLERANCE)
    for what, (found, most) in cases.items():
        _require(cls, model, what, found, right, most)


def _read(
    model: AdaptedModel, plan: Plan, documents: Seq[Seq[int]], chunk: int | None = None,
    offset: int = 0,
) -> Sequence:  # fmt: skip
    prefix = Sequence(model, plan, offset=offset)
    read(prefix, PREFIX)
    return read_documents(prefix, documents, chunk)


def _answer(sequence: Sequence) -> Tensor:
    """Logits of a text behind: some of it read, the rest fed one by one."""
    first = read(sequence, TEXT[:-STEPS], WHOLE)
    sequence.end_prefill()
    return torch.cat([first, read(sequence, TEXT[-STEPS:], 1)])


def _require(
    cls: type[Method], model: AdaptedModel, what: str, ours: Tensor, theirs: Tensor, most: float
) -> None:
    error = difference(ours, theirs)
    if not error <= most:
        fail(cls, model, f"{what}: logits differ by {error:.2g}")


__all__ = ["check_documents"]
