"""What the loop asks of a drafter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_depth import DraftDepth
from lengthwise.engine.speculative.tree import Tree


class Drafter(ABC):
    """Guesses what comes next; one object per sequence.

    A drafter that raises is left out for the rest of the request.

    name: its method's, which the engine sets; what its nodes carry as their source.
    runs_model: a level of guesses costs a forward, so the policy says how deep to go. `draft_depth`
    is set before each `propose`; call its `should_continue` after each level.
    drawing: guesses are drawn with noise of their own. Such a drafter is asked before those that
    follow the target's noise.
    remember: how many of the prompt's last queries it wants noted, for a fork that compresses.
    wants_states: it reads the target's hidden states. Those of the prompt are in `Sequence.noted`
    at `begin`; `states` `[nodes, hidden]`, of all that was verified, is set before each `learn`.
    notes: what the user has to know of it.
    lock: held while it begins, proposes, learns and finishes, for what it shares with requests of
    other threads.
    """

    name: str = "drafter"
    runs_model: bool = False
    drawing: bool = False
    remember: int = 0
    wants_states: bool = False
    states: Tensor | None = None
    draft_depth: DraftDepth = DraftDepth()
    notes: Seq[str] = ()
    lock: AbstractContextManager[Any] = nullcontext()

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        """The prompt has been read; retention and codecs that wait for its end have not acted yet.

        Fork the sequence rather than keep it.
        """
        return None

    @abstractmethod
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        """Adds guesses to a tree whose root is tokens[-1], none deeper than `limit`.

        Nodes of drafters asked before stand there already. Where `tree.drawing` is set, neither
        what is guessed nor how much may follow the noise the target will choose with. tokens is the
        text as it grows: it cannot be changed, and costs time when copied.
        """

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        """After verification: logits `[nodes, vocab]`; tokens include the committed ones.

        The tree is what was verified, which may be less than was proposed.
        """
        return None

    def finish(self) -> None:
        """The request is over: what lives longer than a request is put away."""
        return None
