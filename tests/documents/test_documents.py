"""A document is read whole and unchanged, or refused in one line that says how to go on."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, NumberObject

from lengthwise.documents.document import Document
from lengthwise.documents.encodings import decode
from lengthwise.documents.files import read_document
from lengthwise.documents.folders import read
from lengthwise.documents.item_files import read_items
from lengthwise.documents.prompt_files import read_prompts
from lengthwise.errors import DocumentError

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>T</title>
<style>p { color: red }</style><script>var hidden = 1</script></head>
<body><nav><a>Menu</a></nav><!-- a comment --><h1>The  title</h1>
<p>Some <b>bold</b>
text.</p><pre>def f():
    return 1</pre><ul><li>one</li><li>two</li></ul></body></html>"""


def refusal(source: str | Path) -> str:
    with pytest.raises(DocumentError) as caught:
        read_document(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def pdf(path: Path, text: str, password: str | None = None, algorithm: str = "RC4-128") -> Path:
    writer = PdfWriter()
    page = writer.add_blank_page(width=300, height=200)
    if text:
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password is not None:
        writer.encrypt(password, "the owner's", algorithm=algorithm)
    with path.open("wb") as file:
        writer.write(file)
    return path


def test_the_default_document_is_the_language_reference_and_always_the_same() -> None:
    document = read_document()
    assert document.kind == "reference"
    assert "language reference" in document.name
    assert 'The "with" statement' in document.text
    assert len(document.text) > 300_000
    assert document == read_document(None)


@pytest.mark.parametrize(("suffix", "kind"), [(".txt", "text"), (".md", "markdown"), ("", "text")])
def test_text_is_read_whole(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"notes{suffix}"
    text = "# Überschrift\n\n" + "a line of text\n" * 50_000
    path.write_text(text, encoding="utf-8")
    assert read_document(path) == Document(path.name, text, kind)
    assert read_document(str(path)).text == text


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert read_document(path).text == "hello"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_a_plain_newline(tmp_path: Path, end: str) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(f"one{end}{end}two{end}".encode())
    assert read_document(path).text == "one\n\ntwo\n"
    assert [each.text for each in read_items(path)] == ["one", "two"]
    path.write_bytes(end.join(['{"prompt": "a"}', '{"prompt": "b"}']).encode())
    assert [each.turns for each in read_prompts(path)] == [("a",), ("b",)]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("grüße".encode())))
    assert read_document("-").text == "grüße"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    assert "standard input is empty" in refusal("-")


@pytest.mark.parametrize("name", ["page.html", "page.HTM", "page"])
def test_html_keeps_the_text_and_drops_scripts_and_menus(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(PAGE, encoding="utf-8")
    document = read_document(path)
    assert document.kind == "html"
    assert document.text.startswith("The title\n\nSome bold text.\n\ndef f():\n    return 1\n")
    for gone in ("hidden", "color", "Menu", "comment"):
        assert gone not in document.text


def test_html_in_its_declared_encoding(tmp_path: Path) -> None:
    path = tmp_path / "old.html"
    path.write_bytes(b'<meta charset="iso-8859-1"><p>caf\xe9 \x93quoted\x94</p>')
    assert read_document(path).text == "café “quoted”\n"
    path.write_bytes(b"<p>caf\xe9</p>")
    assert "byte 0xe9 at offset 6" in refusal(path)


def test_pdf(tmp_path: Path) -> None:
    document = read_document(pdf(tmp_path / "paper.pdf", "Hello from a page"))
    assert document.kind == "pdf"
    assert document.text == "Hello from a page\n"
    assert read_document(pdf(tmp_path / "no_suffix", "Sniffed")).kind == "pdf"


def test_pages_of_pictures_among_those_of_text_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = PdfWriter(clone_from=pdf(tmp_path / "text.pdf", "A page of text"))
    writer.add_blank_page(width=300, height=200)
    path = tmp_path / "half scanned.pdf"
    writer.write(path)
    assert read_document(path).text == "A page of text\n\n\n"
    assert capsys.readouterr().err == ""
    picture = DecodedStreamObject()
    picture.set_data(b"\xff")
    sizes = {"/Width": 1, "/Height": 1, "/BitsPerComponent": 8}
    picture.update({NameObject(name): NumberObject(size) for name, size in sizes.items()})
    kinds = {"/Type": "/XObject", "/Subtype": "/Image", "/ColorSpace": "/DeviceGray"}
    picture.update({NameObject(name): NameObject(kind) for name, kind in kinds.items()})
    pictures = DictionaryObject({NameObject("/Im0"): writer._add_object(picture)})
    scan = writer.add_blank_page(width=300, height=200)
    scan[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): pictures})
    drawn = DecodedStreamObject()
    drawn.set_data(b"q 300 0 0 200 0 0 cm /Im0 Do Q")
    scan[NameObject("/Contents")] = writer._add_object(drawn)
    writer.write(path)
    assert read_document(path).text == "A page of text\n\n\n\n\n"
    assert capsys.readouterr().err == (
        "note: half scanned.pdf has pictures and no text on 1 of its 3 pages (scans?), the first "
        "is page 3: run OCR on it to have them read\n"
    )


def test_pdfs_that_cannot_be_read(tmp_path: Path) -> None:
    assert "OCR" in refusal(pdf(tmp_path / "scan.pdf", ""))
    for algorithm in ("RC4-128", "AES-128", "AES-256"):
        locked = pdf(tmp_path / "locked.pdf", "secret", password="x", algorithm=algorithm)
        assert "locked.pdf is encrypted and needs a password" in refusal(locked)
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing more")
    assert "not a readable PDF" in refusal(broken)


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_an_encrypted_pdf_that_anybody_may_open_is_read(tmp_path: Path, algorithm: str) -> None:
    """Its owner's password keeps people from changing it, and asks nothing of readers."""
    path = pdf(tmp_path / "paper.pdf", "For everybody", password="", algorithm=algorithm)
    assert read_document(path).text == "For everybody\n"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.pdf", bytes(2000), "a.pdf is no PDF"),
        ("a.pdf", b"PK\x03\x04 and more", "a.pdf is no PDF"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "with a password"),
        ("a.docx", b"plain text", "a.docx is no .docx"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Word"),
        ("a.rtf", b"{\\rtf1 hello}", "RTF"),
        ("a.zip", b"PK\x03\x04 and more", "zip archive"),
        ("a.txt.gz", b"\x1f\x8b\x08", "unpack it"),
    ],
)
def test_other_formats_are_called_what_they_are(
    tmp_path: Path, name: str, data: bytes, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert words in refusal(path)
    # Nor does the library that reads it say anything of its own.
    assert capfd.readouterr() == ("", "")


def docx(path: Path) -> Path:
    import docx as word

    document = word.Document()
    document.add_heading("The title", 1)
    document.add_paragraph("Before the table.")
    table = document.add_table(2, 2)
    for place, text in enumerate(["one", "two", "three", "four"]):
        table.cell(place // 2, place % 2).text = text
    document.add_paragraph("Behind it.")
    document.save(str(path))
    return path


def test_word_documents_are_read_in_order_tables_too(tmp_path: Path) -> None:
    found = read_document(docx(tmp_path / "letter.docx"))
    assert found.kind == "docx"
    assert found.text == "The title\nBefore the table.\none\ttwo\nthree\tfour\nBehind it.\n"
    assert read_document(docx(tmp_path / "no_suffix")).kind == "docx"


def tree(folder: Path) -> Path:
    (folder / "src" / ".git").mkdir(parents=True)
    (folder / "src" / "sub").mkdir()
    (folder / "src" / ".git" / "config").write_text("hidden")
    (folder / "src" / "b.py").write_text("def b():\n    return 2\n")
    (folder / "src" / "sub" / "a.py").write_text("A = 1\n")
    (folder / "src" / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    pdf(folder / "src" / "paper.pdf", "A page")
    return folder / "src"


def test_files_and_folders_are_one_document_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "last.md").write_text("# Last\n\ntext")
    found = read([tree(tmp_path), tmp_path / "last.md"])
    assert found.text == (
        "==> src/b.py <==\n\ndef b():\n    return 2\n\n==> src/paper.pdf <==\n\nA page\n\n"
        "==> src/sub/a.py <==\n\nA = 1\n\n==> last.md <==\n\n# Last\n\ntext\n"
    )
    assert (found.name, found.kind) == ("src and 1 more", "several")
    assert len(found.skipped) == 1 and "picture.png is a binary file" in found.skipped[0]
    assert str(found) == found.text and len(repr(found)) < 100
    other = read([str(tmp_path / "last.md"), str(tmp_path / "src")])
    assert other.text.startswith("==> last.md <==") and other.text.endswith("A = 1\n")
    assert read(tmp_path / "src").name == "src (3 files)"


def test_one_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("\n  as written\n")
    assert read(path) == read([str(path)]) == read_document(path)


def test_what_cannot_be_read_of_several_is_named(tmp_path: Path) -> None:
    source = tree(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.py").write_text("B = 3")
    named = read([source / "b.py", tmp_path / "other" / "b.py"]).text
    assert f"==> {(source / 'b.py').as_posix()} <==" in named
    for paths, words in [
        ([source / "b.py", tmp_path / "none.txt"], "there is no file"),
        ([source / "b.py", source / "picture.png"], "binary"),
        ([source / "b.py", source / "b.py"], "is given twice"),
        ([source, source / "b.py"], "is given twice, as"),
        ([], "no path is given"),
        ([tmp_path / "empty", source], "holds no file with text in it"),
    ]:
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DocumentError, match=words):
            read(paths)


def test_not_utf8_names_the_byte_and_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"plain caf\xe9 text")
    message = refusal(path)
    assert "0xe9 at offset 9" in message
    assert "iconv -f CP1252 -t UTF-8 latin.txt" in message
    path.write_bytes("wide".encode("utf-16-le"))
    assert "iconv -f UTF-16LE" in refusal(path)


CHINESE = "第一章 总则。本协议由甲乙双方在平等自愿的基础上签订，双方应当遵守。"
TURKISH = (
    "Türkiye'nin başkenti Ankara'dır. İstanbul ise en kalabalık şehridir; öğretmen şiir okudu."
)
JAPANESE = (
    "これは日本語の文章です。長い文書を読むためのテストに使います。カタカナも漢字もあります。"
)
RUSSIAN = "Это русский текст, который нужен для проверки кодировки. Длинные документы читаются."
POLISH = "Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni i równi pod względem swej godności."
FRENCH = "Le café était fermé, et l'élève lisait déjà « Les Misérables » — un été très chaud."


@pytest.mark.parametrize("times", [1, 60])
@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        (CHINESE, "gb18030", "GB18030"), (CHINESE, "gbk", "GB18030"),
        (TURKISH, "cp1254", "CP1254"), (TURKISH, "iso8859-9", "CP1254"),
        (JAPANESE, "shift_jis", "CP932"), (JAPANESE, "euc_jp", "EUC-JP"),
        (RUSSIAN, "cp1251", "CP1251"), (RUSSIAN, "koi8-r", "KOI8-R"),
        (POLISH, "cp1250", "CP1250"), (POLISH, "iso8859-2", "ISO-8859-2"),
        (FRENCH, "cp1252", "CP1252"), (TURKISH, "utf-16-le", "UTF-16LE"),
        (CHINESE, "utf-16-be", "UTF-16BE"), (RUSSIAN, "utf-32-le", "UTF-32LE"),
    ],
)  # fmt: skip
def test_the_advice_names_the_encoding_that_the_text_is_in(
    tmp_path: Path, text: str, encoding: str, named: str, times: int
) -> None:
    path = tmp_path / "my text.txt"
    path.write_bytes((text + "\n").encode(encoding) * times)
    message = refusal(path)
    assert f"`iconv -f {named} -t UTF-8 'my text.txt'`" in message
    shown = re.search(r"if (['\"])(.+)\1 reads right", message)
    assert shown and shown[2] in text
    # What is advised gives the text back; so does naming the encoding.
    converted = subprocess.run(
        ["iconv", "-f", named, "-t", "UTF-8", str(path)], check=True, capture_output=True
    )
    assert converted.stdout.decode() == (text + "\n") * times
    assert read_document(path, encoding).text == (text + "\n") * times


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be", "utf-8"])
def test_a_byte_order_mark_says_how_to_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "marked.txt"
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    path.write_bytes((mark + TURKISH + CHINESE).encode(encoding))
    assert read_document(path).text == TURKISH + CHINESE
    assert decode(path.read_bytes(), "x") == TURKISH + CHINESE


def test_prompt_files_are_read_as_documents_are(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    line = f'{{"prompt": "{TURKISH}"}}'
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes(line.encode(encoding))
        assert [each.turns for each in read_prompts(path)] == [(TURKISH,)]
    path.write_bytes(line.encode("cp1254"))
    with pytest.raises(DocumentError, match="iconv -f CP1254"):
        read_prompts(path)


def test_a_page_is_read_in_the_encoding_browsers_read_it_in(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    for text, name, encoding in [(CHINESE + "囍", "gb2312", "gb18030"),
                                 (TURKISH + "“", "iso-8859-9", "cp1254"),
                                 (JAPANESE + "①", "Shift_JIS", "cp932")]:  # fmt: skip
        path.write_bytes(f'<meta charset="{name}"><p>{text}</p>'.encode(encoding))
        assert read_document(path).text == text + "\n"


@pytest.mark.parametrize("data", [b"\x7fELF\x00\x01\x02", bytes(range(1, 256)) * 4])
@pytest.mark.parametrize("name", ["program", "program.txt"])
def test_binary(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert "binary" in refusal(path)


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.md"
    path.write_text(text)
    assert "empty.md is empty" in refusal(path)
    with pytest.raises(DocumentError):
        Document.from_text(text)


def test_missing_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("text")
    assert "did you mean" in refusal(tmp_path / "raport.md")
    assert "report.md" in refusal(tmp_path / "Report.MD.txt")
    assert "there is no file" in refusal(tmp_path / "zzzzzz")
    assert "there is no folder" in refusal(tmp_path / "nowhere" / "report.md")
    assert "such as report.md" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["two\nlines", "a" * 5000, "nul\0byte"])
def test_text_is_no_path(text: str) -> None:
    assert "Document.from_text" in refusal(text)
    assert Document.from_text(text).text == text


def test_addresses_are_not_fetched() -> None:
    assert "download it" in refusal("https://example.org/page.html")


def test_a_home_that_does_not_exist_is_a_missing_file() -> None:
    assert "there is no" in refusal("~no_such_user_here/a.txt")
    with pytest.raises(DocumentError, match="there is no"):
        read(["~no_such_user_here/a.txt", "~no_such_user_here"])
