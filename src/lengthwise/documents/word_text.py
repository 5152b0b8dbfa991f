"""The text of a Word file: all paragraphs and tables in their order, whatever they stand in.

python-docx gives what stands in the body itself. Tracked insertions, content controls, fields, text
boxes and tables within cells lie deeper, so the XML is walked. What was deleted or moved away under
tracking is left out, as are headers, footers and comments; foot- and endnotes stand at the end.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from docx import Document
from docx.oxml import parse_xml
from docx.oxml.ns import qn

_TEXT = {qn("w:t"), qn("m:t")}
# Beside deletions: tab stops of a paragraph, readings above characters, and what stands for a
# drawing in older programs, which says the same again.
_LEFT_OUT = {
    qn("w:del"), qn("w:moveFrom"), qn("w:pPr"), qn("w:rt"),
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}  # fmt: skip
_CELL, _ROW = qn("w:tc"), qn("w:tr")
_BEFORE = {
    qn("w:tab"): "\t", qn("w:ptab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n",
    qn("w:noBreakHyphen"): "-", qn("w:txbxContent"): "\n", qn("m:den"): "/",
}  # fmt: skip
_AFTER = {qn("w:p"): "\n", _ROW: "\n", _CELL: "\t"}
# How relationships to parts end whose text is the document's too.
_NOTES = ("/footnotes", "/endnotes")


def text_of_word(data: bytes) -> str:
    """The text of a file, a paragraph a line, the cells of a row separated by tabs.

    Args:
        data: the bytes of the .docx.
    """
    word = Document(io.BytesIO(data))
    others = (each for each in word.part.rels.values() if each.reltype.endswith(_NOTES))
    roots = [word.element.body, *(parse_xml(each.target_part.blob) for each in others)]
    texts = ("".join(_pieces(root)).strip("\n") for root in roots)
    return "\n\n".join(text for text in texts if text)


def _pieces(element: Any) -> Iterator[str]:
    """The text within an element, piece by piece."""
    for child in element:
        tag = child.tag
        if tag in _LEFT_OUT:
            continue
        yield _BEFORE.get(tag, "")
        if tag in _TEXT:
            yield child.text or ""
        elif tag == _CELL:
            yield " ".join("".join(_pieces(child)).split())
        elif tag == _ROW:
            yield "".join(_pieces(child)).removesuffix("\t")
        else:
            yield from _pieces(child)
        yield _AFTER.get(tag, "")


__all__ = ["text_of_word"]
