"""A document is read whole and unchanged, or refused in one line that says how to go on."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from lengthwise.errors import DocumentError
from lengthwise.tasks.documents import Document, read_document

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


def pdf(path: Path, text: str, password: str | None = None) -> Path:
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
        writer.encrypt(password, algorithm="RC4-128")
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


def test_pdfs_that_cannot_be_read(tmp_path: Path) -> None:
    assert "OCR" in refusal(pdf(tmp_path / "scan.pdf", ""))
    assert "password" in refusal(pdf(tmp_path / "locked.pdf", "secret", password="x"))
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nnothing more")
    assert "not a readable PDF" in refusal(broken)


def test_not_utf8_names_the_byte_and_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"plain caf\xe9 text")
    message = refusal(path)
    assert "0xe9 at offset 9" in message
    assert "iconv -f CP1252 -t UTF-8 latin.txt" in message
    path.write_bytes("wide".encode("utf-16"))
    assert "UTF-16LE" in refusal(path)


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
