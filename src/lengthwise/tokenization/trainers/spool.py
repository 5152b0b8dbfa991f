"""A corpus on the disk, so that it is read several times without its source and without memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.files import write_aside, write_text
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.pieces import Bytes, joined
from lengthwise.tokenization.trainers.kind import Texts

_CHUNK = 1 << 23


@dataclass(frozen=True)
class Corpus:
    """Documents in one file of UTF-8.

    lengths: bytes of each, int64 `[documents]`. digest: of them all. limit: longer documents are
    cut to it where they are read; 0 is no limit.
    """

    path: Path
    lengths: NDArray[np.int64]
    digest: str
    limit: int = 0

    @property
    def bytes_read(self) -> int:
        """Bytes within the limit."""
        if not self.limit:
            return int(self.lengths.sum())
        return int(np.minimum(self.lengths, self.limit).sum())

    def chunks(self) -> Iterator[tuple[Bytes, NDArray[np.int64]]]:
        """Documents by some megabytes: uint8 `[bytes]`, and bounds, int64 `[documents + 1]`."""
        parts: list[bytes] = []
        size = 0
        with self.path.open("rb") as file:
            for length in self.lengths.tolist():
                parts.append(_cut(file.read(length), self.limit))
                size += len(parts[-1])
                if size >= _CHUNK:
                    yield joined(parts)
                    parts, size = [], 0
        if parts:
            yield joined(parts)


def spool(texts: Texts, work: Path) -> Corpus:
    """Writes a corpus to `work`, or finds it there.

    Args:
        texts: documents; empty ones are left out.
        work: a folder. What lies there of another corpus is written anew.

    Raises:
        TokenizerError: a corpus without text, or one that cannot be written as UTF-8.
    """
    path, about = work / "texts.bin", work / "texts.json"
    known = _read(about, path)
    lengths: list[int] = []
    characters: set[str] = set()
    digest = hashlib.blake2b(digest_size=16)
    with write_aside(path) as aside, aside.open("wb") as file:
        for number, text in enumerate(texts()):
            raw = _encoded(text, number)
            if raw:
                if len(characters) < 2:
                    characters |= set(text)
                digest.update(len(raw).to_bytes(8, "little") + raw)
                lengths.append(len(raw))
                file.write(raw)
    if not lengths:
        raise TokenizerError(
            "the corpus has no text, so nothing can be learned from it: give documents that are "
            "not empty"
        )
    if len(characters) == 1:
        raise TokenizerError(
            f"the corpus is one character, {characters.pop()!r}, again and again, so nothing can "
            "be learned from it: give text"
        )
    if known is not None and known.digest == digest.hexdigest():
        return known
    text = json.dumps({"digest": digest.hexdigest(), "lengths": lengths})
    write_text(about, text)
    return Corpus(path, np.array(lengths, np.int64), digest.hexdigest())


def _encoded(text: str, number: int) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"document {number + 1} has half of a character ({text[error.start]!r} at {error.start}"
            ") and cannot be written as UTF-8: read it with errors='replace'"
        ) from None


def _read(about: Path, path: Path) -> Corpus | None:
    try:
        found = json.loads(about.read_text(encoding="utf-8"))
        corpus = Corpus(path, np.array(found["lengths"], np.int64), str(found["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return corpus if path.exists() and path.stat().st_size == corpus.lengths.sum() else None


def _cut(raw: bytes, limit: int) -> bytes:
    """At most so many bytes, without half a character at the end."""
    if not limit or len(raw) <= limit:
        return raw
    while limit and raw[limit] & 0xC0 == 0x80:
        limit -= 1
    return raw[:limit]


__all__ = ["Corpus", "spool"]
