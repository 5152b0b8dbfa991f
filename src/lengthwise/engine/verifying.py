"""One row of a step in which guesses were scored: what is accepted of them, and committed."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.losses import note_token_nll
from lengthwise.engine.request import Request, Verification
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import NotFinite


class Score(Protocol):
    """One row's tree in a forward of its own."""

    def __call__(
        self, request: Request, tree: Tree, wants_states: bool
    ) -> tuple[Tensor, StepMetadata, Tensor | None]: ...


def verify_row(
    request: Request, proposed: Tree, tree: Tree, logits: Tensor, metadata: StepMetadata,
    states: Tensor | None, score: Score,
) -> Verification:  # fmt: skip
    """Verifies and commits one row; most arguments are those of its `Verification`.

    Args:
        request: the row.
        proposed: all guesses.
        tree: those that were scored.
        logits: `[nodes, vocab]` of these.
        metadata: of the forward.
        states: hidden states `[nodes, hidden]`, where somebody wants them.
        score: scores a tree anew, where a guess has spoilt the logits.
    """
    sequence = request.sequence
    try:
        request.sampler.state = None if states is None else states[0]
        accepted, token = request.walk(tree, logits)
    except NotFinite:
        if len(tree) == 1:
            raise
        # In attention nothing times NaN is NaN: a guess that overflows spoils what comes before it.
        sequence.discard()
        tree = Tree(request.pending)
        logits, metadata, states = score(request, tree, states is not None)
        request.sampler.state = None if states is None else states[0]
        accepted, token = request.walk(tree, logits)
    new = [tree.tokens[node] for node in accepted[1:]] + [token]
    taken = request.emit(new, logits, accepted)
    # A stop inside an accepted run: what comes after it was never said, here or in the cache.
    said = len(taken) + (request.stopped is not None)
    accepted, new = accepted[:said], new[:said]
    request.pending = new[-1]
    kept = [tree.tokens[node] for node in accepted]
    if sequence.wants_token_nll:
        note_token_nll(sequence, logits[torch.tensor(accepted, device=logits.device)], kept)
    sequence.commit(metadata, kept, accepted)
    request.metrics.drafted += len(tree) - 1
    request.right = [tree.sources[node] for node in accepted[1:]]
    for source in request.right:
        request.metrics.accepted[source] = request.metrics.accepted.get(source, 0) + 1
    return Verification(tree, proposed, logits, accepted, new, taken, states)


__all__ = ["Score", "verify_row"]
