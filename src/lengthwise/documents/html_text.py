"""The reading text of an HTML page: paragraphs as a browser breaks them, no scripts or menus."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag

# Of a head the title: the rest has no text, and one that is not closed has the page in it.
_DROPPED = ("script", "style", "nav", "noscript", "template", "svg", "title")
# Stands for a `pre` while blanks are cut: `decode` lets none through.
_KEPT = "\0"
_BLOCKS = [
    # fmt: off
    "address",
    "article",
    "aside",
    "blockquote",
    "dd",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "main",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "tr",
    "ul",
    # fmt: on
]


def text_of_html(markup: str) -> str:
    """The text of a page, blocks on lines of their own, `pre` kept as written.

    Args:
        markup: the decoded page. Scripts, styles and navigation are dropped; everything else stays.
    """
    soup = BeautifulSoup(markup, "html.parser")
    for element in soup.find_all(_DROPPED):
        element.decompose()
    for node in soup.find_all(string=True):
        # Comments and doctypes are subclasses; rewriting one would turn it into text.
        if type(node) is NavigableString and node.find_parent("pre") is None:
            node.replace_with(re.sub(r"\s+", " ", node))
    for element in soup.find_all("br"):
        element.replace_with("\n")
    for element in soup.find_all(["td", "th"]):
        element.append(" ")
    for element in soup.find_all(_BLOCKS):
        element.insert_before("\n")
        element.insert_after("\n")
    outer = [pre for pre in soup.find_all("pre") if pre.find_parent("pre") is None]
    kept = filter(None, [_take_out(pre) for pre in outer])
    text = "\n".join(line.strip() for line in soup.get_text().split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"
    return re.sub(_KEPT, lambda _: next(kept), text)


def _take_out(pre: Tag) -> str:
    """The text of a `pre`, for which _KEPT stands from now on; "" of a blank one, which goes. A
    line end behind its first tag and before its last is none of the text."""
    text = pre.get_text().removeprefix("\n").removesuffix("\n")
    if not text.strip():
        pre.decompose()
        return ""
    pre.replace_with(_KEPT)
    return text
