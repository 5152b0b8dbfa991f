from __future__ import annotations

import json

import pytest

from tests.scripts import script

RECIPES = ("full", "streaming", "snapkv(budget=25%)")


def test_every_way_gives_a_row() -> None:
    given = "--device cpu --shapes tiny --contexts 64 200 --batch 3 --rounds 1 --profile"
    done = script("benchmarks.gpu", *given.split())
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.strip().splitlines()[-1])
    assert not [row for row in rows if "failed" in row]
    ways = ["transformers", *RECIPES]
    few = [*ways, "full, 3 rows", "lookup, repeated text"]
    assert [row["way"] for row in rows] == ["check", *few, *ways]
    by = {row["way"]: row for row in rows if row["context"] == 200}
    # Two layers, two key heads, float32: 200 tokens, three warm steps and a round of sixteen.
    assert by["transformers"]["kv_mb"] * 1e6 == pytest.approx(219 * 2 * 2 * 2 * 16 * 4, abs=500)
    assert by["snapkv(budget=25%)"]["kv_mb"] < by["full"]["kv_mb"]


def test_a_machine_without_cuda_is_told_what_to_give() -> None:
    done = script("benchmarks.gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0
    assert "--device cpu" in done.stderr
