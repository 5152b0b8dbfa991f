"""Every kind of tokenizer gives back ten megabytes of mixed scripts, code and random Unicode."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.licences import licences
from benchmarks.reproduction.turkish_text import turkish_sentences

from lengthwise.tokenization.trainers.kind import KINDS
from lengthwise.tokenization.trainers.measured import measure
from lengthwise.tokenization.trainers.training import train_tokenizer

# First letters of scripts, 80 of each: Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic,
# Devanagari, Tamil, Thai, Georgian, Ethiopic, Khmer, kana, Han, Hangul, musical signs, emoji.
SCRIPTS = (0x61, 0x391, 0x410, 0x531, 0x5D0, 0x621, 0x905, 0xB85, 0xE01, 0x10D0, 0x1200, 0x1780,
           0x3041, 0x4E00, 0xAC00, 0x1D100, 0x1F600)  # fmt: skip


@check({"kind": "", "size": "", "bytes": "", "texts": "", "bytes a token": ".3f", "failures": ""})
def round_trip(size: int = 4000, megabytes: float = 10.0) -> Iterator[Found]:
    """Each kind with its own settings, trained on a megabyte, and given back what it reads."""
    texts = list(mixed(megabytes))
    trained = [gutenberg()[:600_000], *licences()[:60], *turkish_sentences()[:2000]]
    for name in sorted(KINDS):
        kind = KINDS.get(name)
        assert kind is not None
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "out"
            tokenizer = train_tokenizer(kind(), trained, size, out, held_out=0).tokenizer
        found = measure(tokenizer, texts)
        yield {
            "kind": name, "size": tokenizer.get_vocab_size(), "bytes": found.bytes,
            "texts": found.texts, "bytes a token": found.bytes_per_token,
            "failures": found.failures,
        }  # fmt: skip


def mixed(megabytes: float) -> Iterator[str]:
    """Texts of four kinds, a quarter each, drawn by one seed.

    Args:
        megabytes: in all, about.
    """
    share, chance = int(megabytes * 1e6 / 4), random.Random(0)
    books = gutenberg()
    code = "\n".join(path.read_text("utf-8") for path in sorted(Path(random.__file__).parent.glob(
        "*.py")) if path.is_file())  # fmt: skip
    for text in (books[-share:], code[:share]):
        yield from (text[at : at + 4000] for at in range(0, len(text), 4000))
    for make in (_words, _noise):
        size = 0
        while size < share:
            text = make(chance)
            size += len(text.encode())
            yield text


def _words(chance: random.Random) -> str:
    """A line of words, each of a script, with spaces, signs and numbers between them."""
    found = []
    for _ in range(200):
        first = chance.choice(SCRIPTS)
        found.append(
            "".join(chr(first + chance.randrange(40)) for _ in range(chance.randint(1, 9)))
        )
        found.append(chance.choice((" ", " ", "  ", "\n", ", ", f" {chance.getrandbits(40)} ")))
    return "".join(found)


def _noise(chance: random.Random) -> str:
    """Random bytes, and random characters of all of Unicode."""
    bytes_ = chance.randbytes(2000).decode("utf-8", "replace")
    points = (chance.randrange(0x110000) for _ in range(500))
    return bytes_ + "".join(chr(each) for each in points if not 0xD800 <= each < 0xE000)
