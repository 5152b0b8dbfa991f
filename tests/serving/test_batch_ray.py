"""`--engine ray`: two replicas give what one process gives, and a group goes to one of them."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lengthwise import recipes
from lengthwise.api.loading import load
from lengthwise.engine.sampling import Sampling
from lengthwise.serving.batch_body import names_of
from lengthwise.serving.batch_files import BatchError, Line
from lengthwise.serving.batch_plan import OutputLengths
from lengthwise.serving.batch_ray import Replica, _plain, bundles_of, replicated
from lengthwise.serving.batch_run import Todo, run_batch
from lengthwise.serving.job import Ask
from tests.bad_world import make_world
from tests.serving.batch_cases import SYSTEMS, results, said, text, write


def todo(count: int, groups: int, most: int = 8) -> list[Todo]:
    """Requests of several groups in turn."""
    full = recipes.recipe_of("full")
    return [
        Todo(Line(n, f"r{n}", "/v1/completions", {}),
             [Ask([n % groups] * 50 + [200 + n], full, most, Sampling())], str(n))
        for n in range(count)
    ]  # fmt: skip


def test_every_request_is_in_one_bundle_and_a_group_is_not_parted() -> None:
    each = todo(60, 12)
    bundles = bundles_of(each, 2, OutputLengths())
    assert sorted(n for bundle in bundles for n in bundle) == list(range(60))
    assert len(bundles) >= 4
    for group in range(12):
        assert len([b for b in bundles if any(n % 12 == group for n in b)]) == 1


def test_a_group_that_is_more_than_a_share_is_parted() -> None:
    each = todo(40, 1)
    bundles = bundles_of(each, 4, OutputLengths())
    assert sorted(n for bundle in bundles for n in bundle) == list(range(40))
    assert 4 <= len(bundles) <= 8 and max(map(len, bundles)) <= 10


def test_one_request_is_one_bundle() -> None:
    assert bundles_of(todo(1, 1), 8, OutputLengths()) == [[0]]


def test_a_replica_runs_bundles_without_ray(world: Path) -> None:
    """All of an actor but Ray: what is sent to it is plain data, and so is what it gives."""
    opened = partial(load, str(world / "model"), "fp32", "cpu")
    model = opened()
    names = names_of(model, recipes.recipe_of("full"))
    from lengthwise.methods.calibration import fingerprint_now

    mark = fingerprint_now(model.adapted)
    replica = Replica(opened, names, 1 << 24, mark, 2, os.getcwd())
    lines = [vars(Line(n, f"r{n}", "/v1/completions", text("x", SYSTEMS[0] + str(n))["body"]))
             for n in range(3)]  # fmt: skip
    sent = json.dumps([(7 + n, line, f"id{n}") for n, line in enumerate(lines)])
    found = replica({"bundle": [sent]})
    assert sorted(found["number"]) == [-1, 7, 8, 9] and set(found["status"]) == {0, 200}
    cost = json.loads(found["body"][found["number"].index(-1)])
    assert cost["texts"] == 3 and cost["groups"] == 1
    with pytest.raises(BatchError, match="other weights"):
        Replica(opened, names, None, "0" * 16, 2, os.getcwd())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    make_world(place)
    return place


def test_ray_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "ray":
            raise ImportError("no ray")
        return ordinary(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BatchError, match=r"lengthwise\[ray\]"):
        replicated(load, 2)


def test_what_a_replica_refuses_is_found_behind_others_errors() -> None:
    inner = BatchError("other weights")
    outer = RuntimeError("actor failed")
    outer.__cause__ = inner
    assert _plain(outer) is inner
    assert "run the same command again" in str(_plain(RuntimeError("lost")))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local cluster of two workers that is there for this file."""
    ray: Any = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             object_store_memory=100 << 20)  # fmt: skip
    yield
    ray.shutdown()


def test_two_replicas_give_what_one_process_gives(
    cluster: None, world: Path, tmp_path: Path
) -> None:
    lines = [text(f"r{n}", SYSTEMS[n % 3] + str(n)) for n in range(12)]
    source = write(tmp_path / "in.jsonl", [*lines, text("wrong", "x", max_tokens=0)])
    opened = partial(load, str(world / "model"), "fp32", "cpu")
    model = opened()
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    run_batch(model, source, here)
    done = run_batch(model, source, there, runner=replicated(opened, 2), kv_bytes=1 << 24)
    assert done.answered == 12 and done.refused == 1
    assert done.cost.texts == 12 and done.cost.groups >= 2
    found, expected = results(there), results(here)
    assert set(found) == set(expected)
    for line in lines:
        name = line["custom_id"]
        assert said(found[name]) == said(expected[name])
        assert found[name]["id"].startswith("batch_req_")
    again = run_batch(model, source, there, runner=replicated(opened, 2))
    assert again.before == 13 and again.answered == 0
