"""What the loop asks of a drafter, and how deep it may go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.tree import Tree


class Pace:
    """How deep a drafter that asks a model goes, decided level by level as it goes. The plain one
    stops nowhere.

    wants_state: hidden states are looked at. levels: how many were guessed.
    """

    wants_state = False

    def __init__(self) -> None:
        self.levels = 0

    def go_on(self, grade: int, prior: float, state: Tensor | None = None) -> bool:
        """Called after each level with the grade and prior of its best guess, and the hidden state
        `[hidden]` it was read from; returns whether to guess another. What was drawn stays."""
        self.levels += 1
        return True


class Drafter(ABC):
    """Guesses what comes next; one object per sequence.

    A drafter that raises is left out for the rest of the request. name: what its nodes carry as
    their source. asks_model: a guess costs a forward, so the policy says how deep to go: `pace` is
    set before each `propose`, and its `go_on` is called after each level. drawing: guesses are
    drawn with noise of their own; asked before those who follow the target's noise. remember: last
    queries of the prompt it wants noted, for a fork that compresses. wants_states: it reads the
    target's hidden states: those of the prompt are in `Sequence.noted` at `begin`, and `states`
    `[nodes, hidden]`, of all that was verified, is set before each `learn`. notes: what the user
    has to know of it. lock: held while it begins, proposes, learns and finishes, for what it shares
    with requests of other threads.
    """

    name: str
    asks_model: bool = False
    drawing: bool = False
    remember: int = 0
    wants_states: bool = False
    states: Tensor | None = None
    pace: Pace = Pace()
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
        loop's own list: it grows, is not to be changed, and costs time when copied.
        """

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        """After verification: logits `[nodes, vocab]`; tokens include the committed ones.

        The tree is what was verified, which may be less than was proposed.
        """
        return None

    def finish(self) -> None:
        """The request is over: what lives longer than a request is put away."""
        return None
