"""Rows over rooms in one call: the plain twin, and how the kernel of a GPU is asked."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kernels import lengths
from lengthwise.engine.kernels.lengths import OwnPart, RoomPart, attend_rows, flash_serves, masked
from lengthwise.engine.kernels.part import Part
from tests.engine.kernels.row_kernel import by_definition

CPU = torch.device("cpu")


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(), groups=st.sampled_from([1, 3]), rows=st.integers(1, 4), nodes=st.integers(1, 5)
)
def test_both_ways_are_attention_over_what_is_in_use(
    data: st.DataObject, groups: int, rows: int, nodes: int
) -> None:
    key_heads = 2
    parts: list[RoomPart] = []
    seen: list[list[Part]] = [[] for _ in range(rows)]
    for least in (1, 0)[: data.draw(st.integers(1, 2))]:
        sizes = [data.draw(st.integers(1, 9)) for _ in range(rows)]
        order = data.draw(st.permutations(range(rows)))
        between = data.draw(st.integers(0, 3)) if rows > 1 else 0
        starts, entries = [0] * rows, 0
        for row in order:
            starts[row] = entries
            entries += sizes[row] + between
        key, value = torch.randn(2, entries, key_heads, 8)
        used = [data.draw(st.integers(least, size)) for size in sizes]
        first = [data.draw(st.integers(0, a - b)) for a, b in zip(sizes, used, strict=True)]
        query = torch.randn(rows, nodes, key_heads * groups, 8)
        spare = torch.ones(entries, dtype=torch.bool)
        for row in range(rows):
            there = slice(starts[row] + first[row], starts[row] + first[row] + used[row])
            spare[there] = False
            if used[row]:
                keys, values = (t[there].transpose(0, 1).clone() for t in (key, value))
                seen[row].append(Part(query[row].transpose(0, 1), keys, values))
        # Spare room holds anything.
        key[spare] = value[spare] = math.nan
        lines = [torch.tensor([*line, 0]) for line in (starts, first, used)]
        parts.append(RoomPart(query, key, value, max(sizes), *lines))
    own: OwnPart | None = None
    if nodes > 1:
        visible = torch.rand(rows, nodes, nodes) < 0.5
        visible |= torch.eye(nodes, dtype=torch.bool)
        key, value = torch.randn(2, rows, nodes, key_heads, 8)
        own = OwnPart(parts[0].query, key, value, visible)
        for row in range(rows):
            given_ = (t[row].transpose(0, 1) for t in (own.query, key, value))
            seen[row].append(Part(*given_, visible[row]))
    right = torch.stack([attend_plain(each, 0.3)[0].transpose(0, 1) for each in seen])
    ends = torch.arange(rows + 1, dtype=torch.int32) * nodes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lengths, "_kernel", by_definition)
        for flash in (False, True):
            found = attend_rows(parts, own, 0.3, ends, flash)
            torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def flipped(way: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A kernel that gives the LSE of another head."""

    def kernel(*given: object) -> tuple[Tensor, Tensor]:
        out, lse = way(*given)
        return out, lse.flip(0)

    return kernel


def refused(*given: object) -> tuple[Tensor, Tensor]:
    raise RuntimeError("no kernel image is available")


def tried(monkeypatch: pytest.MonkeyPatch, kernel: object) -> bool:
    monkeypatch.setattr(lengths, "_kernel", kernel)
    return lengths.agrees(CPU, torch.float32, 6, 2, 16)


def test_a_kernel_is_tried_before_it_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())
    assert tried(monkeypatch, by_definition)
    assert capsys.readouterr().err == ""
    assert not tried(monkeypatch, flipped(by_definition))
    assert "differs from plain products by" in capsys.readouterr().err
    assert not tried(monkeypatch, refused)
    assert "no kernel image is available" in capsys.readouterr().err


def test_on_a_cpu_products_serve() -> None:
    query, key = torch.randn(4, 1, 16), torch.randn(2, 5, 16)
    assert not flash_serves(query, key, key)
    line = torch.tensor([0, 0])
    row = query.transpose(0, 1)[None]
    part = RoomPart(row, key.transpose(0, 1), key.transpose(0, 1), 5, line, line, line + 3)
    ends = torch.tensor([0, 1], dtype=torch.int32)
    assert torch.equal(attend_rows([part], None, 0.25, ends), masked([part], None, 0.25))
