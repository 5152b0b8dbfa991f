"""What a source may be: packed, in arrays, saved by `datasets`, PDF, HTML; and what is told of the
files that are not read."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from lengthwise.cli.sequences import sequences
from lengthwise.documents import files as read_by_all
from lengthwise.errors import DocumentError
from lengthwise.sequences import folders, json_values as values, tokenise
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.errors import SequenceError, UnreadableError
from lengthwise.sequences.records import Fields
from lengthwise.sequences.store import SequenceSet
from lengthwise.sequences.token_store import TokenStore
from tests.sequences.test_sequences_sources import names_of, store_of, texts_of

TEXTS = ["one and two", "three, four and five", "six"]
ROWS = [{"text": text, "repo": f"r{n}"} for n, text in enumerate(TEXTS)]


def packed(way: str, data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, way) as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


def read(place: Path, *sources: Path, **fields: Any) -> list[str]:
    place.mkdir(exist_ok=True)
    return texts_of(store_of(place, *sources, **fields))


def build(*words: str | Path) -> Result:
    return CliRunner().invoke(
        sequences, ["build", *map(str, words), "-t", "bytes", "-m", "best-fit", "-n", "64"],
        catch_exceptions=False,
    )  # fmt: skip


@pytest.mark.parametrize(("suffix", "way"), [(".gz", "gzip"), (".zst", "zstd"), (".bz2", "bz2")])
def test_packed_files_are_read_alone_and_in_folders(tmp_path: Path, suffix: str, way: str) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    # Several streams in one file are what splitting tools write.
    (folder / f"a.jsonl{suffix}").write_bytes(packed(way, lines) + packed(way, lines))
    (folder / f"b.txt{suffix}").write_bytes(packed(way, b"plain text"))
    (folder / f"c.json{suffix}").write_bytes(packed(way, json.dumps(ROWS).encode()))
    (folder / "d.txt").write_text("beside them")
    wanted = [*TEXTS, *TEXTS, "plain text", *TEXTS, "beside them"]
    assert read(tmp_path / "of-folder", folder) == wanted
    assert read(tmp_path / "of-file", folder / f"c.json{suffix}") == TEXTS
    found = Sources((str(folder / f"a.jsonl{suffix}"),), Fields())
    assert ["".join(r.blocks) for _, r in found.read(0, 4)] == TEXTS[1:]


def test_a_long_packed_text_is_read_in_stretches(tmp_path: Path) -> None:
    text = "lorem ipsum " * 300_000
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / "of", tmp_path / "a.txt.gz") == [text]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (json.dumps(ROWS), TEXTS),
        (json.dumps(ROWS, indent=2), TEXTS),
        ("\ufeff \n" + json.dumps(TEXTS), TEXTS),
        ("\n".join(map(json.dumps, ROWS)), TEXTS),
        (json.dumps(ROWS[0], indent=1), TEXTS[:1]),
        ("[]", []),
        (json.dumps([*ROWS[:1], 5, 12345, None, {"other": 1}, *ROWS[1:]]), TEXTS),
        (json.dumps([{"text": "\u00fc\u957f" * 9, "more": [[1.5e-3, {"a": None}]]}]),
         ["\u00fc\u957f" * 9]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("block", [1, 3, 1 << 16])
def test_documents_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, wanted: list[str], block: int
) -> None:
    monkeypatch.setattr(values, "_BLOCK", block)
    (tmp_path / "a.json").write_text(written, encoding="utf-8")
    sources = Sources((str(tmp_path / "a.json"),), Fields())
    found = [record for _, record in sources.read()]
    assert ["".join(r.blocks) for r in found if not r.skipped] == wanted
    for skip in range(len(found) + 1):
        assert [r.number for _, r in sources.read(0, skip)] == [r.number for r in found[skip:]]


def test_an_array_takes_no_more_memory_than_its_longest_document(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"text": "x" * 9_000}] * 500))
    assert len(read(tmp_path / "of", tmp_path / "a.json", memory=600_000)) == 500
    (tmp_path / "b.json").write_text(json.dumps([{"text": "y"}, {"text": "x" * 400_000}]))
    with pytest.raises(SequenceError, match=r"b\.json, document 2: a record of more than .*give"):
        read(tmp_path / "of-b", tmp_path / "b.json", memory=600_000)


def test_settings_in_json_are_no_documents_and_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "package.json").write_text('{"name": "app"}')
    (folder / "broken.json").write_text("{")
    (folder / "numbers.json").write_text("[1, 2]")
    (folder / "rows.json").write_text(json.dumps(ROWS))
    assert read(tmp_path / "of", folder) == TEXTS
    assert Sources((str(folder),), Fields()).survey().passed == {".json": 3}
    with pytest.raises(SequenceError, match="has no field 'text'"):
        Sources((str(folder / "package.json"),), Fields()).survey()


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_arrow_files_are_read(tmp_path: Path, kind: str) -> None:
    table = pa.table({"text": pa.array([*TEXTS, None]), "repo": pa.array(list("abcd"))})
    path = tmp_path / "a.arrow"
    if kind == "file":
        feather.write_feather(table, path, compression="zstd")
    else:
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    store = store_of(tmp_path, path, repository="repo")
    assert texts_of(store) == TEXTS and store.repository_names == ["a", "b", "c"]
    found = Sources((str(path),), Fields())
    assert [r.number for _, r in found.read(0, 1)] == [1, 2, 3]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnreadableError, match=r"a\.arrow cannot be read: not a whole Arrow file"):
        Sources((str(path),), Fields(), strict=True).survey()


def test_what_datasets_saved_to_disk_is_read_without_what_it_worked_out_later(
    tmp_path: Path,
) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "saved")
    saved = datasets.load_from_disk(str(tmp_path / "saved"))["train"]
    saved.map(lambda row: {"text": row["text"].upper()})
    assert any((tmp_path / "saved" / "train").glob("cache-*.arrow"))
    store = store_of(tmp_path, tmp_path / "saved")
    assert texts_of(store) == [TEXTS[0], *TEXTS]
    assert store.repository_names == ["saved/test", "saved/train"]


def test_pdf_and_html_are_read_as_all_other_verbs_read_them(tmp_path: Path) -> None:
    page = "<html><body><script>var x;</script><p>A page of text.</p></body></html>"
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "page.html").write_text(page)
    (folder / "paper.pdf").write_bytes(one_page_pdf("A paper of one page"))
    (folder / "scan.pdf").write_bytes(one_page_pdf(""))
    (folder / "zeros.pdf").write_bytes(bytes(100))
    store = store_of(tmp_path, folder)
    texts = texts_of(store)
    assert texts[0].strip() == "A page of text." and "A paper of one page" in texts[1]
    assert names_of(store) == ["site/page.html", "site/paper.pdf"]
    assert sorted(store.facts["skipped"]) == sorted(store.facts["skipped"], key=str)
    told = json.dumps(store.facts["skipped"])
    assert "scan?" in told and "site/zeros.pdf" in told


def one_page_pdf(text: str) -> bytes:
    content = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(data)
    return data + b"xref\n0 6\n0000000000 65535 f \n" + table + end


def test_text_in_other_encodings_is_what_the_other_verbs_make_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "turkish.txt").write_bytes("ığdır".encode("cp1254"))
    (tmp_path / "good.txt").write_text("good")

    def known(path: str) -> read_by_all.Document:
        return read_by_all.Document("turkish.txt", Path(path).read_bytes().decode("cp1254"))

    def unknown(path: str) -> read_by_all.Document:
        raise DocumentError("turkish.txt is not UTF-8: `iconv -f CP1254 -t UTF-8 turkish.txt`")

    both = ["ığdır", "good"]
    for name, reads, wanted in (("known", known, both), ("unknown", unknown, ["good"])):
        monkeypatch.setattr(read_by_all, "read_document", reads)
        store = store_of_new(tmp_path / name, tmp_path / "turkish.txt", tmp_path / "good.txt")
        assert texts_of(store) == wanted
    (why,) = store.facts["skipped"]
    assert why == "invalid UTF-8, probably CP1254 (--encoding CP1254)"


@pytest.mark.parametrize(("encoding", "text"), [
    ("cp1254", "ığdır ve çevresi"), ("gb18030", "长文本"), ("koi8-r", "длинный текст"),
    ("utf-16-le", "plain and with two bytes"), ("utf-16", "with a mark"),
])  # fmt: skip
def test_text_files_that_are_not_utf8_are_read_in_the_encoding_named(
    tmp_path: Path, encoding: str, text: str
) -> None:
    (tmp_path / "a.txt").write_bytes((text * 3).encode(encoding))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(text.encode(encoding)))
    (tmp_path / "c.txt").write_text("ü in UTF-8", encoding="utf-8")
    paths = [tmp_path / name for name in ("a.txt", "b.txt.gz", "c.txt")]
    assert read(tmp_path / "of", *paths, encoding=encoding) == [text * 3, text, "ü in UTF-8"]
    (tmp_path / "d.txt").write_bytes(b"\x81\xff\x00")
    store = store_of_new(tmp_path / "bad", tmp_path / "c.txt", tmp_path / "d.txt")
    assert list(store.facts["skipped"]) == ["binary (holds a zero byte)"]
    keys = {Sources((str(paths[0]),), Fields(encoding=each)).survey().fingerprint
            for each in (None, encoding, "latin-1")}  # fmt: skip
    assert len(keys) == 3


@pytest.mark.parametrize("name", ["cp12522", "base64", "", "undefined", "a\0b"])
def test_an_encoding_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(SequenceError, match="there is no encoding"):
        Fields(encoding=name)


def store_of_new(place: Path, *sources: Path) -> TokenStore:
    place.mkdir()
    return store_of(place, *sources)


def damaged(place: Path) -> list[Path]:
    """A file of every kind that cannot be read (on)."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS * 2000).encode()
    pq.write_table(pa.table({"text": ["some text"] * 1000}), place / "p.parquet")
    whole = (place / "p.parquet").read_bytes()
    found = {
        "cut.parquet": whole[: len(whole) // 2],
        "cut.jsonl.gz": gzip.compress(lines)[:-200],
        "no.txt.zst": b"this is not zstd",
        "cut.json": json.dumps(ROWS).encode()[:-30],
        "no.json": b"no JSON at all",
        "cut.arrow": b"ARROW1\0\0" + bytes(30),
        "zeros.pdf": bytes(100),
        "packed.parquet.gz": gzip.compress(whole),
    }
    for name, data in found.items():
        (place / name).write_bytes(data)
    paths = [place / name for name in found]
    if sys.platform == "linux":
        (place / "io.txt").symlink_to("/proc/self/mem")  # opens, and no byte of it can be read
        paths.append(place / "io.txt")
    return paths


def test_what_cannot_be_read_is_skipped_and_counted_and_with_strict_stops(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("good text " * 30)
    for number, path in enumerate(damaged(tmp_path)):
        out = tmp_path / f"out-{number}"
        built = build(path, tmp_path / "good.txt", "--out", out)
        assert "; 1 skipped" in built.output, path
        manifest = SequenceSet(out).manifest
        (why, kind), = manifest["skipped"].items()  # fmt: skip
        assert why.startswith("cannot be read (") and kind["first"] == [path.name]
        with pytest.raises(UnreadableError, match=f"{re.escape(path.name)} cannot be read: ") as e:
            build(path, tmp_path / "good.txt", "--strict", "--out", tmp_path / f"strict-{number}")
        assert "\n" not in str(e.value)


def test_documents_before_the_damage_are_kept_and_a_stop_there_counts_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = next(path for path in damaged(tmp_path) if path.name == "cut.json")
    (tmp_path / "z.txt").write_text("last")
    monkeypatch.setattr(tokenise, "COMMIT_S", -1.0)
    real, commits = tokenise.Store.commit, [0]

    def commit(self: tokenise.Store, file: int, record: int) -> None:
        real(self, file, record)
        commits[0] += 1
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenise.Store, "commit", commit)
    for _ in range(20):
        try:
            store = store_of(tmp_path, cut, tmp_path / "z.txt")
            break
        except KeyboardInterrupt:
            continue
    assert commits[0] == 4
    assert texts_of(store) == [*TEXTS[:2], "last"]
    assert [kind["count"] for kind in store.facts["skipped"].values()] == [1]


def test_a_folder_that_may_not_be_entered_is_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("corpus/closed", "corpus/open"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.txt").write_text(name)
    real = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    store = store_of(tmp_path, tmp_path / "corpus")
    assert texts_of(store) == ["corpus/open"]
    assert store.facts["skipped"] == {
        "cannot be read (Permission denied)": {"count": 1, "first": ["corpus/closed/"]}
    }


def test_files_that_are_not_read_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / ".git").mkdir(parents=True)
    (folder / "node_modules").mkdir()
    for name in ("a.txt", "b.png", "c.png", "d.parquet.gz", "Makefile", ".hidden", "e.docx.gz"):
        (folder / name).write_text("good text " * 9)
    (folder / "link.txt").symlink_to(folder / "a.txt")
    built = build(folder, "--out", tmp_path / "out")
    wanted = {".png": 2, "hidden": 2, ".parquet.gz": 1, "no suffix": 1, ".docx.gz": 1,
              "links": 1, "node_modules": 1}  # fmt: skip
    assert SequenceSet(tmp_path / "out").manifest["not_read"] == wanted
    assert "not read: 9 files or folders" in built.output and "; 9 not read" in built.output
    shown = CliRunner().invoke(sequences, ["show", str(tmp_path / "out")])
    assert "2: .png" in shown.output


@pytest.mark.parametrize("lying", ["x/.notes/a.txt", "x/a.tex", "x/README", "x/node_modules/a.md",
                                   "x/.a.txt", "x/sub/.deep/a.txt", "x/a.log.gz"])  # fmt: skip
def test_advice_on_a_folder_of_which_nothing_is_read_works(tmp_path: Path, lying: str) -> None:
    path = tmp_path / lying
    path.parent.mkdir(parents=True)
    data = b"some text " * 20
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    with pytest.raises(SequenceError) as error:
        build(tmp_path / "x", "--out", tmp_path / "out")
    said = str(error.value)
    if found := re.search(r": read them with (--suffix (\S+))$", said):
        words = [tmp_path / "x", *found[1].split()]
    else:
        found = re.search(r": name (.*) itself to have it read$", said)
        assert found, said
        words = [Path(found[1])]
    built = build(*words, "--out", tmp_path / "out")
    assert "1 documents" in built.output
