"""Text of a Word file is read wherever it stands, and none that was deleted."""

from __future__ import annotations

import io

import docx
import pytest
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from docx.oxml.ns import nsmap

from lengthwise.documents.files import document_of
from lengthwise.documents.word_text import text_of_word
from lengthwise.errors import DocumentError

NAMES = {
    **{name: nsmap[name] for name in ("w", "m")},
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
}
NAMESPACES = " ".join(f'xmlns:{name}="{uri}"' for name, uri in NAMES.items())


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(inside: str) -> str:
    return f"<w:p>{inside}</w:p>"


def cell(inside: str) -> str:
    return f"<w:tc>{inside}</w:tc>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def file(inside: str, footnotes: str = "") -> bytes:
    """A file whose body holds these elements between two plain paragraphs."""
    word = docx.Document()
    word.add_paragraph("Before.")
    before = word.paragraphs[-1]._p
    for element in reversed(parse_xml(f"<w:body {NAMESPACES}>{inside}</w:body>")):
        before.addnext(element)
    word.add_paragraph("Behind.")
    if footnotes:
        blob = f"<w:footnotes {NAMESPACES}>{footnotes}</w:footnotes>".encode()
        name, kind = PackURI("/word/footnotes.xml"), "application/xml"
        part = Part(name, kind, blob, word.part.package)
        word.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)
    held = io.BytesIO()
    word.save(held)
    return held.getvalue()


BOX = f"<w:txbxContent>{paragraph(run('in a box'))}</w:txbxContent>"
PLACES = {
    "an insertion": (paragraph(run("a ") + f"<w:ins>{run('new ')}</w:ins>" + run("b")), "a new b"),
    "an inserted paragraph": (f"<w:ins>{paragraph(run('all new'))}</w:ins>", "all new"),
    "a deletion": (
        paragraph(run("a") + "<w:del><w:r><w:delText>gone</w:delText><w:tab/></w:r></w:del>"), "a",
    ),
    "a move": (
        paragraph(f"<w:moveFrom>{run('moved')}</w:moveFrom>" + run("a "))
        + paragraph(f"<w:moveTo>{run('moved')}</w:moveTo>"),
        "a \nmoved",
    ),
    "a control in a line": (
        paragraph(run("a ") + f"<w:sdt><w:sdtContent>{run('chosen')}</w:sdtContent></w:sdt>"),
        "a chosen",
    ),
    "a control of paragraphs": (
        f"<w:sdt><w:sdtContent>{paragraph(run('one'))}{paragraph(run('two'))}</w:sdtContent>"
        "</w:sdt>",
        "one\ntwo",
    ),
    "a field": (
        paragraph(run("page ") + f'<w:fldSimple w:instr="PAGE">{run("7")}</w:fldSimple>'),
        "page 7",
    ),
    "a smart tag": (paragraph(f"<w:smartTag>{run('Paris')}</w:smartTag>"), "Paris"),
    "a table in a cell": (
        table(
            cell(paragraph(run("a")))
            + cell(table(cell(paragraph(run("b"))), cell(paragraph(run("c"))))),
            cell(paragraph("")) + cell(paragraph(run("two")) + paragraph(run("lines"))),
        ),
        "a\tb c\n\ttwo lines",
    ),
    "a row in a control": (
        f"<w:tbl><w:sdt><w:sdtContent><w:tr>{cell(paragraph(run('a')))}"
        f"<w:sdt><w:sdtContent>{cell(paragraph(run('b')))}</w:sdtContent></w:sdt></w:tr>"
        "</w:sdtContent></w:sdt></w:tbl>",
        "a\tb",
    ),
    "a box, once": (
        paragraph(
            f"<w:r><mc:AlternateContent><mc:Choice>{BOX}</mc:Choice><mc:Fallback>{BOX}"
            "</mc:Fallback></mc:AlternateContent></w:r>"
        ),
        "\nin a box\n",
    ),
    "tabs, lines and stops": (
        paragraph(
            '<w:pPr><w:tabs><w:tab w:val="left" w:pos="9"/></w:tabs></w:pPr>' + run("a")
            + "<w:r><w:tab/></w:r>" + run("b") + "<w:r><w:br/></w:r>" + run("c")
            + '<w:r><w:br w:type="page"/></w:r>' + run("d") + "<w:r><w:noBreakHyphen/></w:r>"
        ),
        "a\tb\nc\nd-",
    ),
    "an equation": (
        paragraph(
            "<m:oMath><m:r><m:t>x=</m:t></m:r><m:f><m:num><m:r><m:t>1</m:t></m:r></m:num>"
            "<m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath>"
        ),
        "x=1/2",
    ),
    "a reading above": (
        paragraph(
            f"<w:r><w:ruby><w:rt>{run('kanji')}</w:rt><w:rubyBase>{run('漢字')}</w:rubyBase>"
            "</w:ruby></w:r>"
        ),
        "漢字",
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_text_is_read_wherever_it_stands(place: str) -> None:
    inside, text = PLACES[place]
    assert text_of_word(file(inside)) == f"Before.\n{text}\nBehind."


def test_notes_stand_at_the_end() -> None:
    notes = "<w:footnote><w:p><w:r><w:separator/></w:r></w:p></w:footnote>" + "".join(
        f"<w:footnote>{paragraph(run(text))}</w:footnote>" for text in ("See there.", "And here.")
    )
    assert text_of_word(file("", notes)) == "Before.\nBehind.\n\nSee there.\nAnd here."


def test_a_file_without_text_is_refused() -> None:
    held = io.BytesIO()
    docx.Document().save(held)
    with pytest.raises(DocumentError, match="has no text in its paragraphs and tables"):
        document_of(held.getvalue(), "empty.docx", "docx")
