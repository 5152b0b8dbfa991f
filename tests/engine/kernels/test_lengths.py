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
from lengthwise.engine.kernels.lengths import RoomPart, attend_rows, flash_serves, masked
from lengthwise.engine.kernels.part import Part

CPU = torch.device("cpu")


def by_definition(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, starts: Tensor, used: Tensor,
    longest: int, scaling: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What the kernel of a GPU does, row by row; rows that see nothing have LSE plus infinity."""
    outs, lses = [], []
    assert ends.tolist() == list(range(len(query) + 1)) and len(starts) == len(ends)
    for row, (start, count) in enumerate(zip(starts.tolist(), used.tolist(), strict=False)):
        assert count <= longest
        if not count:
            outs.append(torch.zeros(query.shape[1], value.shape[-1]))
            lses.append(torch.full((query.shape[1],), math.inf))
            continue
        keys, values = (t[start : start + count].transpose(0, 1) for t in (key, value))
        out, lse = attend_plain([Part(query[row][:, None], keys, values)], scaling)
        outs.append(out[:, 0])
        lses.append(lse[:, 0])
    return torch.stack(outs), torch.stack(lses, 1)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), groups=st.sampled_from([1, 3]), rows=st.integers(1, 4))
def test_both_ways_are_attention_over_what_is_in_use(
    data: st.DataObject, groups: int, rows: int
) -> None:
    parts, ordinary, key_heads = [], [], 2
    for least in (1, 0)[: data.draw(st.integers(1, 2))]:
        slots, capacity = data.draw(st.integers(rows, 5)), data.draw(st.integers(1, 9))
        key, value = torch.randn(2, slots, key_heads, capacity, 8)
        used = [data.draw(st.integers(least, capacity)) for _ in range(rows)]
        first = [data.draw(st.integers(0, capacity - count)) for count in used]
        chosen = data.draw(st.permutations(range(slots)))[:rows]
        whole = chosen == list(range(slots))
        query = torch.randn(rows, key_heads * groups, 8)
        lines = [torch.tensor([*line, 0]) for line in (chosen, first, used)]
        for row, slot in enumerate(chosen):
            seen = slice(first[row], first[row] + used[row])
            part = Part(query[row][:, None], key[slot, :, seen], value[slot, :, seen])
            ordinary.append((row, Part(*(t.clone() for t in (part.query, part.key, part.value)))))
            for room in (key, value):
                # Spare room holds anything.
                room[slot, :, : seen.start] = room[slot, :, seen.stop :] = math.nan
        parts.append(RoomPart(query, key, value, *lines, whole))
    right = [
        attend_plain([p for at, p in ordinary if at == row and p.key.shape[1]], 0.3)[0][:, 0]
        for row in range(rows)
    ]
    ends = torch.arange(rows + 1, dtype=torch.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lengths, "_kernel", by_definition)
        for flash in (False, True):
            found = attend_rows(parts, 0.3, ends, flash)
            torch.testing.assert_close(found, torch.stack(right), rtol=1e-5, atol=1e-5)


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
    return lengths.agrees(lengths._flash, CPU, torch.float32, 6, 2, 16)


def test_a_kernel_is_tried_before_it_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lengthwise._utils.messages._SAID", set())
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
    part = RoomPart(query.transpose(0, 1), key[None], key[None], line, line, line + 3, True)
    ends = torch.tensor([0, 1], dtype=torch.int32)
    assert torch.equal(attend_rows([part], 0.25, ends), masked([part], 0.25))
