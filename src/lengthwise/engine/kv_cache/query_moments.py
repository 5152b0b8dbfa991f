"""Mean and covariance of the queries of a prompt, summed up as it is read."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class QueryMoments:
    """How the queries of one layer are spread, before rotation.

    Attributes:
        skip: first tokens of the text that are left out.
        count: queries that were added.
        mean: of these, float32 `[heads, head_dim]`; None before the first.
        scatter: sum of the products of their deviations, float32 `[heads, head_dim, head_dim]`.
    """

    skip: int
    count: int = 0
    mean: Tensor | None = None
    scatter: Tensor | None = None

    def add(self, query: Tensor, start: int) -> None:
        """Adds the queries of a part of the prompt.

        Args:
            query: un-rotated, `[heads, n, head_dim]`.
            start: birth id of the first.
        """
        own = query[:, max(0, self.skip - start) :].float()
        new = own.shape[1]
        if not new:
            return
        mean = own.mean(1)
        own = own - mean[:, None]
        scatter = own.mT @ own
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter = new, mean, scatter
            return
        # Deviations are from each part's own mean: sums of squares would cancel where means are
        # large, as they are where a model's queries have a bias.
        total, apart = self.count + new, mean - self.mean
        weight = self.count * new / total
        self.scatter = self.scatter + scatter + weight * apart[:, :, None] * apart[:, None]
        self.mean = self.mean + apart * (new / total)
        self.count = total

    def covariance(self) -> Tensor:
        """Float32 `[heads, head_dim, head_dim]`, of one query at least."""
        assert self.scatter is not None
        return self.scatter / self.count

    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(t.nbytes for t in (self.mean, self.scatter) if t is not None)


__all__ = ["QueryMoments"]
