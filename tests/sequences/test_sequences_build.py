"""What `lengthwise sequences build` promises: every token once, the same bytes however it ran."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.sequences import shards, tokenise
from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.records import Fields
from lengthwise.sequences.store import SequenceSet
from tests.sequence_runs import (
    CLI,
    goes_on_to_the_same_bytes,
    jsonl,
    rows_of,
    run,
    some_texts,
    tree,
)

ONE_FOR_ONE = ("concat", "concat-masked", "best-fit", "decompose")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=300), min_size=1, max_size=20),
    method=st.sampled_from(ONE_FOR_ONE),
    order=st.sampled_from(("shuffle", "source", "by-repository")),
)
def test_every_token_is_in_one_row_or_in_the_count_of_the_dropped(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], method: str, order: str
) -> None:
    place = tmp_path_factory.mktemp("conserved")
    kept = [text for text in texts if text.strip()]
    source = jsonl(place / "a.jsonl", texts)
    try:
        found = run([source], place / "out", method, 16, order=order)
    except SequenceError as error:
        assert not kept or "nothing was built" in str(error)
        return
    whole = Counter(byte for text in kept for byte in (*text.encode(), 256))
    written = Counter(int(i) for row in rows_of(found) for i in row.input_ids)
    assert written <= whole
    assert (whole - written).total() == sum(found.manifest["dropped"].values())
    assert found.manifest["documents"] == len(kept)


@pytest.mark.parametrize("method", ["concat-masked", "best-fit", "decompose"])
def test_pieces_put_together_again_are_the_documents(tmp_path: Path, method: str) -> None:
    """Each document has letters of its own, so a piece names the document it is from."""
    texts = [chr(0x4E00 + n) * (7 + 31 * n % 150) for n in range(40)]
    options = {"min_length": "1"} if method == "decompose" else {}
    found = run([jsonl(tmp_path / "a.jsonl", texts)], tmp_path / "out", method, options=options)
    pieces: Counter[bytes] = Counter()
    for row in rows_of(found):
        assert row.lengths.sum() == len(row.input_ids)
        for piece in np.split(row.input_ids, np.cumsum(row.lengths)[:-1]):
            letters = [byte for byte in piece if byte < 256]
            assert 256 not in piece[:-1]
            pieces.update(map(int, letters))
    dropped = sum(found.manifest["dropped"].values())
    whole = Counter(byte for text in texts for byte in text.encode())
    assert (whole - pieces).total() <= dropped


def test_concat_in_source_order_is_the_text_cut_every_max_length_tokens(tmp_path: Path) -> None:
    texts = some_texts(30, 200)
    found = run([jsonl(tmp_path / "a.jsonl", texts)], tmp_path / "out", "concat", order="source",
                shuffle_rows=False)  # fmt: skip
    stream = [byte for text in texts for byte in (*text.encode(), 256)]
    rows = rows_of(found)
    assert np.concatenate([row.input_ids for row in rows]).tolist() == stream[: 64 * len(rows)]
    assert all(row.lengths.tolist() == [64] for row in rows)


@pytest.mark.parametrize("method", ONE_FOR_ONE)
def test_parts_built_alone_hold_what_one_part_holds(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(60, 400))]
    whole = run(source, tmp_path / "whole", method)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_TOKENS", 1024)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_ROWS", 1)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_DOCUMENTS", 9)
    monkeypatch.setattr("lengthwise.sequences.plan.STRETCH", 7)
    found = run(source, tmp_path / "parts", method)
    assert len(found.manifest["shards"]) > len(whole.manifest["shards"])
    assert found.manifest["dropped"] == whole.manifest["dropped"]
    if method != "best-fit":

        def rows(data: SequenceSet) -> list[bytes]:
            return sorted(row.input_ids.tobytes() for row in rows_of(data))

        assert rows(found) == rows(whole)


def test_memory_given_does_not_change_a_byte(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(50, 300))]
    run(source, tmp_path / "small", "decompose", memory=256 << 20)
    run(source, tmp_path / "large", "decompose", memory=2 << 30)
    assert tree(tmp_path / "small") == tree(tmp_path / "large")


def test_another_seed_gives_another_order_and_the_same_seed_the_same_bytes(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(50, 300))]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(source, tmp_path / name, "best-fit", seed=seed)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert tree(tmp_path / "a") != tree(tmp_path / "c")


@pytest.mark.slow
def test_killed_at_random_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """kill -9 between any two file operations: each is stretched so that kills fall everywhere."""
    slow = (
        "import os, time; real = os.replace\n"
        "def replace(*a):\n    time.sleep(0.02); real(*a); time.sleep(0.02)\n"
        "os.replace = replace\n"
        "import lengthwise.sequences.tokenise as t; t.COMMIT_S = 0.01\n"
        "import lengthwise.sequences.plan as p; p.PART_TOKENS = 4096; p.PART_ROWS = 1\n"
    )
    sources = [jsonl(tmp_path / f"{n}.jsonl", some_texts(40, 900, n)) for n in range(4)]

    def command(out: Path) -> list[str]:
        words = ["build", *map(str, sources), "--out", str(out), "-m", "decompose", "-n", "64"]
        words += ["--set", "min_length=8", "-t", "bytes", "--order", "by-repository"]
        return [sys.executable, "-c", slow + CLI, *words]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    chance, kills = random.Random(0), 0
    while kills < 8:
        child = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)  # fmt: skip
        while child.poll() is None and not (tmp_path / "killed").exists():
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.35))
        if child.poll() is not None:
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    assert kills >= 3
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_a_run_that_failed_anywhere_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenise, "COMMIT_S", 0.0)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_TOKENS", 2048)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_ROWS", 1)
    source = [jsonl(tmp_path / "a.jsonl", some_texts(12, 900))]
    # A part has up to five files.
    goes_on_to_the_same_bytes(
        tmp_path, lambda out: run(source, out, "decompose"), (1, 7), 10, monkeypatch
    )


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(20, 300))]
    real = shards.pq.ParquetWriter.write_table

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.pq.ParquetWriter, "write_table", full)
    with pytest.raises(SequenceError, match="No space left on device") as error:
        run(source, tmp_path / "out", "best-fit")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").glob("*.parquet*"))
    monkeypatch.setattr(shards.pq.ParquetWriter, "write_table", real)
    run(source, tmp_path / "other", "best-fit")
    run(source, tmp_path / "out", "best-fit")
    assert tree(tmp_path / "out") == tree(tmp_path / "other")


def test_a_disk_that_fills_while_tokenising_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(20, 300))]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(SequenceError, match="No space left on device"):
            run(source, tmp_path / "out", "best-fit")
    found = run(source, tmp_path / "out2", "best-fit")
    assert found.manifest["documents"] == 20


def test_a_folder_of_another_build_is_refused(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(20, 300))]
    run(source, tmp_path / "out", "best-fit")
    with pytest.raises(SequenceError, match="holds something else"):
        run(source, tmp_path / "out", "concat")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(SequenceError, match="holds something else"):
        run(source, tmp_path / "mine", "concat")


def test_a_finished_folder_of_an_earlier_version_is_called_so(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(20, 300))]
    run(source, tmp_path / "out", "best-fit")
    place = tmp_path / "out" / "__about__" / "manifest.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"format": 1, "key": "another"}))
    before = tree(tmp_path / "out")
    with pytest.raises(SequenceError, match="earlier version.*read and trained on as it is"):
        run(source, tmp_path / "out", "best-fit")
    assert tree(tmp_path / "out") == before


def test_tokens_are_shared_by_several_data_sets_and_guarded(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(20, 300))]
    run(source, tmp_path / "a", "best-fit")
    jsonl(source[0], some_texts(21, 300))
    sources, method = Sources((str(source[0]),), Fields()), make_builder("concat", {}, 64)
    store = tmp_path / "a" / "tokens"
    task = Build(sources, ByteEncoder(), method, Settings(), tmp_path / "b", store)
    with pytest.raises(SequenceError, match="tokens of other sources"):
        build(task)


def peak_mib(out: Path, source: Path, memory: str) -> float:
    """Peak resident memory of a build; what getrusage says may be the parent's, before exec."""
    measure = "\nprint(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')))"
    words = ["build", str(source), "--out", str(out), "-m", "decompose", "-t", "bytes"]
    done = subprocess.run([sys.executable, "-c", CLI + measure, *words, "--memory", memory],
                          check=True, capture_output=True, text=True)  # fmt: skip
    return int(done.stdout.split()[-2]) / 1024


def write_corpus(path: Path, megabytes: int) -> Path:
    text = "".join(some_texts(400, 4000))
    line = json.dumps({"text": text[:2500]}) + "\n"
    with path.open("w") as file:
        for _ in range((megabytes << 20) // len(line)):
            file.write(line)
    return path


@linux
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    small = peak_mib(tmp_path / "a", write_corpus(tmp_path / "a.jsonl", 20), "256MiB")
    large = peak_mib(tmp_path / "b", write_corpus(tmp_path / "b.jsonl", 80), "256MiB")
    assert large < small + 16
    assert large < 256


@linux
@pytest.mark.slow
def test_a_corpus_of_five_times_the_memory_is_built_within_it(tmp_path: Path) -> None:
    """With a byte a token it takes seven times its own size of disk."""
    try:
        source = write_corpus(tmp_path / "a.jsonl", 5 * 256)
        assert peak_mib(tmp_path / "out", source, "256MiB") < 256
    finally:
        shutil.rmtree(tmp_path)
