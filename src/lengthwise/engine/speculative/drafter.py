"""What the loop asks of a drafter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from lengthwise.engine.kv_cache.held import Held
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
    last_state: of the prompt, the state of its last token is enough.
    notes: what the user has to know of it.
    lock: held while it begins, proposes, learns and finishes, for what it shares with requests of
    other threads.
    """

    name: str = "drafter"
    runs_model: bool = False
    drawing: bool = False
    remember: int = 0
    wants_states: bool = False
    last_state: bool = False
    states: Tensor | None = None
    draft_depth: DraftDepth = DraftDepth()
    notes: Seq[str] = ()
    lock: AbstractContextManager[Any] = nullcontext()

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        """The prompt has been read; retention and codecs that wait for its end have not acted yet.

        Args:
            sequence: the target's. Fork it rather than keep it.
            sampling: how the target's tokens are chosen.
        """
        return None

    @abstractmethod
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        """Adds guesses to a tree.

        Where `tree.drawing` is set, neither what is guessed nor how much may follow the noise that
        the target will choose with.

        Args:
            tokens: the text as it grows. It cannot be changed, and costs time when copied.
            tree: its root is tokens[-1]. Nodes of drafters asked before stand there already.
            limit: the deepest that a guess may stand; the root has depth 0.
        """

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        """What became of the guesses.

        Args:
            tokens: the text, with the tokens that were just committed.
            tree: what was verified, which may be less than was proposed.
            logits: the target's, `[nodes, vocab]`.
            accepted: the nodes that were accepted, root first.
        """
        return None

    def held(self) -> Seq[Held]:
        """Caches of its own that hold keys and values now, of whatever model: their bytes count."""
        return ()

    def finish(self) -> None:
        """The request is over: what lives longer than a request is put away."""
        return None
