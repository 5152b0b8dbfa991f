from __future__ import annotations

import json

import pytest

from tests.scripts import script

MORE = ["token_select", "quest", "infllm", "hip", "kivi", "razor", "lm_infinite"]
RECIPES = ("full", "streaming", "snapkv(budget=25%)")


@pytest.mark.slow
def test_every_way_gives_a_row() -> None:
    given = (
        "--device cpu --shapes tiny --contexts 64 2200 --batch 3 --rounds 1 --profile "
        "--more-on tiny"
    )
    done = script("benchmarks.gpu", *given.split())
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.strip().splitlines()[-1])
    assert not [row for row in rows if "failed" in row]
    ways = ["transformers", *RECIPES]
    few = [*ways, "lookup, repeated text", "full, 3 rows", "transformers, 3 rows"]
    assert [row["way"] for row in rows] == ["check", *few, *ways, *MORE]
    by = {row["way"]: row for row in rows if row["context"] == 2200}
    # Two layers, two key heads, float32: 2,200 tokens, three warm steps and a round of sixteen.
    assert by["transformers"]["kv_mb"] * 1e6 == pytest.approx(2219 * 2 * 2 * 2 * 16 * 4, abs=500)
    assert by["snapkv(budget=25%)"]["kv_mb"] < by["full"]["kv_mb"]
    assert by["full"]["of_bandwidth"] > 0
    assert by["quest"]["x_full"] == pytest.approx(
        by["quest"]["tok_s"] / by["full"]["tok_s"], abs=0.01
    )
    three = next(row for row in rows if row["way"] == "full, 3 rows")
    assert three["x_full"] > 0 and "of_bandwidth" in three


@pytest.mark.slow
def test_a_limit_leaves_rows_out_and_says_so() -> None:
    given = "--device cpu --shapes tiny --contexts 64 --rounds 1 --limit 0"
    done = script("benchmarks.gpu", *given.split())
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.strip().splitlines()[-1])
    assert all(row["left_out"] == "0.0 s were over" for row in rows[1:])


def test_a_machine_without_cuda_is_told_what_to_give() -> None:
    done = script("benchmarks.gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0
    assert "--device cpu" in done.stderr
