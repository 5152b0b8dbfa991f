"""Calls into plug-ins that decide about guesses. Guesses are a matter of speed alone, so whoever
fails is left out with one note, and the text goes on.

A drafter is replaced by nobody, a length policy by the model's own, a verifier by the lossless one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from operator import index
from typing import Generic, TypeVar

from lengthwise._utils.messages import first_line
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_depth import DraftDepth, DrafterView
from lengthwise.engine.speculative.draft_length import LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Verifier
from lengthwise.errors import LengthwiseError

Made = TypeVar("Made")


@dataclass(frozen=True)
class Maker(Generic[Made]):
    """Makes the state of a method for one sequence. A drafter carries the method's name, whatever
    its class says."""

    name: str
    make: Callable[[], Made]

    def __call__(self) -> Made:
        made = self.make()
        if isinstance(made, Drafter) and made.name != self.name:
            made.name = self.name
        return made


def left_out(what: str, error: Exception) -> str:
    """The note of a plug-in that failed."""
    return f"{what} failed and was left out: {first_line(error)}"


def start_drafters(
    makers: Seq[Callable[[], Drafter | None]],
) -> tuple[list[Drafter], list[str]]:
    """The drafters of a request, and a note of each that cannot be made.

    What a drafter says itself, as a LengthwiseError, is for the user and raised.
    """
    found: list[Drafter] = []
    notes: list[str] = []
    for make in makers:
        try:
            drafter = make()
            if drafter is not None:
                found.append(_whole(drafter))
        except LengthwiseError:
            raise
        except Exception as error:
            name = getattr(make, "name", "of this recipe")
            notes.append(left_out(f"drafter {name}", error))
    return found, notes


def _whole(drafter: Drafter) -> Drafter:
    if not isinstance(drafter, Drafter):
        raise TypeError(f"start_drafter gave a {type(drafter).__name__}, which is no Drafter")
    # Whatever is asked of it before its first turn is asked here, where it may fail.
    _ = drafter.name, int(drafter.remember), bool(drafter.runs_model)
    _ = bool(drafter.wants_states), bool(drafter.last_state)
    return drafter


def start_verifier(make: Callable[[], Verifier | None] | None) -> tuple[Verifier | None, list[str]]:
    """The verifier of a request, None for the lossless one, and a note where it cannot be made."""
    try:
        return (make() if make is not None else None), []
    except LengthwiseError:
        raise
    except Exception as error:
        return None, [left_out("the verifier of this recipe", error)]


def accepted_by(found: tuple[Seq[int], int], tree: Tree, vocab_size: int) -> tuple[list[int], int]:
    """What a verifier accepted, where that can be committed; raises LengthwiseError otherwise."""
    accepted, token = found
    nodes, token = [index(node) for node in accepted], index(token)
    if nodes[:1] != [0]:
        raise LengthwiseError("what it accepted does not begin with the root, node 0")
    for above, node in zip(nodes, nodes[1:], strict=False):
        if not 0 < node < len(tree) or tree.parents[node] != above:
            raise LengthwiseError(f"it accepted node {node} after node {above}, which is no path")
    if not 0 <= token < vocab_size:
        raise LengthwiseError(f"it chose token {token} of a vocabulary of {vocab_size}")
    return nodes, token


class GuardedPolicy(LengthPolicy):
    """A length policy for one step. From its first failure on nobody is asked and all is verified.

    failed: what it raised.
    """

    def __init__(self, policy: LengthPolicy) -> None:
        self.policy = policy
        self.failed: Exception | None = None

    def _ask(self, ask: Callable[[], Made], otherwise: Callable[[], Made]) -> Made:
        if self.failed is None:
            try:
                return ask()
            except Exception as error:
                self.failed = error
        return otherwise()

    def clock(self) -> float:
        return self._ask(self.policy.clock, time.perf_counter)

    def draft_depth(
        self, load: Load, drafter: DrafterView, tree: Tree, acceptance: Acceptance, limit: int
    ) -> DraftDepth | None:
        def ask() -> DraftDepth | None:
            found = self.policy.draft_depth(load, drafter, tree, acceptance, limit)
            if found is not None and not isinstance(found, DraftDepth):
                raise TypeError(
                    f"it gave a {type(found).__name__} where a DraftDepth or None is due"
                )
            return found

        return self._ask(ask, lambda: None)

    def choose(self, load: Load, trees: Seq[Tree], acceptances: Seq[Acceptance]) -> list[Tree]:
        def ask() -> list[Tree]:
            found = list(self.policy.choose(load, trees, acceptances))
            if len(found) != len(trees):
                raise LengthwiseError(f"it gave back {len(found)} trees of {len(trees)}")
            for before, after in zip(trees, found, strict=True):
                if after.tokens[0] != before.tokens[0] or len(after) > len(before):
                    raise LengthwiseError("it gave back a tree that is not the one given, pruned")
            return found

        return self._ask(ask, lambda: list(trees))

    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        self._ask(lambda: self.policy.observe(load, guesses, seconds), lambda: None)

    def drafted(self, load: Load, drafter: DrafterView, levels: int, seconds: float) -> None:
        self._ask(lambda: self.policy.drafted(load, drafter, levels, seconds), lambda: None)

    def gained(self, load: Load, drafter: DrafterView, tokens: int) -> None:
        self._ask(lambda: self.policy.gained(load, drafter, tokens), lambda: None)


def require_draws(policy: LengthPolicy, proposed: Seq[Tree], trees: Seq[Tree]) -> None:
    """Raises LengthwiseError where a policy left out guesses that were drawn."""
    for before, after in zip(proposed, trees, strict=True):
        if before.draws and _draws(before) != _draws(after):
            raise LengthwiseError(
                f"the policy {type(policy).__name__} left out guesses that were drawn, which "
                "changes what is said; it must keep all of tree.drawn()"
            )


def _draws(tree: Tree) -> int:
    return sum(map(len, tree.draws.values()))
