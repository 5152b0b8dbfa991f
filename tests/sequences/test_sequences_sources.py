"""What is read, what is skipped and named, and what is refused, saying how to mend it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers

from lengthwise._utils.cache_folder import cache_dir
from lengthwise._utils.embedded_file import download_folder
from lengthwise._utils.progress import Progress
from lengthwise.cli.sequences import sequences
from lengthwise.sequences import cache, encoder as encoders, hub_rows, records, tables, tokenise
from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder, Encoder, byte_tokenizer, load_encoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import parse_bytes
from lengthwise.sequences.records import Fields
from lengthwise.sequences.token_store import TokenStore


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def store_of(place: Path, *sources: str | Path, **fields: Any) -> TokenStore:
    found = Sources(tuple(map(str, sources)), Fields(**fields))
    found.survey()
    tokenise.tokenise(found, ByteEncoder(), place / "tokens", "key", Progress(), 1 << 16)
    return TokenStore(place / "tokens")


def texts_of(store: TokenStore) -> list[str]:
    starts, lengths = store.spans(np.arange(store.documents))
    found = []
    for start, length in zip(starts, lengths, strict=True):
        ids = store.gather(np.array([start]), np.array([length]))
        assert ids[-1] == 256
        found.append(bytes(ids[:-1].astype(np.uint8)).decode())
    return found


def names_of(store: TokenStore) -> list[str]:
    return store.names(np.arange(store.documents))


def refusal(method: str, *sources: Path, **options: Any) -> str:
    with pytest.raises(SequenceError) as error:
        task_of(method, *sources, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def task_of(method: str, *sources: Path, out: Path | None = None, notes: Notes | None = None,
            **options: str) -> dict[str, Any]:  # fmt: skip
    out = out or sources[0].parent / "out"
    task = Build(Sources(tuple(map(str, sources)), Fields()), ByteEncoder(),
                 make_builder(method, options), Settings(), out, out / "tokens")  # fmt: skip
    return build(task, notes)


def test_a_folder_is_read_in_order_and_its_top_folders_are_repositories(tmp_path: Path) -> None:
    root = tmp_path / "code"
    for name in ("b/x.py", "b/deep/y.py", "a/z.md", "top.txt", ".git/config.txt", "b/image.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text of {name}\r\n")
    store = store_of(tmp_path, root)
    assert names_of(store) == ["code/a/z.md", "code/b/deep/y.py", "code/b/x.py", "code/top.txt"]
    assert store.repository_names == ["code/a", "code/b", "code"]
    assert store.repositories(np.arange(4)).tolist() == [0, 1, 1, 2]
    assert texts_of(store)[0] == "text of a/z.md\r\n"


def test_jsonl_and_parquet_give_the_fields_asked_for(tmp_path: Path) -> None:
    rows = [{"body": f"document {n}", "repo": f"r{n % 2}"} for n in range(5)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet", row_group_size=2)
    for file in ("a.jsonl", "b.parquet"):
        place = tmp_path / f"of-{file}"
        place.mkdir()
        store = store_of(place, tmp_path / file, text="body", repository="repo")
        assert texts_of(store) == [row["body"] for row in rows]
        assert names_of(store)[4] == f"{file}:5"
        assert store.repository_names == ["r0", "r1"]


@pytest.mark.parametrize("file", ["a.jsonl", "b.parquet"])
def test_reading_goes_on_from_any_record(tmp_path: Path, file: str) -> None:
    rows = [{"text": f"document {n}"} for n in range(7)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet", row_group_size=3)
    sources = Sources((str(tmp_path / file),), Fields())
    whole = ["".join(record.blocks) for _, record in sources.read()]
    for skip in range(8):
        assert ["".join(r.blocks) for _, r in sources.read(0, skip)] == whole[skip:]


def test_a_data_set_by_name_is_streamed(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert texts_of(store_of(tmp_path, f"datasets:{tmp_path / 'mine'}")) == ["one", "two"]


def test_documents_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    root.mkdir()
    (root / "latin.txt").write_bytes("café".encode("latin-1"))
    (root / "empty.txt").write_text(" \n")
    (root / "binary.txt").write_bytes(b"a\0b")
    (root / "good.txt").write_text("good " * 300)
    lines = [b'{"text": "caf\xe9"}', b"not json", b'{"other": 1}', b'{"text": null}',
             b'{"text": "\\ud800"}', b'{"text": ""}', b'{"text": "fine"}']  # fmt: skip
    (root / "rows.jsonl").write_bytes(b'{"text": "first"}\n' + b"\n".join(lines))
    notes = Notes()
    manifest = task_of("best-fit", root, notes=notes, max_length="64", out=tmp_path / "out")
    counts: Counter[str] = Counter()
    for why, kind in manifest["skipped"].items():
        counts[why.partition(", probably")[0]] += kind["count"]
    assert counts == {"invalid UTF-8": 2, "empty": 2, "binary (holds a zero byte)": 1,
                      "a line that is not a JSON object": 1, "no text in its field": 2,
                      "not Unicode text (a lone surrogate)": 1}  # fmt: skip
    assert manifest["documents"] == 3
    told = "\n".join(notes.notes)
    assert "mixed/latin.txt" in told and "mixed/rows.jsonl:2" in told
    skipped = (tmp_path / "out" / "tokens" / "skipped.txt").read_text().splitlines()
    assert len(skipped) == sum(counts.values())


def test_one_document_in_one_long_line_is_read_in_stretches(tmp_path: Path) -> None:
    text = "lorem ipsum dolor " * 600_000
    (tmp_path / "line.txt").write_text(text)
    began = time.process_time()
    store = store_of(tmp_path, tmp_path / "line.txt")
    assert time.process_time() - began < 20
    assert store.documents == 1 and store.tokens == len(text) + 1
    assert bytes(store.mapped()[:-1].astype(np.uint8)).decode() == text


def test_invalid_utf8_deep_in_a_long_file_skips_it_before_any_token(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"good " * 500_000 + b"\xff")
    (tmp_path / "good.txt").write_text("good")
    store = store_of(tmp_path, tmp_path / "bad.txt", tmp_path / "good.txt")
    assert texts_of(store) == ["good"]


def test_cutting_before_white_space_gives_the_ids_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenise, "PIECE", 64)
    text = "def f(x):\n    return x   +  1\n\n\n" * 60
    encoder = load_encoder()
    cut = list(tokenise.pieces([text[:500], text[500:501], text[501:]]))
    assert "".join(cut) == text and max(map(len, cut)) <= 64
    assert np.concatenate(encoder.encode(cut)).tolist() == encoder.encode([text])[0].tolist()


def test_a_text_without_white_space_is_cut_all_the_same() -> None:
    cut = list(tokenise.pieces(["x" * (3 * tokenise.PIECE + 5)]))
    assert [len(piece) for piece in cut] == [tokenise.PIECE] * 3 + [5]


def test_a_record_too_big_for_the_memory_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "short"}\n{"text": "' + "x" * 50_000 + '"}\n')
    with pytest.raises(SequenceError, match="a.jsonl, line 2: .*--memory"):
        store_of(tmp_path, tmp_path / "a.jsonl", memory=60_000)


def test_first_lines_that_are_no_objects_stop_nothing(tmp_path: Path) -> None:
    lines = ("5", "null", '["text"]', "[" * 100_000, "not json", '{"other": 1}', "")
    for number, first in enumerate(lines):
        (tmp_path / "a.jsonl").write_text(f'{first}\n{{"text": "fine"}}\n')
        place = tmp_path / f"of-{number}"
        place.mkdir()
        assert texts_of(store_of(place, tmp_path / "a.jsonl")) == ["fine"]


def test_parquet_columns_that_are_no_text_are_counted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2, 3]}), tmp_path / "numbers.parquet")
    assert "3 no text in its field" in refusal("concat", tmp_path / "numbers.parquet")
    mixed = {"text": pa.array(["one", None, "two"]).dictionary_encode(), "repo": [0, 1, None]}
    pq.write_table(pa.table(mixed), tmp_path / "mixed.parquet")
    store = store_of(tmp_path, tmp_path / "mixed.parquet", repository="repo")
    assert texts_of(store) == ["one", "two"]
    assert store.repository_names == ["0", "mixed"]


def test_long_rows_of_parquet_are_decoded_few_at_a_time_and_refused_by_row(tmp_path: Path) -> None:
    texts = ["short", *(f"{n:09d}" * 700 for n in range(20)), "x" * 50_000]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", use_dictionary=False)
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    assert tables._rows_at_once(group, Fields(memory=1 << 30)) == 64
    assert 1 <= tables._rows_at_once(group, Fields(memory=1 << 20)) < 8
    with pytest.raises(SequenceError, match="a.parquet, row 22: .*--memory"):
        store_of(tmp_path, tmp_path / "a.parquet", memory=60_000)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_names_that_are_no_unicode_are_read_and_told(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    for name, text in ((b"good\xff.txt", "good " * 60), (b"empty\xfe.txt", "")):
        Path(os.fsdecode(bytes(root) + b"/" + name)).write_text(text)
    manifest = task_of("best-fit", root, out=tmp_path / "out", max_length="64")
    assert manifest["skipped"]["empty"]["first"] == ["odd/empty\ufffd.txt"]
    assert names_of(TokenStore(tmp_path / "out" / "tokens")) == ["odd/good\ufffd.txt"]


def test_a_long_file_of_nothing_but_white_space_is_empty(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text(" \n" * records.BLOCK)
    assert "no document in the sources: 1 empty" in refusal("concat", tmp_path / "blank.txt")


def test_folders_of_one_name_are_two_projects(tmp_path: Path) -> None:
    for project, name in (("one", "cache.py"), ("two", "test_cache.py")):
        (tmp_path / project / "src").mkdir(parents=True)
        (tmp_path / project / "src" / name).write_text("pass")
    store = store_of(tmp_path, tmp_path / "one" / "src", tmp_path / "two" / "src")
    assert store.repository_names == ["src", "src(2)"]


def test_what_is_no_file_and_an_empty_source_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SequenceError, match="a source is an empty text"):
        Sources(("",), Fields())
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.txt")
        with pytest.raises(SequenceError, match=r"pipe\.txt is no file but a pipe"):
            Sources(("pipe.txt",), Fields())


def test_a_suffix_may_be_written_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "Notes.TEX").write_text("x")
    for suffix in ("tex", ".TEX"):
        found = Sources((str(tmp_path),), Fields(), (suffix,)).files()
        assert [file.name for file in found] == [f"{tmp_path.name}/Notes.TEX"]


def test_a_stream_that_breaks_is_one_line() -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise RuntimeError("connection lost\nand more")

    streamed = hub_rows.streamed(rows(), "mine")
    assert next(streamed) == {"text": "one"}
    with pytest.raises(SequenceError, match=r"midst of 'mine' \(connection lost\); run the same"):
        next(streamed)


def test_a_missing_column_or_field_names_the_nearest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"texts": ["a"], "id": [1]}), tmp_path / "a.parquet")
    assert "did you mean 'texts'" in refusal("concat", tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"txt": "a"}\n')
    assert "did you mean 'txt'" in refusal("concat", tmp_path / "b.jsonl")


def test_what_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("text")
    assert f"did you mean '{tmp_path / 'corpus.txt'}'" in refusal("concat", tmp_path / "corpsu.txt")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    assert "it holds .png, which are no text" in refusal("concat", tmp_path / "images")
    assert "did you mean 'decompose'" in refusal("decomposed", tmp_path / "corpus.txt")
    said = refusal("decompose", tmp_path / "corpus.txt", min_lenght="4")
    assert "did you mean 'min_length'" in said
    assert "nearest are 64 and 128" in refusal("decompose", tmp_path / "corpus.txt",
                                               min_length="100")  # fmt: skip


def test_nothing_but_empty_documents_and_nothing_but_short_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("  ")
    assert "no document in the sources: 1 empty" in refusal("concat", tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("short")
    said = refusal("decompose", tmp_path / "b.txt", out=tmp_path / "b")
    assert "nothing was built: all 6 tokens were dropped" in said


def test_an_empty_bucket_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 300)
    notes = Notes()
    manifest = task_of("decompose", tmp_path / "a.txt", notes=notes, max_length="512")
    assert manifest["buckets"]["09"] == {"inputs": 512, "rows": 0, "tokens": 0}
    assert any("bucket 09 is empty: no piece has 513 tokens" in note for note in notes.notes)


def test_a_tokenizer_without_end_token_is_refused_until_one_is_named(tmp_path: Path) -> None:
    bare = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "stop": 2}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    bare.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(SequenceError, match="names no end token: choose one with --end-token"):
        load_encoder(str(tmp_path))
    with pytest.raises(SequenceError, match="has no token 'end'"):
        load_encoder(str(tmp_path), "end")
    assert load_encoder(str(tmp_path), "stop").end == 2
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "stop"}')
    assert load_encoder(str(tmp_path)).end == 2


def test_end_tokens_written_in_a_text_are_text() -> None:
    encoder = load_encoder()
    ids = encoder.encode(["a <|endoftext|> b"])[0]
    assert encoder.end not in ids
    assert encoder.tokenizer.decode(ids.tolist(), skip_special_tokens=False) == "a <|endoftext|> b"


def test_bytes_as_tokens_are_what_the_saved_tokenizer_says() -> None:
    text = "Füße, 长 and \x7f\n"
    plain = byte_tokenizer()
    assert plain.encode(text).ids == list(text.encode()) == ByteEncoder().encode([text])[0].tolist()
    assert plain.decode(plain.encode(text).ids) == text
    assert isinstance(Encoder(plain, "<|endoftext|>"), Encoder) and encoders.BYTES == "bytes"


def test_the_tokenizers_folder_is_the_models_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.tokenizer_file().parents[1] == download_folder().parent == cache_dir()
    monkeypatch.setenv("LENGTHWISE_CACHE", "elsewhere")
    assert cache.tokenizer_file().parents[1] == download_folder().parent == Path("elsewhere")


def test_sizes_are_read_as_they_are_written() -> None:
    assert (parse_bytes("256MB"), parse_bytes("1.5 GiB")) == (256_000_000, 3 << 29)
    with pytest.raises(SequenceError, match="no size"):
        parse_bytes("much")
    with pytest.raises(SequenceError, match="1MiB is too little: give 256MB"):
        Settings(memory=1 << 20)


def test_the_command_builds_and_shows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("To be or not to be. " * 100)
    out = str(tmp_path / "out")
    words = ["build", str(tmp_path / "a.txt"), "--out", out, "-m", "decompose", "-n", "256",
             "--set", "min_length=64", "-t", "bytes"]  # fmt: skip
    built = CliRunner().invoke(sequences, words, catch_exceptions=False)
    assert "1 documents, 2,001 tokens ->" in built.output
    shown = CliRunner().invoke(sequences, ["show", out, "--verify", "--row", "0", "--bucket", "6"])
    assert "bucket 06" in shown.output and "To be or not" in shown.output
    (tmp_path / "out" / "bucket-06" / "part-00000.parquet").write_bytes(b"x")
    with pytest.raises(SequenceError, match="missing or damaged"):
        CliRunner().invoke(sequences, ["show", out, "--verify"], catch_exceptions=False)
