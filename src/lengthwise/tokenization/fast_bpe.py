"""Encodes with a byte-level BPE whose pieces may be long, as the library does but in linear time.

The library puts the pairs of a piece on a heap, which is fast for words and slow for documents
(SuperBPE, 2503.13423, has pieces of a whole paragraph). Here a text is walked from left to right by
its longest tokens, with a step back where two neighbours are not what BPE makes of them
(`bpe_kernels`). The ids are the library's; `plain_encode` is the twin that says what is computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence as Seq
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.compiled import kernels
from lengthwise.tokenization.pieces import Bytes, Counts, Cutter, joined
from lengthwise.tokenization.token_bytes import bytes_of_letters

Tokens = NDArray[np.int32]
# Answers that are kept, of pairs of tokens.
_KNOWN = 1 << 20
# Bytes that are encoded at once.
_CHUNK = 1 << 24


class BytePairs:
    """What BPE makes of pieces.

    spelled: of each token its bytes; None for one that is no text.
    merges: pairs of tokens in the order of their ranks, int32 `[merges, 2]`.
    made: the token of each, int32 `[merges]`.
    """

    def __init__(self, spelled: Seq[bytes | None], merges: Tokens, made: Tokens) -> None:
        self._kernels: Any = kernels("bpe_kernels")
        words = [word or b"" for word in spelled]
        flat = np.frombuffer(b"".join(words), dtype=np.uint8)
        starts = np.zeros(len(words) + 1, dtype=np.int64)
        np.cumsum([len(word) for word in words], out=starts[1:])
        of_byte = np.full(256, -1, dtype=np.int32)
        for token, word in enumerate(words):
            if len(word) == 1:
                of_byte[word[0]] = token
        if (of_byte < 0).any():
            raise TokenizerError(
                f"this tokenizer has no token for {(of_byte < 0).sum()} of the 256 bytes, so that "
                "it cannot write every text; train it with all of them"
            )
        slots = 1 << (2 * max(len(merges), 4)).bit_length()
        keys, values = np.empty(slots, np.int64), np.empty((slots, 2), np.int32)
        self._kernels.make_ranks(np.ascontiguousarray(merges, np.int32), made, keys, values)
        parts = self._kernels.find_parts(np.ascontiguousarray(merges, np.int32), made, len(words))
        usable = self._kernels.reachable(flat, starts, of_byte, keys, values)
        tokens = np.flatnonzero(usable)
        tokens = tokens[np.argsort(np.diff(starts)[tokens], kind="stable")]
        edges, shorter = self._trie(flat, starts, tokens)
        known = np.full(_KNOWN, np.iinfo(np.uint64).max, dtype=np.uint64)
        self._tables = (
            flat, starts, of_byte, keys, values, parts, edges, shorter, known,
        )  # fmt: skip

    def _trie(self, flat: Bytes, starts: Counts, tokens: Counts) -> tuple[Counts, Tokens]:
        """The trie of tokens, as small as it fits, and of each the next shorter one."""
        shorter = np.full(len(starts) - 1, -1, np.int32)
        slots = 1 << (2 * int(np.diff(starts)[tokens].sum())).bit_length()
        edges = np.empty(slots, np.int64)
        others = self._kernels.make_trie(flat, starts, tokens, edges, shorter)
        if len(starts) + others >= 1 << 24:
            raise TokenizerError(
                f"this tokenizer is too large to be encoded with here ({len(tokens)} tokens): "
                "encode with the library"
            )
        small = np.empty(1 << (2 * (len(tokens) + others)).bit_length(), np.int64)
        self._kernels.make_trie(flat, starts, tokens, small, shorter)
        return small, shorter

    def encode(
        self, data: Bytes, ends: Tokens, counts: Counts, apart: bool = False
    ) -> tuple[Tokens, Counts]:
        """The tokens of pieces.

        Args:
            data: texts, one behind the other, uint8 `[bytes]`.
            ends: of the pieces, int32 `[pieces]`.
            counts: pieces up to the end of each text, int64 `[texts]`.
            apart: writes -1 behind each piece, and leaves out pieces of one token.

        Returns:
            tokens, int32, and how many there are up to the end of each text, int64 `[texts]`.
        """
        out = np.empty(2 * len(data) + 2, dtype=np.int32)
        tried = np.zeros(len(data), dtype=np.bool_)
        totals: Counts = self._kernels.encode(data, ends, counts, *self._tables, tried, out, apart)
        return out[: int(totals[-1]) if len(totals) else 0].copy(), totals


class FastBPE:
    """A tokenizer of byte-level BPE, made fast for long pieces.

    tokenizer: of `tokenizers`, or a fast one of transformers.

    Raises:
        TokenizerError: for one whose ids would not be the library's, with the reason.
    """

    def __init__(self, tokenizer: Tokenizer | PreTrainedTokenizerBase) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(backend, Tokenizer):
            raise TokenizerError(
                f"a tokenizer of class {type(tokenizer).__name__} has no tokenizer.json behind it; "
                "load the fast one (AutoTokenizer.from_pretrained(..., use_fast=True))"
            )
        told = json.loads(backend.to_str())
        _check(told)
        self._library = backend
        self._added = [each["content"] for each in told["added_tokens"]]
        self._pattern = _pattern(told["pre_tokenizer"])
        self._cutter = Cutter(self._pattern or "")
        self._pairs = BytePairs(*_model(told["model"]))

    def encode(self, texts: Seq[str]) -> list[Tokens]:
        """The tokens of texts, as `encode_batch(texts, add_special_tokens=False)` gives them.

        Args:
            texts: any number of them, of any length.

        Returns:
            int32 `[tokens]` for each.

        Raises:
            TokenizerError: one text in place of several, or half of a character in one.
        """
        if isinstance(texts, str):
            raise TokenizerError("give a list of texts, as encode([text])")
        found: list[Tokens] = []
        for chunk in _chunks(texts):
            plain = [not any(added in text for added in self._added) for text in chunk]
            raw = [_bytes(text) for text, fits in zip(chunk, plain, strict=True) if fits]
            data, bounds = joined(raw)
            ends, counts = self._cut(data, bounds)
            tokens, totals = self._pairs.encode(data, ends, counts)
            parts = iter(np.split(tokens, totals[:-1]))
            found += [
                next(parts) if fits else self._by_library(text)
                for text, fits in zip(chunk, plain, strict=True)
            ]
        return found

    def _by_library(self, text: str) -> Tokens:
        ids = self._library.encode(text, add_special_tokens=False).ids
        return np.array(ids, dtype=np.int32)

    def _cut(self, data: Bytes, bounds: Counts) -> tuple[Tokens, Counts]:
        if self._pattern is not None:
            return self._cutter.ends(data, bounds)
        ends, counts, raw = [], [], data.tobytes()
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            # A letter of a piece is a byte of it.
            for piece, _ in self._library.pre_tokenizer.pre_tokenize_str(raw[start:end].decode()):
                start += len(piece)
                ends.append(start)
            counts.append(len(ends))
        return np.array(ends, dtype=np.int32), np.array(counts, dtype=np.int64)


def plain_encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """The plain twin of `FastBPE.encode`, for one text without added tokens: merge the pair of the
    lowest rank, the first one of equals, until none is left.

    Args:
        tokenizer: of byte-level BPE.
        text: any.
    """
    model = json.loads(tokenizer.to_str())["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    ids: list[int] = []
    for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text):
        parts = list(piece)
        while True:
            pairs = zip(parts, parts[1:], strict=False)
            found = [(ranks.get(pair), at) for at, pair in enumerate(pairs)]
            known = [(rank, at) for rank, at in found if rank is not None]
            if not known:
                break
            at = min(known)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [model["vocab"][part] for part in parts]
    return ids


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"a text has half of a character ({text[error.start]!r} at {error.start}) and cannot "
            "be written as UTF-8: read it with errors='replace'"
        ) from None


def _chunks(texts: Seq[str]) -> Iterator[Seq[str]]:
    """Texts by some megabytes, so that little memory is held at once."""
    start = size = 0
    for at, text in enumerate(texts):
        if size and size + len(text) > _CHUNK:
            yield texts[start:at]
            start, size = at, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]


def _refuse(what: str, remedy: str) -> TokenizerError:
    return TokenizerError(
        f"this tokenizer cannot be encoded with here: {what}; {remedy}, or encode with the library"
    )


def _check(told: dict[str, Any]) -> None:
    model = told["model"]
    if model["type"] != "BPE":
        raise _refuse(f"its model is {model['type']}", "take one of byte-level BPE")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(option):
            raise _refuse(f"its model has {option}={model[option]!r}", "take one without")
    for option in ("normalizer", "truncation", "padding"):
        if told.get(option):
            raise _refuse(f"it has a {option}", "take it off")


def _model(model: dict[str, Any]) -> tuple[list[bytes | None], Tokens, Tokens]:
    vocab: dict[str, int] = model["vocab"]
    spelled: list[bytes | None] = [None] * (max(vocab.values(), default=-1) + 1)
    for word, token in vocab.items():
        spelled[token] = bytes_of_letters(word)
    pairs = [(vocab[left], vocab[right]) for left, right in model["merges"]]
    made = [vocab[left + right] for left, right in model["merges"]]
    return spelled, np.array(pairs, np.int32).reshape(-1, 2), np.array(made, np.int32)


def _pattern(told: dict[str, Any] | None) -> str | None:
    """The pattern that cuts texts; None for what only the library can do.

    Raises:
        TokenizerError: for what changes texts, or does not end in bytes.
    """
    parts = (told or {}).get("pretokenizers", [told] if told else [])
    kinds = [part["type"] for part in parts]
    if not kinds or kinds[-1] != "ByteLevel" or kinds.count("ByteLevel") > 1:
        raise _refuse("it does not cut texts into bytes (ByteLevel)", "take one of byte-level BPE")
    for part in parts:
        if part.get("add_prefix_space") or part.get("behavior") == "Removed":
            raise _refuse(f"its {part['type']} changes the text", "take one that does not")
        if part["type"] not in ("ByteLevel", "Digits", "Split"):
            raise _refuse(f"it cuts by {part['type']}", "take one that cuts by Split")
    if parts[-1]["use_regex"] or len(parts) > 2:
        return None
    if len(parts) == 1:
        return ""
    first = parts[0]
    known = first["type"] == "Split" and first["behavior"] == "Isolated" and not first["invert"]
    return first["pattern"].get("Regex") if known else None


__all__ = ["BytePairs", "FastBPE", "plain_encode"]
