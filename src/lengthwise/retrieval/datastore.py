"""A datastore: the tokens of a text corpus and their suffix array, in one memory-mapped file.

What follows an n-gram, and how often it stands there, serves drafters and n-gram models alike. A
suffix array lists all places of the corpus in the order of the text that begins there. So all
places of an n-gram lie side by side, and two binary searches find them.

The file is safetensors: `tokens` and `suffixes`, int32 `[n]`, and a header of texts. Documents are
set apart by a token that no text has, so that no match and no continuation reaches into the next.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from lengthwise._utils.files import write_aside
from lengthwise._utils.messages import first_line
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.models.adapted_model import AdaptedModel

VERSION = "1"
# Stands between documents; smaller than any token, so that texts that end there come first.
SEPARATOR = -1
# Places are int32.
MOST_TOKENS = 2**31 - 1

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Match:
    """Rows `start` to `stop` of the suffix array begin with the n-gram of `length` tokens."""

    start: int = 0
    stop: int = 0
    length: int = 0

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Datastore:
    """tokens, suffixes: int32 `[n]`. vocab_size: of the tokens' vocabulary. fingerprint: of the
    tokenizer, or "" where the tokens are of none. documents: how many there are."""

    tokens: Ints
    suffixes: Ints
    vocab_size: int
    fingerprint: str = ""
    documents: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def build(
        cls, documents: Iterable[Seq[int]], vocab_size: int, fingerprint: str = ""
    ) -> Datastore:
        """A datastore of documents given as token ids, in memory.

        Needs 30 to 50 bytes a token meanwhile. Raises LengthwiseError without a token, with one
        outside the vocabulary, or with more than MOST_TOKENS.
        """
        try:
            from pydivsufsort import divsufsort  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ModuleNotFoundError:
            raise LengthwiseError(
                "a datastore needs the package pydivsufsort: pip install 'lengthwise[datastore]'"
            ) from None
        found: list[Ints] = []
        total = 0
        for document in documents:
            if not len(document):
                continue
            ids = np.asarray(document, np.int64)
            if ids.min() < 0 or ids.max() >= vocab_size:
                bad = ids[(ids < 0) | (ids >= vocab_size)][0]
                raise LengthwiseError(f"token id {bad} is outside the vocabulary of {vocab_size}")
            found.append(np.append(ids, SEPARATOR).astype(np.int32))
            total += len(found[-1])
            if total > MOST_TOKENS:
                raise LengthwiseError(
                    f"a datastore holds at most {MOST_TOKENS:,} tokens; build several smaller ones"
                )
        if not found:
            raise LengthwiseError("the sources hold no tokens; give text to build a datastore from")
        tokens = np.concatenate(found)
        return cls(tokens, divsufsort(tokens).astype(np.int32), vocab_size, fingerprint, len(found))

    def find(self, gram: Seq[int]) -> Match:
        """All places of an n-gram; an empty match where there is none."""
        start = self._bound(gram, after=False)
        if start == len(self) or not self._stands(gram, start):
            return Match()
        return Match(start, self._bound(gram, after=True), len(gram))

    def longest(self, text: Seq[int], longest: int = 16, shortest: int = 2) -> Match:
        """The longest end of a text, `longest` to `shortest` tokens, that the corpus has."""
        low, high = shortest - 1, min(longest, len(text))
        # What ends a text is found wherever a longer end of it is, so lengths can be halved too.
        while low < high:
            middle = (low + high + 1) // 2
            gram = text[len(text) - middle :]
            start = self._bound(gram, after=False)
            if start < len(self) and self._stands(gram, start):
                low = middle
            else:
                high = middle - 1
        return self.find(text[len(text) - low :]) if low >= max(1, shortest) else Match()

    @property
    def everywhere(self) -> Match:
        """All places, those of the empty n-gram."""
        return Match(0, len(self), 0)

    def following(self, match: Match) -> Ints:
        """Tokens that follow at the places of a match, ascending, each once; the end of a document
        is none.

        Args:
            match: of an n-gram, or `everywhere`.
        """
        after = self.tokens[self.suffixes[match.start : match.stop] + match.length]
        found: Ints = np.unique(after[after != SEPARATOR])
        return found

    def extended(self, match: Match, token: int) -> Match:
        """The places of a match that a token follows, as a match of one token more; an empty one
        where there are none.

        Args:
            match: of an n-gram, or `everywhere`.
            token: id.
        """
        # Suffixes that begin alike are in the order of the token behind.
        after = self.tokens[self.suffixes[match.start : match.stop] + match.length]
        low, high = np.searchsorted(after, [token, token + 1])
        if low == high or token == SEPARATOR:
            return Match()
        return Match(match.start + int(low), match.start + int(high), match.length + 1)

    def continuations(self, match: Match, length: int, most: int) -> Ints:
        """What follows at the places of a match, `[places, length]`, in the order of the corpus's
        suffixes, SEPARATOR from the end of a document on. Of more than `most` places that many are
        taken at even distances, which keeps the shares of what follows."""
        rows = np.arange(match.start, match.stop)
        if len(rows) > most:
            rows = match.start + np.arange(most) * len(match) // most
        places = self.suffixes[rows].astype(np.int64)[:, None] + (match.length + np.arange(length))
        found: Ints = self.tokens[np.minimum(places, len(self) - 1)]
        found[np.logical_or.accumulate(found == SEPARATOR, 1)] = SEPARATOR
        return found

    def count(self, gram: Seq[int]) -> int:
        """How often an n-gram stands in the corpus; the empty one stands before every token."""
        return len(self.find(gram)) if len(gram) else len(self) - self.documents

    def save(self, path: Path) -> None:
        """Writes the file aside, then renames it. Raises LengthwiseError where it cannot."""
        header = {
            "format": "lengthwise datastore", "version": VERSION, "tokenizer": self.fingerprint,
            "vocab_size": str(self.vocab_size), "documents": str(self.documents),
            "count": str(len(self)), "checksum": str(self._checksum()),
        }  # fmt: skip
        arrays = {
            "tokens": torch.from_numpy(np.array(self.tokens)),
            "suffixes": torch.from_numpy(np.array(self.suffixes)),
        }
        path = Path(os.path.realpath(path))
        try:
            with write_aside(path) as aside:
                save_file(arrays, aside, header)
        except (OSError, SafetensorError) as error:
            raise LengthwiseError(f"{path}: cannot be written ({error})") from error

    @classmethod
    def open(cls, path: Path) -> Datastore:
        """A stored datastore, its arrays mapped, not read into memory.

        Raises LengthwiseError where there is no such file, or it is truncated, damaged, of another
        version or no datastore.
        """
        if not path.is_file():
            raise LengthwiseError(f"{path}: there is no such datastore; {HOW_TO_BUILD}")
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("format") != "lengthwise datastore":
                    raise LengthwiseError(f"{path}: this is no datastore; {HOW_TO_BUILD}")
                if header.get("version") != VERSION:
                    raise LengthwiseError(
                        f"{path}: a datastore of version {header.get('version')}, and this release "
                        f"reads version {VERSION}; build it anew"
                    )
                tokens, suffixes = (file.get_tensor(x).numpy() for x in ("tokens", "suffixes"))
            found = cls(
                tokens, suffixes, int(header["vocab_size"]), header["tokenizer"],
                int(header["documents"]),
            )  # fmt: skip
            whole = len(tokens) == len(suffixes) == int(header["count"])
            if not whole or int(header["checksum"]) != found._checksum():
                raise ValueError("its checksum is not that of its contents")
        except LengthwiseError:
            raise
        except OSError as error:
            raise LengthwiseError(f"{path}: cannot be read ({error.strerror or error})") from error
        except (SafetensorError, KeyError, ValueError) as error:
            raise LengthwiseError(
                f"{path}: this datastore is truncated or damaged ({first_line(error)}); build it "
                "anew"
            ) from error
        return found

    def _bound(self, gram: Seq[int], after: bool) -> int:
        """The first row whose text does not come before the n-gram, or the first one after it."""
        wanted, size = list(gram), len(gram)
        low, high = 0, len(self)
        tokens, suffixes = self.tokens, self.suffixes
        while low < high:
            middle = (low + high) // 2
            place = int(suffixes[middle])
            here = tokens[place : place + size].tolist()
            if here < wanted or (after and here == wanted):
                low = middle + 1
            else:
                high = middle
        return low

    def _stands(self, gram: Seq[int], row: int) -> bool:
        place = int(self.suffixes[row])
        return bool(self.tokens[place : place + len(gram)].tolist() == list(gram))

    def _checksum(self) -> int:
        first = zlib.crc32(np.ascontiguousarray(self.tokens).data)
        return zlib.crc32(np.ascontiguousarray(self.suffixes).data, first)


HOW_TO_BUILD = "build one with `lengthwise datastore build TEXTS... --out FILE`"


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Tells vocabularies apart: a hash of every token with its id, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        digest.update(f"{number}\t{token!r}\n".encode())
    return digest.hexdigest()[:16]


def opened(name: str, path: str) -> Datastore:
    """The datastore a method of that name asks for, mapped once a process.

    Raises RecipeError where it cannot be had.
    """
    place = Path(os.path.expanduser(path))
    try:
        status = place.stat()
        return _opened(place, status.st_mtime_ns, status.st_size)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecipeError(f"{name}: {place}: {reason}; {HOW_TO_BUILD}") from error
    except LengthwiseError as error:
        raise RecipeError(f"{name}: {error}") from error


def opened_for(name: str, path: str, model: AdaptedModel) -> Datastore | None:
    """The datastore at a path, checked against a model's tokenizer; None where no path is given.

    name: of the method that asks. Raises RecipeError or Refused where it cannot serve the model.
    """
    if not path:
        return None
    store = opened(name, path)
    check_tokenizer(store, path, model)
    return store


def check_tokenizer(store: Datastore, path: str, model: AdaptedModel) -> None:
    """Raises Refused where a datastore was built with another tokenizer than the model's, as far as
    the model tells of its own."""
    if store.fingerprint and model.tokenizer is not None:
        same = _own_fingerprint(model.tokenizer) == store.fingerprint
    elif store.fingerprint:
        same = store.vocab_size == model.vocab_size
    else:
        same = store.vocab_size <= model.vocab_size
    if not same:
        raise Refused(
            f"{path} was built with another tokenizer (of {store.vocab_size:,} tokens) than that "
            f"of this {model.family!r} model ({model.vocab_size:,})",
            "build one for this model: `lengthwise datastore build --model MODEL`",
        )


@lru_cache(maxsize=4)
def _opened(path: Path, modified: int, size: int) -> Datastore:
    """Keyed by what changes when the file is replaced."""
    return Datastore.open(path)


@lru_cache(maxsize=8)
def _own_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    return fingerprint(tokenizer)
