"""Who is told how a run goes."""

from __future__ import annotations

from typing import Any

from lengthwise._utils.progress import Progress


class TrainingProgress(Progress):
    """Told how a run goes, on the first rank; does nothing."""

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        """A record of the log was written after `step` of `steps`."""


__all__ = ["TrainingProgress"]
