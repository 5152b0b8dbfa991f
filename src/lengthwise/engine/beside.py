"""A piece of a prompt that is read in the same forward as a step of those who write.

The weights are read once for both (Sarathi-Serve calls it piggybacking: Agrawal et al., arXiv
2403.02310).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise._utils.saying import say_once
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.speculative.tree import Tree
from lengthwise.models.limits import require_positions

Row = tuple[Sequence, Seq[int], Tree | None]


class Extend(Protocol):
    """`loop.extend`."""

    def __call__(
        self, items: Seq[Row], keep: Seq[str], states: list[Tensor] | None
    ) -> tuple[list[Tensor], list[StepMetadata]]: ...


@dataclass(eq=False)
class Beside:
    """sequence: whose prompt it is. tokens: at least one, that it reads on.

    read: whether a step has read them; where none did, nothing has changed. error: why they could
    not be kept although they were read. Raises Refused where the model has no positions for them.
    """

    sequence: Sequence
    tokens: Seq[int]
    read: bool = False
    error: Exception | None = None

    def __post_init__(self) -> None:
        sequence = self.sequence
        sequence.reading = max(sequence.reading, len(sequence) + len(self.tokens))
        require_positions(sequence.model, max(sequence.reading, sequence.expected - 1))

    def join(
        self, rows: Seq[Row], states: list[Tensor] | None, extend: Extend
    ) -> tuple[list[Tensor], list[StepMetadata]] | None:
        """One forward for the rows of a step and these tokens, which are kept.

        Args:
            rows: sequence, tokens and tree of those who write.
            states: is given their hidden states.
            extend: `loop.extend`.

        Returns:
            Of the rows what `extend` gives; None, and nothing has changed, where that fails. It is
                said once, and whose fault it was shows when each is done alone.
        """
        if self.read:
            return None
        found: list[Tensor] | None = None if states is None else []
        every = [*rows, (self.sequence, self.tokens, None)]
        try:
            logits, steps = extend(every, [*["all"] * len(rows), "last"], found)
        except Exception as error:
            for sequence, _, _ in every:
                take_back(sequence)
            say_once(
                f"prompts are read after the steps of others, not in them: {first_line(error)}"
            )
            return None
        if states is not None and found:
            states.append(found[0][:-1])
        self.read = True
        self._keep(logits.pop(), steps.pop())
        return logits, steps

    def _keep(self, logits: Tensor, metadata: StepMetadata) -> None:
        try:
            self.sequence.commit(metadata, self.tokens)
        except Exception as error:
            self.error = error
            return
        self.sequence.last_logits = logits[-1].clone()


def takes_back(sequence: Sequence) -> bool:
    """Whether `take_back` leaves a sequence as it was. A selection that plans by blocks of a prompt
    keeps each before the next is read, which nothing undoes but to begin anew.

    Args:
        sequence: that is to read on.
    """
    return not len(sequence) or not _plans_by_block(sequence)


def take_back(sequence: Sequence) -> None:
    """Leaves a sequence as it was before a forward that failed.

    Args:
        sequence: that took part in it; `takes_back` held for it.
    """
    sequence.discard()
    if not len(sequence) and _plans_by_block(sequence):
        reading = sequence.reading
        sequence.become(sequence.empty())
        sequence.reading = reading


def _plans_by_block(sequence: Sequence) -> bool:
    selectors = [group.selector for _, group in sequence.groups()]
    return any(each is not None and each.query_block is not None for each in selectors)


def joins(device: torch.device) -> bool:
    """Whether a step may read beside its own work: on a GPU a step is replayed as a graph, which
    has no place for that.

    Args:
        device: of the model.
    """
    return device.type != "cuda"


__all__ = ["Beside", "joins", "take_back", "takes_back"]
