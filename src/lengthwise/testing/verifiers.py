"""Checks of verifiers, on random trees and logits: no model is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.engine.guard import accepted_by
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless, Verifier
from lengthwise.methods.base import Method
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.laws import fail
from lengthwise.testing.trees import VOCAB, fingerprint, random_logits, random_tree, said

CONTEXT = [5, 7, 2, 9, 3]
TREES = 12


@dataclass(frozen=True)
class Case:
    """What a verifier is asked: a tree and logits `[nodes, VOCAB]`, with a sampling."""

    tree: Tree
    logits: Tensor
    sampling: Sampling


def _cases(drawn: bool = True) -> Iterator[Case]:
    for seed in range(TREES):
        for temperature in (0.0, 0.9):
            for draws in (False, True)[: 1 + drawn]:
                tree = random_tree(seed, draws)
                yield Case(tree, random_logits(tree, seed), Sampling(temperature, seed=seed))


def _verifier(method: Method, model: AdaptedModel) -> Verifier:
    return method.start_verifier(model) or Lossless()


def check_verifier_path(cls: type[Method], model: AdaptedModel) -> None:
    """What is accepted is a path from the root, and the token after it is one of the vocabulary."""
    verifier = _verifier(cls.example(), model)
    for case in _cases():
        try:
            # A copy of everything: what is changed is the matter of another check.
            tree = case.tree.keep(range(len(case.tree)))
            found = verifier.walk(tree, case.logits.clone(), Sampler(case.sampling), list(CONTEXT))
            accepted_by(found, case.tree, VOCAB)
        except Exception as error:
            fail(cls, model, f"walk of a tree of {len(case.tree)} nodes: {error}")


def check_verifier_arguments(cls: type[Method], model: AdaptedModel) -> None:
    """Tree, logits and context are as they were when a walk is over."""
    verifier = _verifier(cls.example(), model)
    for case in _cases():
        tree = case.tree.keep(range(len(case.tree)))
        before, logits, context = fingerprint(tree), case.logits.clone(), list(CONTEXT)
        try:
            verifier.walk(tree, logits, Sampler(case.sampling), context)
        except Exception:
            continue
        if context != CONTEXT:
            fail(
                cls, model, f"walk left {len(context)} tokens of context where {len(CONTEXT)} were"
            )
        if fingerprint(tree) != before or not torch.equal(logits, case.logits):
            fail(cls, model, "walk changed the tree or the logits it was given")


def check_verifier_text(cls: type[Method], model: AdaptedModel) -> None:
    """A lossless one, or any at its identity, says what the lossless verifier says (law 3)."""
    method = cls.example() if cls.lossless else cls.identity(64)
    if method is None:
        return
    verifier = _verifier(method, model)
    for case in _cases(drawn=False):
        truth = said(case.tree, *Lossless().walk(
            case.tree, case.logits, Sampler(case.sampling), list(CONTEXT)
        ))  # fmt: skip
        try:
            found = verifier.walk(case.tree.keep(range(len(case.tree))), case.logits.clone(),
                                  Sampler(case.sampling), list(CONTEXT))  # fmt: skip
            ours = said(case.tree, *accepted_by(found, case.tree, VOCAB))
        except Exception:
            continue
        # It may take fewer tokens at once, as long as they are the same ones.
        if ours != truth[: len(ours)]:
            how = f"temperature {case.sampling.temperature:g}"
            fail(cls, model, f"{method} says {ours} where the model says {truth}, at {how}")
