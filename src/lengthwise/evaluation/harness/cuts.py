"""Samples of the harness that are longer than the model: counted, and told of."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

# A task and the number of one of its documents; None where a request does not tell.
Place = tuple[str | None, int | None]


@dataclass
class Cuts:
    """What was cut off, from the left, of contexts that were too long.

    requests: how many were cut. tokens: what they lost in all. places: samples that were cut, and
    the most tokens that one of their requests lost.
    """

    requests: int = 0
    tokens: int = 0
    places: dict[Place, int] = field(default_factory=dict)

    def note(self, asked: Seq[Any], lost: dict[int, int], limit: int) -> None:
        """Counts what requests lost, and says so in the log.

        Args:
            asked: requests of the harness.
            lost: tokens that were cut off, by the number of a request.
            limit: tokens that the model reads.
        """
        for number, tokens in lost.items():
            self.requests += 1
            self.tokens += tokens
            place = (
                getattr(asked[number], "task_name", None), getattr(asked[number], "doc_id", None)
            )  # fmt: skip
            self.places[place] = max(tokens, self.places.get(place, 0))
        if lost:
            logger.warning(
                f"{len(lost):,} of {len(asked):,} requests are longer than the {limit:,} tokens "
                f"this model reads: {sum(lost.values()):,} tokens were cut off at the left"
            )

    def of_task(self, task: str) -> dict[int, int]:
        """Tokens that were cut off of a task's documents, by their number.

        Args:
            task: its name.
        """
        return {
            doc: tokens
            for (name, doc), tokens in self.places.items()
            if name == task and doc is not None
        }


__all__ = ["Cuts"]
