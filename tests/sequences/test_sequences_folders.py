"""Whose a folder is: other builds, other options, other programs, and a disk without room."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise._utils.locks import alone_in
from lengthwise.cli.sequences import sequences
from lengthwise.sequences import embeddings, neighbours, pairing, store as stores, tokenise
from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import BUILDERS, make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.errors import LengthwiseError, SequenceError
from lengthwise.sequences.files import reserve
from lengthwise.sequences.records import Fields
from lengthwise.sequences.store import SequenceSet
from tests.sequence_runs import jsonl, rows_of, run, some_texts, tree


def sharing(tokens: Path, out: Path, *sources: Path, **fields: Any) -> Build:
    """A build whose tokens lie in a folder of their own."""
    return Build(Sources(tuple(map(str, sources)), Fields(**fields)), ByteEncoder(),
                 make_builder("best-fit", {}, 64), Settings(), out, tokens)  # fmt: skip


def stopped_while_tokenising(task: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begins a build, and ends it after the first record is safe."""
    real = tokenise.Store.commit

    def commit(self: tokenise.Store, file: int, record: int) -> None:
        real(self, file, record)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tokenise, "COMMIT_S", -1.0)
        patch.setattr(tokenise.Store, "commit", commit)
        with pytest.raises(KeyboardInterrupt):
            build(task)


def test_another_text_field_is_another_build(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"text": "t" * n, "body": "b" * n}) + "\n"
                              for n in range(1, 40)))  # fmt: skip
    build(sharing(tmp_path / "tokens", tmp_path / "text", source))
    with pytest.raises(SequenceError, match="text holds something else than this build"):
        build(sharing(tmp_path / "tokens", tmp_path / "text", source, text="body"))
    with pytest.raises(SequenceError, match="tokens of other sources"):
        build(sharing(tmp_path / "tokens", tmp_path / "body", source, text="body"))


def test_tokens_begun_for_other_sources_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = jsonl(tmp_path / "one.jsonl", some_texts(20, 300, 1))
    two = jsonl(tmp_path / "two.jsonl", some_texts(20, 300, 2))
    begun = sharing(tmp_path / "tokens", tmp_path / "a", one)
    stopped_while_tokenising(begun, monkeypatch)
    with pytest.raises(SequenceError, match="tokens.unfinished was begun with other sources"):
        build(sharing(tmp_path / "tokens", tmp_path / "b", two))
    build(begun)
    build(sharing(tmp_path / "fresh", tmp_path / "c", one))
    assert tree(tmp_path / "tokens") == tree(tmp_path / "fresh")


def test_what_a_crash_left_half_written_in_shared_tokens_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = sharing(tmp_path / "tokens", tmp_path / "a", jsonl(tmp_path / "a.jsonl", ["text"] * 9))
    stopped_while_tokenising(task, monkeypatch)
    (tmp_path / "tokens.unfinished" / "progress.json.12.aside").write_text("{")
    build(task)
    assert not [name for name in tree(tmp_path / "tokens") if "aside" in name]


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
def test_two_builds_do_not_work_in_one_folder_at_a_time(tmp_path: Path) -> None:
    task = sharing(tmp_path / "tokens", tmp_path / "a", jsonl(tmp_path / "a.jsonl", ["text"] * 9))
    for held in (tmp_path / "a", tmp_path / "tokens.unfinished"):
        held.mkdir(exist_ok=True)
        said = f"another build is at work in .*{held.name}"
        with alone_in(held, "build"), pytest.raises(SequenceError, match=said):
            build(task)
    assert build(task)["documents"] == 9


@pytest.mark.parametrize("tokens", [".", "out", "mine", "mine/thesis.txt"])
def test_a_folder_that_cannot_hold_the_tokens_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    task = sharing(Path(tokens), tmp_path / "out", jsonl(tmp_path / "a.jsonl", ["text"] * 9))
    with pytest.raises(SequenceError, match="holds something else than tokens.*--tokens"):
        build(task)
    assert not list(tmp_path.rglob("*.unfinished"))


def test_the_folders_of_a_build_are_the_same_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = jsonl(tmp_path / "a.jsonl", ["text"] * 9)
    task = sharing(Path("tokens"), Path("out"), source)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (task.folder, task.tokens) == (tmp_path / "out", tmp_path / "tokens")
    assert build(task)["documents"] == 9 and (tmp_path / "out").is_dir()
    # The working folder itself is not put aside for tokens, empty as it is.
    with pytest.raises(SequenceError, match="holds something else than tokens"):
        build(sharing(Path("."), tmp_path / "other", source))


@pytest.mark.parametrize(("out", "tokens"), [("notes/data", "tokens"), ("data", "notes/a/tokens")])
def test_a_build_into_its_own_source_is_refused(tmp_path: Path, out: str, tokens: str) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("text " * 100)
    with pytest.raises(SequenceError, match="lies in a folder that is read"):
        build(sharing(tmp_path / tokens, tmp_path / out, notes))
    hidden = sharing(notes / ".data" / "tokens", notes / ".data", notes)
    assert build(hidden) == build(hidden)


def test_options_that_made_nothing_leave_the_folder_to_others(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(20, 300))]
    for method, length, said in (("pair", 64, "use the method best-fit"),
                                 ("concat", 1 << 20, "nothing was built")):  # fmt: skip
        with pytest.raises(SequenceError, match=said):
            run(source, tmp_path / "out", method, length)
    with pytest.raises(SequenceError, match="is no folder"):
        run(source, tmp_path / "out", "concat", order="icp", encoder="nowhere")
    run(source, tmp_path / "out", "best-fit")
    run(source, tmp_path / "fresh", "best-fit")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_manifest_of_something_else_is_said_to_be_one(tmp_path: Path) -> None:
    for text in ('{"name": "app"}', "[]", '{"format": 1}'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(SequenceError, match="is no data set"):
            SequenceSet(tmp_path)
        with pytest.raises(SequenceError, match="holds something else"):
            run([jsonl(tmp_path / "a.jsonl", ["text"])], tmp_path, "concat")


def test_rows_of_the_shortest_bucket_there_can_be_are_counted(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(30, 50))]
    found = run(source, tmp_path / "out", "decompose", options={"min_length": "1"})
    said = found.manifest["buckets"]
    assert {int(bucket): facts["rows"] for bucket, facts in said.items() if facts["rows"]} == dict(
        sorted(found.buckets.items())
    )
    assert sum(facts["tokens"] for facts in said.values()) == found.manifest["tokens"]


def test_a_row_that_does_not_exist_names_the_buckets_that_do(tmp_path: Path) -> None:
    found = run([jsonl(tmp_path / "a.jsonl", ["x" * 20])], tmp_path / "out", "decompose")
    with pytest.raises(SequenceError, match=r"no row 0 in bucket 0; .* rows: 4: 1"):
        found.row(0)


def test_a_set_of_many_files_keeps_few_of_them_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.sequences.plan.PART_TOKENS", 64)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_ROWS", 1)
    monkeypatch.setattr(stores, "_HELD_FILES", 3)
    found = run([jsonl(tmp_path / "a.jsonl", some_texts(9, 300))], tmp_path / "out", "concat")
    assert len(found.manifest["shards"]) > 6
    first = [row.input_ids.tolist() for row in rows_of(found)]
    assert len(found._files) == 3
    assert [row.input_ids.tolist() for row in rows_of(found)] == first


@pytest.mark.parametrize("method", list(BUILDERS))
def test_a_length_beyond_what_a_file_can_hold_is_refused(method: str) -> None:
    with pytest.raises(LengthwiseError, match="max_length is beyond .*allowed is whole number"):
        make_builder(method, {}, 1 << 100)


def test_an_option_given_twice_is_refused(tmp_path: Path) -> None:
    source = str(jsonl(tmp_path / "a.jsonl", ["text"]))
    words = ["build", source, "--out", str(tmp_path / "out"), "-m", "concat", "-t", "bytes"]
    for twice in (["-n", "64", "--set", "max_length=32"],
                  ["--set", "max_length=64", "--set", "max_length=32"]):  # fmt: skip
        with pytest.raises(LengthwiseError, match="max_length.* give"):
            CliRunner().invoke(sequences, [*words, *twice], catch_exceptions=False)


@pytest.mark.skipif(sys.platform == "win32", reason="counts blocks of the disk")
def test_a_mapping_has_its_room_before_it_is_written(tmp_path: Path) -> None:
    table = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (1000, 300))
    reserve(table)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= table.nbytes
    assert np.load(tmp_path / "a.npy").shape == (1000, 300) and not table.any()


@pytest.mark.parametrize(("where", "method", "order"), [
    (embeddings, "concat", "icp"), (neighbours, "concat", "icp"), (pairing, "pair", "source"),
])  # fmt: skip
def test_a_mapping_without_room_is_one_line_and_not_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, method: str, order: str
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    for name in ("a.py", "test_a.py"):
        (code / name).write_text("text " * 100)

    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(where, "reserve", full)
        with pytest.raises(SequenceError, match="No space left on device"):
            run([code], tmp_path / "out", method, order=order)
    run([code], tmp_path / "out", method, order=order)
    run([code], tmp_path / "fresh", method, order=order)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
