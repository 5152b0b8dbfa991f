"""Bytes to text, without a guess: UTF-8, or what a byte order mark or the reader names.

Anything else is refused. The refusal names the encoding that the bytes most likely are in, and the
words that they would begin with. A reader who knows the language can tell whether it is right.

charset-normalizer finds encodings of other scripts. Those of the Latin one hold almost the same
bytes, and it takes a Turkish text for a central European one; they are told apart by the letters
that each language writes.
"""

from __future__ import annotations

import codecs
import shlex
from collections import Counter

from charset_normalizer import from_bytes

from lengthwise.errors import DocumentError

# Longer marks first: the one of UTF-32LE begins with that of UTF-16LE.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# The letters beyond ASCII of languages in Latin script, by the encodings they are written in. Where
# two fit alike the first is taken: it gives the same letters.
_LATIN: dict[str, tuple[str, ...]] = {
    "cp1252": (
        "àâæçèéêëîïôœùûüÿ", "äöüß", "áéíñóúü¿¡ªº", "àáâãçéêíóôõúüªº", "àèéìíîòóùú", "éëïóöüèê",
        "åäöéü", "æøåéóòâêô", "áéíóúýðþæö",
    ),
    "cp1254": ("âçğıöşüîûİ",),
    "cp1250": (
        "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž",
    ),
    "iso8859_2": (
        "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž",
    ),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž"),
}  # fmt: skip
# What texts in other scripts are written in. Of a family the one that holds the others.
_OTHERS = [
    "gb18030", "big5hkscs", "cp932", "euc_jp", "iso2022_jp", "cp949", "cp1251", "koi8_r", "cp866",
    "iso8859_5", "cp1253", "cp1255", "cp1256", "cp874", "cp1258", "utf_16_le", "utf_16_be",
]  # fmt: skip
# What every language may have beside its letters.
_USUAL = set("“”‘’„‚«»‹›–—…•·°§©®™€£¥±×÷²³½¼¾µ¶†‡\xa0\xad")
# What iconv calls it, where Python's name is another one.
_ICONV = {"utf_16_le": "UTF-16LE", "utf_16_be": "UTF-16BE", "utf_32_le": "UTF-32LE",
          "utf_32_be": "UTF-32BE", "iso8859_2": "ISO-8859-2", "iso8859_5": "ISO-8859-5",
          "big5hkscs": "BIG5-HKSCS"}  # fmt: skip
# Pages that declare the one are read by browsers as the other, which holds more; so do we.
_WIDER = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252",
          "ascii": "cp1252", "iso-8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
          "shift_jis": "cp932", "shift-jis": "cp932", "euc-kr": "cp949", "utf-16": "utf-8",
          "utf-16le": "utf-8", "utf-16be": "utf-8"}  # fmt: skip
# Bytes that are looked at to find an encoding, and characters shown of what they would be.
_LOOKED = 1 << 16
_SHOWN = 24
WANTED = "give plain text, Markdown, HTML, PDF or .docx"


def decode(data: bytes, name: str, encoding: str | None = None) -> str:
    """The text of `data`, nothing replaced and nothing left out; lines end in a plain newline.

    Args:
        data: the bytes.
        name: what a refusal calls it.
        encoding: as Python names it; None is UTF-8. A byte order mark of UTF-8, UTF-16 or UTF-32
            goes before either.

    Raises:
        DocumentError: for other bytes, with what they most likely are and how to convert them, or
            that they are no text.
    """
    marked = next((found for mark, found in _MARKS.items() if data.startswith(mark)), None)
    if marked is not None:
        encoding, mark = marked, next(m for m in _MARKS if data.startswith(m))
        data = data[len(mark) :]
    elif encoding is None and b"\0" in data:
        raise DocumentError(f"{name} {_with_zeros(data, name)}")
    used = encoding or "utf-8"
    try:
        text = data.decode(used)
    except LookupError as error:
        raise DocumentError(f"{name} is declared {used!r}, an unknown encoding") from error
    except UnicodeDecodeError as error:
        offset = error.start + (0 if marked is None else len(mark))
        raise DocumentError(
            f"{name} is not {used.upper()}: byte 0x{error.object[error.start]:02x} at offset "
            f"{offset}; {_advice(data, name)}"
        ) from error
    if "\0" in text:
        raise DocumentError(f"{name} is a binary file: it has zero bytes; {WANTED}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def declared(encoding: str | None) -> str | None:
    """The encoding that a browser reads a page in which declares this one.

    Args:
        encoding: as a page declares it; None where it declares none.
    """
    return None if encoding is None else _WIDER.get(encoding.lower(), encoding.lower())


def likely_encoding(data: bytes) -> str | None:
    """The encoding, by Python's name, that bytes which are no UTF-8 most likely are in; None where
    they look like no text in any.

    Args:
        data: the bytes of a whole file.
    """
    looked = data[:_LOOKED]
    if _binary(looked):
        return None
    latin, share = _latin(looked)
    # Bytes may make sense of a sort in several; in few of them do they make a language's letters.
    read = from_bytes(looked, cp_isolation=_OTHERS)
    found = max(read, default=None, key=lambda match: match.coherence - match.chaos)
    # Where all letters are those of one language in Latin script, they are no other script's.
    other = found is not None and share < 1 and not _is_latin(str(found))
    if found is not None and other and _decodes(data, found.encoding):
        return str(found.encoding)
    return latin if share >= 0.5 and latin is not None and _decodes(data, latin) else None


def _advice(data: bytes, name: str) -> str:
    """How to go on with bytes that are not UTF-8: convert them, or give up on a binary file."""
    found = likely_encoding(data) or _wide(data)
    if found is None:
        if _binary(data[:_LOOKED]):
            return f"it looks binary: {WANTED}"
        return "convert it to UTF-8 first"
    return f"if {_sample(data, found)} reads right, {_recode(name, found)}"


def _with_zeros(data: bytes, name: str) -> str:
    """What bytes with zeros and without a byte order mark are."""
    if (wide := _wide(data)) is not None:
        return (
            f"is no UTF-8; if {_sample(data, wide)} reads right, it is {_iconv(wide)} without a "
            f"mark: {_recode(name, wide)}"
        )
    place = data.find(b"\0")
    return f"is a binary file (zero byte at offset {place}): {WANTED}"


def _wide(data: bytes) -> str | None:
    """The encoding of two or four bytes a character that these bytes are text in, or None."""
    wide = ("utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be")
    return next((each for each in wide if _reads_wide(data, each)), None)


def _reads_wide(data: bytes, encoding: str) -> bool:
    """Whether these bytes are text in an encoding of two or four bytes a character."""
    width = 2 if "16" in encoding else 4
    if len(data) % width or not _decodes(data, encoding):
        return False
    text = data[:_LOOKED].decode(encoding, "ignore")
    plain = sum(c.isprintable() or c in "\t\r\n\f" for c in text)
    common = sum(c < "\u3000" or "\u3000" <= c < "\ua000" or "\uac00" <= c < "\ud7b0" or
                 "\uff00" <= c < "\uffef" for c in text)  # fmt: skip
    # Read with the bytes the wrong way round, blanks and line ends are rare.
    blanks = sum(c in " \n\t，。、" for c in text)
    return plain == len(text) == common and bool(blanks or len(text) < 20)


def _latin(data: bytes) -> tuple[str | None, float]:
    """The encoding of Latin script that gives most letters of one language, and the share of all
    characters beyond ASCII that are."""
    best: str | None = None
    most = 0.0
    for encoding, languages in _LATIN.items():
        text = data.decode(encoding, "replace").lower().replace("i̇", "İ")
        rare = Counter(c for c in text if ord(c) > 127 and c not in _USUAL)
        total = sum(rare.values())
        for letters in languages:
            share = sum(rare[c] for c in set(letters)) / total if total else 1.0
            if share > most:
                best, most = encoding, share
    return best, most


def _is_latin(text: str) -> bool:
    """Whether most characters beyond ASCII are Latin letters or punctuation."""
    rare = [c for c in text if ord(c) > 127]
    return sum(c < "\u0250" or c in _USUAL for c in rare) * 2 >= len(rare)


def _binary(data: bytes) -> bool:
    return sum(b < 32 and b not in b"\t\n\r\f\x1b" for b in data) * 100 > len(data)


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _sample(data: bytes, encoding: str) -> str:
    """The first words beyond ASCII, as they would read."""
    text = " ".join(data[:_LOOKED].decode(encoding, "ignore").split())
    first = next((at for at, c in enumerate(text) if ord(c) > 127), 0)
    begin = text.rfind(" ", 0, first) + 1
    begin = begin if first - begin < _SHOWN else first
    return repr(text[begin : begin + _SHOWN].strip())


def _iconv(encoding: str) -> str:
    return _ICONV.get(encoding, encoding.upper().replace("_", "-"))


def _recode(name: str, encoding: str) -> str:
    return f"convert it with `iconv -f {_iconv(encoding)} -t UTF-8 {shlex.quote(name)}`"
