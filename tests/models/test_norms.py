"""RMSNorm by several calls: all of them say what transformers' module says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from lengthwise._utils import timings
from lengthwise.models import norms
from lengthwise.models.norms import WAYS, Norms

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_every_way_is_the_modules(name: str, dtype: torch.dtype, scale: float) -> None:
    torch.manual_seed(0)
    module = LlamaRMSNorm(48, eps=1e-5).to(dtype)
    module.weight.data.uniform_(0.5, 1.5)
    for rows in (1, 7, 200):
        x = (torch.randn(rows, 48) * scale + scale / 3).to(dtype)
        found = WAYS[name](x, (48,), module.weight.detach(), 1e-5)
        exact = module.double()(x.double()).detach()
        module.to(dtype)
        assert found.dtype == dtype and found.shape == x.shape
        limit = 3 * torch.finfo(dtype).eps * float(exact.abs().max())
        assert float((found.double() - exact).abs().max()) < limit


@pytest.mark.parametrize("name", WAYS)
def test_zeros_stay_zeros(name: str) -> None:
    assert not WAYS[name](torch.zeros(3, 8), (8,), torch.ones(8), 1e-6).any()


def test_the_fastest_of_each_number_of_rows_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    monkeypatch.delenv(timings.VARIABLE, raising=False)

    def told(ways, device):
        rows = next(iter(ways.values())).args[0].shape[0]
        few = {"whole": 1.0, "doubled": 0.5, "parts": 2.0}
        return few if rows == 1 else {"whole": 1.0, "doubled": 2.0, "parts": 0.95}

    monkeypatch.setattr(timings, "in_turn", told)
    chosen = Norms(8, torch.float32, CPU, timed=True)
    assert chosen.few is norms.doubled and chosen.many is WAYS["whole"]
    untimed = Norms(8, torch.float32, CPU, timed=False)
    assert untimed.few is untimed.many is WAYS["whole"]
