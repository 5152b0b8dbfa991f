"""Tokenizers of every kind behind one face: texts to ids, ids to text, and the bytes of each token.

Special tokens that are written out in a text are text. None is added before or behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from typing import Any

from tokenizers import Tokenizer

from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.id_range import id_range
from lengthwise.tokenization.token_bytes import bytes_of_piece, spelled_tokens

Ids = list[int]


class OpenTokenizer(ABC):
    """A tokenizer as a report asks it.

    name: what to call it. kind: "tokenizers", "transformers", "tiktoken", "sentencepiece" or
    "gguf". spelled: the bytes of every token by id; None for one that is no text, or whose bytes
    cannot be told. specials: ids that are no text. end: the id that ends a text; None without one.
    notes: what a reader has to know, a line each.
    """

    def __init__(
        self, name: str, kind: str, spelled: Seq[bytes | None], specials: set[int],
        end: int | None, notes: Seq[str] = (),
    ) -> None:  # fmt: skip
        self.name, self.kind, self.end = name, kind, end
        self.spelled, self.specials = list(spelled), frozenset(specials)
        self.notes = list(notes)
        if end is None:
            self.notes.append("it names no end token")

    @property
    def size(self) -> int:
        """Tokens of the vocabulary, special ones included."""
        return len(self.spelled)

    @property
    def tells_bytes(self) -> bool:
        """Whether the bytes of its tokens are known."""
        return any(each is not None for each in self.spelled)

    @abstractmethod
    def encode(self, texts: Seq[str]) -> list[Ids]:
        """The ids of each text, no special token among them.

        Args:
            texts: any.
        """

    @abstractmethod
    def decode(self, ids: Seq[int]) -> str:
        """The text of ids, special tokens written out; a broken decoder raises what it does.

        Args:
            ids: of one text.
        """

    def merged(self, token: int) -> Ids | None:
        """What the model alone makes of the bytes of a token, without cutting or changing its text
        first; None where that cannot be asked.

        Args:
            token: an id.
        """
        return None


class Fast(OpenTokenizer):
    """One of the `tokenizers` library. kind: where it came from."""

    def __init__(
        self, name: str, tokenizer: Tokenizer, end: int | None, kind: str = "tokenizers"
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer, self._model = tokenizer, tokenizer.model
        added = tokenizer.get_added_tokens_decoder()
        specials = {token for token, found in added.items() if found.special}
        self._added = set(added)
        self._words = {token: word for word, token in tokenizer.get_vocab().items()}
        size, notes = id_range(tokenizer), []
        try:
            spelled = spelled_tokens(tokenizer, specials, word_pieces=True)
        except LengthwiseError as error:
            spelled, notes = [None] * size, [str(error).partition(";")[0]]
        super().__init__(name, kind, spelled, specials, end, notes)

    def encode(self, texts: Seq[str]) -> list[Ids]:
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(each.ids) for each in found]

    def decode(self, ids: Seq[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def merged(self, token: int) -> Ids | None:
        word = self._words.get(token)
        if type(self._model).__name__ != "BPE" or word is None or token in self._added:
            return None
        return [int(each.id) for each in self._model.tokenize(word)]


class Slow(OpenTokenizer):
    """A tokenizer of transformers written in Python; the bytes of its tokens are not told."""

    def __init__(self, name: str, tokenizer: Any, end: int | None) -> None:
        self._tokenizer = tokenizer
        specials = {int(token) for token in tokenizer.all_special_ids}
        kind = type(tokenizer).__name__
        notes = [f"a tokenizer of class {kind} does not tell the bytes of its tokens"]
        super().__init__(name, "transformers", [None] * len(tokenizer), specials, end, notes)

    def encode(self, texts: Seq[str]) -> list[Ids]:
        return [list(self._tokenizer.encode(text, add_special_tokens=False)) for text in texts]

    def decode(self, ids: Seq[int]) -> str:
        return str(self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


class Tiktoken(OpenTokenizer):
    """An encoding of tiktoken. ranks: bytes of a token to its id, in the order of merging."""

    def __init__(self, name: str, encoding: Any, notes: Seq[str] = ()) -> None:
        self._encoding = encoding
        self._ranks: dict[bytes, int] = dict(encoding._mergeable_ranks)
        spelled: list[bytes | None] = [None] * int(encoding.n_vocab)
        for found, token in self._ranks.items():
            spelled[token] = found
        marks = encoding._special_tokens
        super().__init__(
            name, "tiktoken", spelled, set(marks.values()), marks.get("<|endoftext|>"), notes
        )

    def encode(self, texts: Seq[str]) -> list[Ids]:
        return [list(each) for each in self._encoding.encode_ordinary_batch(list(texts))]

    def decode(self, ids: Seq[int]) -> str:
        return str(self._encoding.decode(list(ids)))

    def merged(self, token: int) -> Ids | None:
        data = self.spelled[token]
        return None if data is None else merged_by_rank(self._ranks, data)


class Pieces(OpenTokenizer):
    """A model of the sentencepiece library."""

    def __init__(self, name: str, processor: Any) -> None:
        self._processor = processor
        spelled: list[bytes | None] = []
        specials = set()
        for token in range(processor.get_piece_size()):
            mark = any(
                ask(token)
                for ask in (processor.is_control, processor.is_unknown, processor.is_unused)
            )
            if mark:
                specials.add(token)
            spelled.append(None if mark else bytes_of_piece(processor.id_to_piece(token)))
        end = int(processor.eos_id())
        super().__init__(name, "sentencepiece", spelled, specials, end if end >= 0 else None)

    def encode(self, texts: Seq[str]) -> list[Ids]:
        return [list(each) for each in self._processor.encode(list(texts), out_type=int)]

    def decode(self, ids: Seq[int]) -> str:
        return str(self._processor.decode(list(ids)))


def merged_by_rank(ranks: dict[bytes, int], data: bytes) -> Ids:
    """Byte pair encoding of bytes: the pair of least rank first, until none is left.

    Args:
        ranks: bytes of a token to its rank, which is its id.
        data: the bytes.
    """
    parts = [data[at : at + 1] for at in range(len(data))]
    while len(parts) > 1:
        pairs = [ranks.get(a + b) for a, b in zip(parts, parts[1:], strict=False)]
        known = [(rank, at) for at, rank in enumerate(pairs) if rank is not None]
        if not known:
            break
        _, at = min(known)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ranks[part] for part in parts if part in ranks]


__all__ = [
    "Fast",
    "Ids",
    "OpenTokenizer",
    "Pieces",
    "Slow",
    "Tiktoken",
    "merged_by_rank",
]
