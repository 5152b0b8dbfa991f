"""The GPU's script, rehearsed at a tiny shape on a CPU."""

from __future__ import annotations

import json
import sys

import pytest
from benchmarks import gpu


def test_every_way_gives_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = "--device cpu --shapes tiny --contexts 64 200 --batch 3 --rounds 1 --profile"
    monkeypatch.setattr(sys, "argv", ["gpu", *given.split()])
    gpu.main()
    rows = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert not [row for row in rows if "failed" in row]
    ways = ["transformers", *gpu.RECIPES]
    few = [*ways, "full, 3 rows", "lookup, repeated text"]
    assert [row["way"] for row in rows] == ["check", *few, *ways]
    by = {row["way"]: row for row in rows if row["context"] == 200}
    # Two layers, two key heads, float32: 200 tokens, three warm steps and a round of sixteen.
    assert by["transformers"]["kv_mb"] * 1e6 == pytest.approx(219 * 2 * 2 * 2 * 16 * 4, abs=500)
    assert by["snapkv(budget=25%)"]["kv_mb"] < by["full"]["kv_mb"]


def test_a_machine_without_cuda_is_told_what_to_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "--device cpu" in capsys.readouterr().err
