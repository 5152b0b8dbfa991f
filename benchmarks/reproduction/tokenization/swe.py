"""Merges by likelihood against merges by frequency: tokens, and likelihood of held-out text."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence as Seq
from pathlib import Path

from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, check
from tokenizers import Tokenizer

from lengthwise.tokenization.trainers.bpe import Bpe
from lengthwise.tokenization.trainers.corpus import Parts
from lengthwise.tokenization.trainers.kind import TokenizerKind
from lengthwise.tokenization.trainers.likelihood import merge_gain
from lengthwise.tokenization.trainers.measured import measure
from lengthwise.tokenization.trainers.swe import Swe
from lengthwise.tokenization.trainers.training import train_tokenizer
from lengthwise.tokenization.trainers.unigram import Unigram
from lengthwise.tokenization.trainers.wordpiece import WordPiece

# More merges than there are: words are segmented anew at the end alone.
NEVER = 10**9


@check(
    {"tokenizer": "", "size": "", "bytes a token": ".3f", "nats a byte, trained": ".4f",
     "nats a byte, held out": ".4f", "tokens used": ".1%"},
    gain={"pair": "", "count": "", "gain in nats": ".2f", "m / (c c)": ".5f"},
)  # fmt: skip
def swe(size: int = 8000, megabytes: float = 3.0) -> Iterator[Found]:
    """Kinds of one size on books, a twentieth held out; nats are those of a unigram law of tokens,
    fitted on the trained text, one more of each."""
    for pair, x, y, both in (("e s", 1000, 800, 120), ("q u", 50, 60, 50)):
        yield "gain", {
            "pair": pair, "count": both, "gain in nats": merge_gain(x, y, 0, both, 2410),
            "m / (c c)": both / (x * y),
        }  # fmt: skip
    books = [gutenberg()[: int(megabytes * 1e6)]]
    parts = Parts(lambda: iter(books), 0.05)
    trained, held = list(parts.trained()), list(parts.held_out())
    kinds: tuple[TokenizerKind, ...] = (
        Bpe(), WordPiece(), Unigram(), Swe(), Swe(again=200), Swe(again=NEVER),
    )  # fmt: skip
    for kind in kinds:
        tokenizer = _trained(kind, trained, size)
        found = measure(tokenizer, held)
        assert not found.failures
        counts = _counts(tokenizer, trained)
        yield {
            "tokenizer": str(kind), "size": tokenizer.get_vocab_size(),
            "bytes a token": found.bytes_per_token,
            "nats a byte, trained": _nats(counts, counts, tokenizer, trained),
            "nats a byte, held out": _nats(counts, _counts(tokenizer, held), tokenizer, held),
            "tokens used": len(counts) / tokenizer.get_vocab_size(),
        }  # fmt: skip


def _trained(kind: TokenizerKind, texts: Seq[str], size: int) -> Tokenizer:
    with tempfile.TemporaryDirectory() as place:
        return train_tokenizer(kind, texts, size, Path(place) / "out", held_out=0).tokenizer


def _counts(tokenizer: Tokenizer, texts: Seq[str]) -> Counter[int]:
    found: Counter[int] = Counter()
    for each in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        found.update(each.ids)
    return found


def _nats(
    law: Counter[int], counts: Counter[int], tokenizer: Tokenizer, texts: Seq[str]
) -> float:  # fmt: skip
    total = math.log(law.total() + tokenizer.get_vocab_size())
    said = sum(count * (total - math.log(law[token] + 1)) for token, count in counts.items())
    return said / sum(len(text.encode()) for text in texts)
