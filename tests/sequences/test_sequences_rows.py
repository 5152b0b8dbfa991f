"""What a row costs to read, and who else can read the folder."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as arrow
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from lengthwise.cli.sequences import sequences
from lengthwise.sequences import row_files
from lengthwise.sequences.builders.base import BUILDERS
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import digest
from lengthwise.sequences.store import Row, SequenceSet
from tests.sequence_runs import jsonl, rows_of, run, some_texts


def same(one: list[Row], two: list[Row]) -> bool:
    def plain(row: Row) -> tuple[Any, ...]:
        mask = None if row.loss_mask is None else row.loss_mask.tolist()
        return row.input_ids.tolist(), row.lengths.tolist(), mask

    return list(map(plain, one)) == list(map(plain, two))


def source_for(method: str, place: Path) -> list[Path]:
    if method != "pair":
        return [jsonl(place / "a.jsonl", some_texts(60, 900))]
    code = place / "code"
    code.mkdir()
    for name, text in zip(("a.py", "test_a.py", "b.py", "c.py"), some_texts(4, 300), strict=True):
        (code / name).write_text(text)
    return [code]


def in_format_1(found: SequenceSet, place: Path) -> SequenceSet:
    """The same data set as an earlier version left it."""
    old = place / "old"
    shutil.copytree(found.folder, old)
    for shard in found.manifest["shards"]:
        table = pq.read_table(old / shard["file"])
        pq.write_table(table, old / shard["file"], compression="zstd", row_group_size=5)
    manifest = found.manifest | {"format": 1}
    manifest["shards"] = [
        {name: value for name, value in shard.items() if name not in ("plain", "row_tokens")}
        for shard in manifest["shards"]
    ]
    (old / "manifest.json").write_text(json.dumps(manifest))
    shutil.move(old / "__about__" / "tokenizer.json", old / "tokenizer.json")
    shutil.rmtree(old / "__about__")
    return SequenceSet(old)


@pytest.mark.parametrize("method", list(BUILDERS))
def test_rows_at_their_places_are_the_rows_that_decoding_gives(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.sequences.shards.GROUP_TOKENS", 500)
    options = {"backtrace": "true", "untouched": "0"} if method == "utk" else {}
    found = run(source_for(method, tmp_path), tmp_path / "out", method, 256, options=options)
    old = in_format_1(found, tmp_path)
    placed, decoded = rows_of(found), rows_of(old)
    assert {type(file) for file in found._files.values()} == {row_files.Placed}
    assert {type(file) for file in old._files.values()} == {row_files.Decoded}
    assert len(placed) > 1 and same(placed, decoded)
    assert found.tokenizer_file.is_file() and old.tokenizer_file.is_file()


@pytest.mark.parametrize(("method", "length"), [("decompose", 64), ("concat", 32), ("utk", 64)])
def test_random_rows_cost_rows(tmp_path: Path, method: str, length: int) -> None:
    texts = some_texts(3000, 400)
    found = run([jsonl(tmp_path / "a.jsonl", texts)], tmp_path / "out", method, length)
    chance, needed = np.random.default_rng(0), 0
    for bucket, count in found.buckets.items():
        for number in chance.permutation(count)[:200].tolist():
            row = found.row(number, bucket)
            needed += row.input_ids.nbytes + (
                0 if row.loss_mask is None else len(row.input_ids) // 8 + 2
            )
    # Where rows are of several lengths, an index of their pieces is read once beside them.
    index = sum(s["rows"] * 64 for s in found.manifest["shards"] if "row_tokens" not in s)
    assert needed <= found.bytes_read <= needed + index


def test_what_is_held_is_bounded_over_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.sequences.plan.PART_TOKENS", 64)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_ROWS", 4)
    source = [jsonl(tmp_path / "a.jsonl", some_texts(90, 60))]
    found = run(source, tmp_path / "out", "best-fit")
    old = in_format_1(found, tmp_path)
    assert len(found.manifest["shards"]) > 6
    monkeypatch.setattr(row_files, "HELD_GROUPS", 3)
    monkeypatch.setattr("lengthwise.sequences.store._HELD_BYTES", 900)
    assert same(rows_of(found), rows_of(old)) and same(rows_of(found), rows_of(old))
    assert len(old._groups) == 3
    assert 1 < len(found._files) < len(found.manifest["shards"])
    assert sum(file.bytes_held for file in found._files.values()) <= 900


def test_a_file_that_another_program_wrote_anew_is_decoded(tmp_path: Path) -> None:
    found = run([jsonl(tmp_path / "a.jsonl", some_texts(60, 400))], tmp_path / "out", "best-fit")
    before = rows_of(found)
    path = found.folder / found.manifest["shards"][0]["file"]
    for changes in ({"compression": "snappy"}, {"compression": "none"}):
        pq.write_table(pq.read_table(path), path, **changes)
        again = SequenceSet(found.folder)
        assert same(rows_of(again), before)
        assert isinstance(again._files[path.name], row_files.Decoded)


@pytest.mark.parametrize("method", ["concat", "best-fit", "utk"])
def test_a_file_written_anew_without_packing_is_decoded(tmp_path: Path, method: str) -> None:
    options = {"backtrace": "true", "untouched": "0"} if method == "utk" else {}
    source = [jsonl(tmp_path / "a.jsonl", some_texts(200, 400))]
    found = run(source, tmp_path / "out", method, options=options)
    before = rows_of(found)
    path = found.folder / found.manifest["shards"][0]["file"]
    # Plain values as ours, but in many pages.
    pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False,
                   data_page_size=1 << 10)  # fmt: skip
    assert same(rows_of(SequenceSet(found.folder)), before)


@pytest.mark.parametrize("rows", [1, 10**6])
def test_a_file_of_more_or_fewer_rows_is_refused(tmp_path: Path, rows: int) -> None:
    found = run([jsonl(tmp_path / "a.jsonl", some_texts(60, 400))], tmp_path / "out", "best-fit")
    path = found.folder / found.manifest["shards"][0]["file"]
    table = pq.read_table(path)
    changed = table.slice(0, rows) if rows == 1 else pa.concat_tables([table, table])
    pq.write_table(changed, path)
    with pytest.raises(SequenceError, match="rows and was built with"):
        SequenceSet(found.folder).row(0)


def test_a_file_whose_pages_are_many_is_not_taken_for_a_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.sequences.shards._PAGE", 64)
    found = run([jsonl(tmp_path / "a.jsonl", some_texts(900, 400))], tmp_path / "out", "concat")
    assert [shard["plain"] for shard in found.manifest["shards"]] == [False]
    monkeypatch.undo()
    whole = run([tmp_path / "a.jsonl"], tmp_path / "whole", "concat")
    assert whole.manifest["shards"][0]["plain"] and same(rows_of(found), rows_of(whole))


def test_a_cut_file_is_one_line(tmp_path: Path) -> None:
    found = run([jsonl(tmp_path / "a.jsonl", some_texts(60, 400))], tmp_path / "out", "concat")
    path = found.folder / found.manifest["shards"][0]["file"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SequenceError, match=r"part-00000\.parquet cannot be read"):
        SequenceSet(found.folder).row(0)


def test_an_opened_set_goes_to_workers(tmp_path: Path) -> None:
    found = run([jsonl(tmp_path / "a.jsonl", some_texts(60, 400))], tmp_path / "out", "concat")
    before = rows_of(found)
    assert same(rows_of(pickle.loads(pickle.dumps(found))), before)


@pytest.mark.parametrize("method", ["decompose", "best-fit", "utk"])
def test_the_standard_readers_just_read_the_folder(tmp_path: Path, method: str) -> None:
    datasets = pytest.importorskip("datasets")
    source = jsonl(tmp_path / "a.jsonl", some_texts(60, 400))
    out = tmp_path / "out"
    words = ["build", str(source), "--out", str(out), "-m", method, "-n", "64", "-t", "bytes"]
    if method == "decompose":
        words += ["--set", "min_length=8"]
    CliRunner().invoke(sequences, words, catch_exceptions=False)
    found = SequenceSet(out)
    wanted = sorted(row.input_ids.tolist() for row in rows_of(found))
    table = arrow.dataset(str(out)).to_table()
    assert sorted(table["input_ids"].to_pylist()) == wanted
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert sorted(loaded["train"]["input_ids"]) == wanted
    streamed = datasets.load_dataset(str(out), streaming=True)["train"]
    assert sorted(row["input_ids"] for row in streamed) == wanted
    if method == "decompose":
        one = datasets.load_dataset(
            str(out), data_dir="bucket-04", cache_dir=str(tmp_path / "cache")
        )
        assert {len(row) for row in one["train"]["input_ids"]} == {17}


def test_a_data_set_of_format_1_is_whole_for_its_own_build(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(60, 400))]
    old = in_format_1(run(source, tmp_path / "out", "concat"), tmp_path).folder
    (old / "tokens").rename(tmp_path / "away")
    found = run(source, old, "concat")
    assert found.manifest["format"] == 1 and not (old / "tokens").exists()


def test_what_an_earlier_version_began_is_refused(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(60, 400))]
    manifest = run(source, tmp_path / "out", "concat").manifest
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "build.json").write_text(json.dumps({"key": manifest["key"]}))
    with pytest.raises(SequenceError, match="begun holds something else than this build"):
        run(source, tmp_path / "begun", "concat")


def test_a_data_set_of_decompose_from_before_the_option_drop_is_whole(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(60, 400))]
    found = run(source, tmp_path / "out", "decompose")
    manifest = found.manifest
    options = {name: value for name, value in manifest["options"].items() if name != "drop"}
    facts = json.loads((tmp_path / "out" / "tokens" / "store.json").read_text())
    kept = {name: manifest[name] for name in ("order", "seed", "shuffle_rows")}
    assert manifest["key"] == digest([facts["key"], "decompose", options, kept])


def test_the_summary_says_how_many_end_tokens_were_dropped_and_what_keeps_them(
    tmp_path: Path,
) -> None:
    source = jsonl(tmp_path / "a.jsonl", ["x" * n for n in (3, 16, 20, 30, 33)])
    words = ["build", str(source), "-m", "decompose", "-n", "32", "-t", "bytes"]

    def built(name: str, *options: str) -> str:
        more = ["--out", str(tmp_path / name)]
        for option in options:
            more += ["--set", option]
        return CliRunner().invoke(sequences, [*words, *more], catch_exceptions=False).output

    # With its end token each has 4, 17, 21, 31 and 34 tokens; pieces have 9, 17 and 33.
    said = built("end", "min_length=8")
    assert "; 4 of 5 documents are without their end token" in said
    assert "1 are shorter than the shortest bucket" in said
    assert "of 3 it was in an end too short" in said and "--set drop=start" in said
    ends = [int((row.input_ids == 256).sum()) for row in rows_of(SequenceSet(tmp_path / "end"))]
    assert sum(ends) == 1
    said = built("start", "min_length=8", "drop=start")
    assert "; 1 of 5 documents are without their end token" in said and "of 3" not in said
    rows = rows_of(SequenceSet(tmp_path / "start"))
    assert sum(int((row.input_ids == 256).sum()) for row in rows) == 4
    said = built("all", "min_length=1", "drop=start")
    assert "without their end token" not in said
