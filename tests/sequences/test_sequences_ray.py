"""`--engine ray`: whoever does the work, the bytes are the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, strategies as st

from lengthwise.cli.sequences import sequences
from lengthwise.sequences import ray_engine
from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder, Encoder, byte_tokenizer
from lengthwise.sequences.engines import Local, make_engine
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.orders import Order
from lengthwise.sequences.plan import Part
from lengthwise.sequences.ray_engine import Ray, stretches
from lengthwise.sequences.records import Fields
from lengthwise.sequences.task import Entry
from lengthwise.sequences.token_store import TokenStore
from tests.sequence_runs import jsonl, some_texts, tree
from tests.sequences.test_sequences_knots import project, small_parts

ray: Any = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local cluster of two workers that is there for this file."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
             object_store_memory=100 << 20)  # fmt: skip
    yield
    ray.shutdown()


def task_of(source: Path, out: Path, method: str, order: str = "shuffle") -> Build:
    options = {"min_length": "8"} if method == "decompose" else {}
    sources, builder = Sources((str(source),), Fields()), make_builder(method, options, 64)
    return Build(sources, ByteEncoder(), builder, Settings(order), out, out / "tokens")


class Backwards(Local):
    """Finishes the last part first, as a cluster may."""

    def build(
        self, task: Build, todo: Iterable[Part], store: TokenStore, order: Order
    ) -> Iterator[tuple[Part, Entry]]:
        yield from super().build(task, list(todo)[::-1], store, order)


@pytest.mark.parametrize(
    ("method", "order"), [("decompose", "by-repository"), ("utk", "icp"), ("pair", "shuffle")]
)
def test_ray_gives_the_bytes_that_this_process_gives(
    cluster: None, tmp_path: Path, method: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, 1024)
    monkeypatch.setattr(ray_engine, "STRETCH", 500)
    source = project(tmp_path / "project", 24)
    here = build(task_of(source, tmp_path / "here", method, order))
    there = build(task_of(source, tmp_path / "there", method, order), engine=Ray())
    assert len(here["shards"]) > 3
    assert here == there
    assert tree(tmp_path / "here") == tree(tmp_path / "there")


def test_a_stopped_run_goes_on_with_another_engine_to_the_same_bytes(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, 1024)
    source = jsonl(tmp_path / "a.jsonl", some_texts(40, 400))
    build(task_of(source, tmp_path / "whole", "decompose"))

    class Stopping(Ray):
        def build(self, *rest: Any) -> Iterator[tuple[Part, Entry]]:
            for number, done in enumerate(super().build(*rest)):
                if number == 3:
                    raise KeyboardInterrupt
                yield done

    with pytest.raises(KeyboardInterrupt):
        build(task_of(source, tmp_path / "out", "decompose"), engine=Stopping())
    journal = list((tmp_path / "out" / "journal").glob("*.json"))
    assert len(journal) == 3
    build(task_of(source, tmp_path / "out", "decompose"), engine=Local())
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_no_more_tasks_are_under_way_than_the_cluster_can_use(cluster: None) -> None:
    asked: list[int] = []

    def doubled(_: None, number: int) -> int:
        time.sleep(0.02)
        return 2 * number

    def items() -> Iterator[int]:
        for number in range(12):
            asked.append(number)
            yield number

    found = []
    for item, answer in Ray()._map(doubled, None, items()):
        assert len(asked) <= len(found) + 4
        found.append((item, answer))
    assert sorted(found) == [(n, 2 * n) for n in range(12)]


def test_what_a_worker_refuses_is_one_line_here(cluster: None) -> None:
    def refuse(_: None, item: int) -> None:
        raise SequenceError("disk is full")

    with pytest.raises(SequenceError, match=r"^disk is full$"):
        list(Ray()._map(refuse, None, [1]))


def test_the_command_takes_the_engine(cluster: None, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", some_texts(20, 300))
    for engine in ("local", "ray"):
        words = ["build", str(source), "--out", str(tmp_path / engine), "-t", "bytes", "-n", "64",
                 "-m", "concat", "--engine", engine]  # fmt: skip
        done = CliRunner().invoke(sequences, words)
        assert done.exit_code == 0, done.output
    assert tree(tmp_path / "local") == tree(tmp_path / "ray")


def test_workers_take_special_tokens_for_text_and_find_relative_folders(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    byte_tokenizer().save("tokenizer.json")
    jsonl(tmp_path / "a.jsonl", ["one<|endoftext|>two"] * 20)
    for engine in ("local", "ray"):
        words = ["build", "a.jsonl", "--out", engine, "--tokens", f"{engine}-tokens", "-t",
                 "tokenizer.json", "-n", "64", "-m", "concat", "--order", "by-repository",
                 "--engine", engine]  # fmt: skip
        done = CliRunner().invoke(sequences, words)
        assert done.exit_code == 0, done.output
    for here, there in (("local", "ray"), ("local-tokens", "ray-tokens")):
        assert tree(tmp_path / here) == tree(tmp_path / there)


def test_an_unknown_engine_is_refused_with_the_nearest() -> None:
    with pytest.raises(SequenceError, match="did you mean 'ray'"):
        make_engine("rai")


def test_parts_finished_in_another_order_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, 1024)
    source = jsonl(tmp_path / "a.jsonl", some_texts(40, 400))
    build(task_of(source, tmp_path / "forth", "decompose"))
    build(task_of(source, tmp_path / "back", "decompose"), engine=Backwards())
    assert tree(tmp_path / "forth") == tree(tmp_path / "back")


@given(st.lists(st.integers(0, 1 << 19), max_size=30))
def test_stretches_of_texts_cover_all_of_them_once(sizes: list[int]) -> None:
    found = stretches(sizes)
    assert [n for a, b in found for n in range(a, b)] == list(range(len(sizes)))
    assert all(sum(sizes[a : b - 1]) < ray_engine.STRETCH for a, b in found)


def test_an_encoder_spread_over_workers_gives_ids_in_the_order_of_texts() -> None:
    def shuffled(function: Any, shared: Any, items: list[Any]) -> Iterator[tuple[Any, Any]]:
        for item in items[::-1]:
            yield item, function(shared, item)

    spread: Encoder = ray_engine._Distributed(ByteEncoder(), shuffled)
    texts = [text * 400 for text in some_texts(30, 100)]
    plain = ByteEncoder().encode(texts)
    for one, other in zip(spread.encode(texts), plain, strict=True):
        assert one.tolist() == other.tolist()
