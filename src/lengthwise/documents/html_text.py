"""The reading text of an HTML page: paragraphs as a browser breaks them, no scripts or menus."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup
from bs4.element import NavigableString

_DROPPED = ("script", "style", "nav", "noscript", "template", "svg", "head")
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
    # Collapsed text starts with one space at most, so a deeper indent was written inside a `pre`.
    lines = (line.rstrip() for line in soup.get_text().split("\n"))
    text = "\n".join(line if line[:2] == "  " else line.strip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"
