"""A made-up language in which what stood before is worth something, and can be counted.

A subject has a few words of its own out of WORDS; a document of it is a list of them, drawn at
random. Whoever has read nothing of the subject guesses at ln(WORDS) = 4.85 nats a word; whoever has
read all of its 8 words, and nothing else, at ln 8 = 2.08. Real text teaches a small model to look
back only after many millions of tokens; these documents do within some 100,000.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from lengthwise.sequences.encoder import Encoder, load_encoder
from lengthwise.sequences.files import written_aside

WORDS = 128
OWN = 8
END = "<|endoftext|>"
Ids = list[int]
Subject = Sequence[str]


def subjects(count: int, seed: int) -> list[Subject]:
    """Subjects of OWN words each."""
    chance, words = random.Random(seed), [f"w{n}" for n in range(WORDS)]
    return [chance.sample(words, OWN) for _ in range(count)]


def document(subject: Subject, length: int, chance: random.Random) -> str:
    """`length` words of a subject."""
    return " ".join(chance.choices(subject, k=length))


def write(place: Path, texts: Sequence[str]) -> Path:
    """A JSONL file of these texts, in random order."""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        texts = list(texts)
        random.Random(0).shuffle(texts)
        with written_aside(place) as aside:
            aside.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return place


def encoder(folder: Path) -> Encoder:
    """A word is a token."""
    place = folder / "words.json"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = [END, "?", *(f"w{n}" for n in range(WORDS))]
        tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.add_special_tokens([END])
        with written_aside(place) as aside:
            tokenizer.save(str(aside))
    return load_encoder(str(place), END)


def ids_of(encode: Encoder) -> Callable[[str], Ids]:
    """From a text to its tokens, without an end."""
    return lambda text: [int(each) for each in encode.encode([text])[0]]
