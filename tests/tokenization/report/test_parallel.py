"""Parallel texts from files, and what languages pay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.errors import DocumentError
from lengthwise.tokenization.opened import Fast
from lengthwise.tokenization.report.parallel import Parallel, measure_languages, read_parallel
from tests.tiny_tokenizers import byte_level

LINES = {"en": ["a cat", "the"], "tr": ["bir kedi", "o"]}


def test_a_folder_a_table_and_objects_are_one(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for language, lines in LINES.items():
        (folder / f"{language}.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "a.tsv").write_text("en\ttr\na cat\tbir kedi\nthe\to\n")
    (tmp_path / "a.csv").write_text('en,tr\n"a cat",bir kedi\nthe,o\n')
    (tmp_path / "a.json").write_text(json.dumps(LINES))
    rows = [{"en": "a cat", "tr": "bir kedi"}, {"en": "the", "tr": "o"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a.tsv", "a.csv", "a.json", "a.jsonl"):
        (tmp_path / name.upper()).write_bytes((tmp_path / name).read_bytes())
    for name in ("texts", "a.tsv", "a.csv", "a.json", "a.jsonl"):
        assert read_parallel(tmp_path / name).lines == LINES, name
        if name != "texts":
            assert read_parallel(tmp_path / name.upper()).lines == LINES, name.upper()


def test_every_file_of_a_folder_is_a_language(tmp_path: Path) -> None:
    for name in ("ar.md", "de.Text", "en.TXT", "tr", "dev.eng_Latn", "corpus.fr"):
        (tmp_path / name).write_text("a line\n")
    found = read_parallel(tmp_path).lines
    assert list(found) == ["ar", "corpus.fr", "de", "dev.eng_Latn", "en", "tr"]


@pytest.mark.parametrize("other", ["zh.html", "zh.PDF", "all.csv", "all.jsonl"])
def test_a_file_that_is_no_text_of_a_language_is_refused(other: str, tmp_path: Path) -> None:
    for name in ("en.txt", "tr.txt", other):
        (tmp_path / name).write_text("a line\n")
    with pytest.raises(DocumentError, match=f"{other} is no plain text of one language"):
        read_parallel(tmp_path)


def test_a_folder_of_folders_is_refused(tmp_path: Path) -> None:
    for name in ("en.txt", "tr.txt"):
        (tmp_path / name).write_text("a line\n")
    (tmp_path / ".git").mkdir()
    assert list(read_parallel(tmp_path).lines) == ["en", "tr"]
    (tmp_path / "dev").mkdir()
    with pytest.raises(DocumentError, match=r"dev is no file; .*as .*dev may be"):
        read_parallel(tmp_path)


@pytest.mark.parametrize("other", ["en.text", "en", "en.md"])
def test_two_files_of_one_language_are_refused(other: str, tmp_path: Path) -> None:
    for name in ("en.txt", "tr.txt", other):
        (tmp_path / name).write_text("a line\n")
    with pytest.raises(DocumentError, match="'en' twice"):
        read_parallel(tmp_path)


def test_a_line_of_json_ends_at_a_newline_alone_and_blank_ones_say_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"en": "a\u2028cat", "tr": "kedi"}\n \n{"en": "the", "tr": "o"}\n\n')
    assert read_parallel(file).lines == {"en": ["a\u2028cat", "the"], "tr": ["kedi", "o"]}


def test_premiums_are_of_totals_and_parity_of_lines() -> None:
    tokenizer = Fast("bytes", byte_level().backend_tokenizer, None)
    english, turkish = measure_languages(tokenizer, Parallel("x", LINES), "en")
    assert (english.tokens, turkish.tokens) == (8, 9)
    assert turkish.premium == 9 / 8 and turkish.parity == (8 / 5 + 1 / 3) / 2
    assert english.premium == english.parity == english.byte_premium == 1
    assert turkish.fertility == 3 and turkish.bytes_per_token == 1


def test_the_reference_is_english_or_named() -> None:
    found = Parallel("x", {"de": ["a"], "eng_Latn": ["a"], "tur": ["b"]})
    assert (found.reference(), found.reference("de"), found.turkish()) == ("eng_Latn", "de", "tur")
    with pytest.raises(DocumentError, match="no language 'dee'.*did you mean 'de'"):
        found.reference("dee")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.json", b'{"en": ["a"], "tr": ["b", "c"]}', "en has 1 line and tr 2"),
        ("a.json", b'{"en": ["a"]}', "holds 1 language;"), ("a.json", b"[" * 99999, "no JSON"),
        ("a.json", b'{"en": ["a"], "tr": [" "]}', "tr is empty"),
        ("a.json", b'{"en": "a"}', "no parallel text"), ("a.json", b"\xff\x00", "a.json"),
        ("a.jsonl", b'{"en": "a"}\n{"tr": "a"}\n', "languages of the first"),
        ("a.tsv", b"en\ttr\na\n", "line 2 has 1 column,"), ("a.tsv", b"en\ttr\n", "no lines"),
        ("a.csv", b"en,tr,en\na,b,c\n", "'en' twice"), ("a.csv", b"en, \na,b\n", "no name"),
        ("a.tsv", b"en\ten\na\tb\n", "'en' twice"), ("a.tsv", b"en,tr\na,b\n", "tabs"),
        ("a.CSV", b"en;tr\na;b\n", "one column"), ("a.csv", b"", "one column"),
        ("a.csv", b'en,tr\na,b\nc,"d\ne,f\n', "line 4 is no CSV"),
        ("a.csv", b'en,tr\n"a\nb",c\nd\n', "line 4 has 1 column,"),
        ("a.json", b'{"en": ["a"], "tr": ["b"], "en": ["c"]}', "'en' twice"),
        ("a.jsonl", b'{"en": "a", "tr": "b", "en": "c"}\n', "'en' twice"),
        ("a.jsonl", b'{"en": "a", "tr": "b"}\n\n{"en": "a"\n', "line 3, column 11"),
        ("a.json", b'{"en": ["a"],\n "tr": }', "line 2, column 8: Expecting value"),
        ("a.tsv", bytes(64), "binary"), ("a.tsv", b"en\ttr\n\xe9\tb\n", "not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_not_parallel_is_refused(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DocumentError, match=said) as error:
        read_parallel(tmp_path / name)
    assert "\n" not in str(error.value)


def test_files_of_unequal_lines_are_refused(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("a\nb\n")
    (tmp_path / "tr.txt").write_text("a\n")
    with pytest.raises(DocumentError, match="en has 2 lines and tr 1"):
        read_parallel(tmp_path)
    with pytest.raises(DocumentError, match="there is no parallel text"):
        read_parallel(tmp_path / "nope")
