"""The kernel of a GPU that reads rows of any lengths, by its definition, on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kernels.part import Part


def by_definition(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, starts: Tensor, used: Tensor,
    longest: tuple[int, int], scaling: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What the kernel of a GPU does, row by row; rows that see nothing have LSE plus infinity."""
    outs, lses = [], []
    nodes, most = longest
    assert ends.tolist() == [nodes * row for row in range(len(starts))]
    for row, (start, count) in enumerate(zip(starts.tolist(), used.tolist(), strict=False)):
        assert count <= most
        mine = query[row * nodes : (row + 1) * nodes].transpose(0, 1)
        if not count:
            outs.append(torch.zeros(*mine.shape[:2], value.shape[-1]))
            lses.append(torch.full(mine.shape[:2], math.inf))
            continue
        keys, values = (t[start : start + count].transpose(0, 1) for t in (key, value))
        out, lse = attend_plain([Part(mine, keys, values)], scaling)
        outs.append(out)
        lses.append(lse)
    return torch.cat(outs, 1).transpose(0, 1), torch.cat(lses, 1)
