"""Turkish prose: the help of LibreOffice, in the Debian package `libreoffice-help-tr` (MPL-2.0)."""

from __future__ import annotations

import html
import re
from pathlib import Path

from benchmarks.reproduction.packed import debian

PACKAGE = "libreoffice-help-tr"
# Shorter paragraphs are names of menus.
_LEAST = 60
_LETTERS = re.compile("[çğıöşüÇĞİÖŞÜ]")
_PARAGRAPH = re.compile(r"<p [^>]*>(.*?)</p>", re.S)


def turkish() -> list[str]:
    """Its paragraphs, each once, in the order of its pages."""
    place = debian(PACKAGE, _paragraphs, "libreoffice-help-tr.txt")
    return place.read_text(encoding="utf-8").splitlines()


def _paragraphs(folder: Path) -> str:
    found: dict[str, None] = {}
    for page in sorted(folder.rglob("*.html")):
        for paragraph in _PARAGRAPH.findall(page.read_text(encoding="utf-8")):
            text = " ".join(html.unescape(re.sub(r"<[^>]*>", "", paragraph)).split())
            # Some pages are not translated.
            if len(text) >= _LEAST and len(_LETTERS.findall(text)) > 1:
                found.setdefault(text)
    return "\n".join(found)


__all__ = ["turkish"]
