"""Products of several layers as one, packed where that pays and memory is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import lengthwise
from lengthwise._utils import timings
from lengthwise.models import packing
from lengthwise.models.adapt import adapt
from lengthwise.models.fused import FusedForward
from lengthwise.models.packing import Packing, can_pack
from lengthwise.models.products import WideProduct, product
from lengthwise.testing.tiny import tiny_model

HERE = can_pack(torch.empty(4, 4, dtype=torch.bfloat16))
needs_packing = pytest.mark.skipif(not HERE, reason="oneDNN packs nothing here")
WEIGHT = torch.empty(8, 8, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("dtype", "rows"), [(torch.float32, 0), (torch.bfloat16, 0), (torch.bfloat16, None),
                        (torch.bfloat16, 5)],
)  # fmt: skip
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(32, 32), (16,), (8, 16, 32)])
def test_a_product_equals_its_layers_for_any_number_of_rows(
    dtype: torch.dtype, rows: int | None, sizes: tuple[int, ...], bias: bool
) -> None:
    if rows != 0 and not HERE:
        pytest.skip("oneDNN packs nothing here")
    torch.manual_seed(0)
    linears = [nn.Linear(48, size, bias=bias).to(dtype) for size in sizes]
    before = [linear.weight.clone() for linear in linears]
    made = WideProduct(*linears, rows=rows)
    for count in (1, 4, 5, 70):
        x = torch.randn(count, 48).to(dtype)
        apart = torch.cat([linear(x) for linear in linears], -1)
        assert torch.allclose(
            made.multiply(x), apart, atol=1e-6 if dtype == torch.float32 else 0.02
        )
    made.release()
    assert all(torch.equal(a, b.weight) for a, b in zip(before, linears, strict=True))


class Told(Packing):
    """Seconds of a packed product of each of ROWS, where the plain one takes 1."""

    def __init__(self, *seconds: float) -> None:
        super().__init__(tiny_model("llama"))
        self.times, self._told = True, dict(zip(packing.ROWS, seconds, strict=True))

    def _seconds(self, inputs: int, outputs: int, rows: int) -> Mapping[str, float]:
        return {"packed": self._told[rows], "plain": 1.0}


@needs_packing
@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ((0.5, 0.5, 0.5, 0.5), None), ((0.5, 0.5, 0.9, 1.5), 1024), ((0.5, 1.1, 1.5, 2.0), 16),
        ((0.95, 0.5, 0.5, 0.5), 0), ((2.0, 2.0, 2.0, 2.0), 0),
    ],
)  # fmt: skip
def test_what_was_timed_says_for_how_many_rows_a_copy_serves(
    seconds: tuple[float, ...], rows: int | None
) -> None:
    assert Told(*seconds).rows(WEIGHT, 8) == rows
    assert Told(*seconds).rows(WEIGHT.float(), 8) == 0


@needs_packing
def test_a_large_model_and_short_memory_are_not_packed_unasked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama").bfloat16()
    assert Packing(model).rows(WEIGHT, 8) is None and not Packing(model).note
    assert Packing(model, wanted=False).rows(WEIGHT, 8) == 0
    size = sum(p.nbytes for p in model.parameters())
    monkeypatch.setattr(packing, "free_memory", lambda: packing.SHARE * size - 1)
    assert Packing(model).rows(WEIGHT, 8) == 0
    monkeypatch.setattr(packing, "free_memory", lambda: None)
    assert Packing(model).rows(WEIGHT, 8) is None
    monkeypatch.setattr(packing, "LARGEST", size - 1)
    assert Packing(model).rows(WEIGHT, 8) == 0 and "pack=True" in Packing(model).note
    assert Packing(model, wanted=True).rows(WEIGHT, 8) is None
    assert not Packing(model, wanted=True).note


@needs_packing
def test_a_model_says_that_its_weights_are_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LARGEST", 0)
    model = tiny_model("llama").bfloat16()
    unasked = lengthwise.wrap(model)
    assert "pack=True" in str(unasked.check())
    wanted = unasked.generate([5, 6, 7], max_new_tokens=6).token_ids
    unasked.close()
    asked = lengthwise.wrap(model, pack=True)
    assert asked.generate([5, 6, 7], max_new_tokens=6).token_ids == wanted
    assert isinstance(asked.adapted.fast, FusedForward) and asked.adapted.fast._parts is not None
    assert asked.adapted.fast._parts.copies


@needs_packing
def test_products_are_timed_by_their_sizes_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    monkeypatch.delenv(timings.VARIABLE, raising=False)
    monkeypatch.setattr(packing, "SMALL", 0)
    model, before = tiny_model("llama").bfloat16(), torch.get_rng_state()
    adapted = adapt(model)
    assert torch.equal(torch.get_rng_state(), before), "the user's random numbers are the user's"
    assert adapted.fast is not None
    (kept,) = (tmp_path / "machine").glob("*.json")
    text = kept.read_text(encoding="utf-8")
    # Query, key and value together are as wide as the vocabulary of this model.
    assert text.count("product bfloat16") == 4 * len(packing.ROWS)
    monkeypatch.setattr(packing, "_ways", lambda *_: pytest.fail("it was timed again"))
    adapt(tiny_model("llama").bfloat16())


def test_one_product_serves_all_who_want_it_alike() -> None:
    linear = nn.Linear(8, 8).bfloat16()
    plain = product(linear)
    assert product(linear) is plain
    packs = Packing(linear)
    if HERE:
        assert product(linear, packing=packs) is not plain
    first = product(linear, packing=packs)
    assert product(linear, packing=packs) is first
