"""Documents into a token store, once; stopped at any point, it goes on where it was.

Files only grow. Every few seconds their sizes and the place in the sources are put down in one
small file; what lies beyond those sizes after a crash is cut off, and reading goes on from there.
So the store comes out the same, byte for byte, however often it was stopped.

A text is handed to the tokenizer in pieces of at most PIECE characters, cut before white space
where there is any: one document of 100 MB takes no more memory than many small ones. Tokenizers
that split at white space give the same ids for the pieces as for the whole; others may differ at
the cuts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise._utils.locks import alone_in
from lengthwise._utils.progress import Progress
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import Encoder, Ids
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import (
    checksum,
    read_json,
    said_plainly,
    sweep,
    write_json,
)
from lengthwise.sequences.records import EMPTY, Record

PIECE = 1 << 16
"""Characters a tokenizer is given of one text at most."""
NAMED = 5
"""Skipped documents of one kind that a manifest names; the store names all of them."""
COMMIT_S = 2.0
"""Seconds of work that a crash may cost."""
STATE = "progress.json"
UNFINISHED = ".unfinished"
"""Suffix of the folder in which a token store is being filled."""
_FILES = ("tokens.bin", "ends.bin", "repository.bin", "names.bin", "name_ends.bin",
          "repositories.txt", "skipped.txt")  # fmt: skip


@dataclass
class StoreState:
    """What a store holds for certain: sizes of its files, and the place in the sources.

    key: of the sources and the tokenizer.
    """

    key: str = ""
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_FILES, 0))
    file: int = 0
    record: int = 0
    bytes: int = 0
    documents: int = 0
    tokens: int = 0
    skipped: dict[str, dict[str, Any]] = field(default_factory=dict)


def tokenise(
    sources: Sources, encoder: Encoder, folder: Path, key: str, progress: Progress, batch: int
) -> None:
    """Fills `folder` with the tokens of every document, or goes on filling it.

    key: of everything that decides on the contents. batch: characters tokenised at once.

    Raises SequenceError for bad sources, a full disk and a folder that another process fills or
    other tokens are in; what is done by then stays.
    """
    aside = folder.with_name(folder.name + UNFINISHED)
    with said_plainly(aside):
        aside.mkdir(parents=True, exist_ok=True)
    with alone_in(aside, "build", SequenceError):
        sweep(aside)
        _fill(Store(aside, encoder, key), sources, encoder, progress, batch)
        with said_plainly(folder):
            os.replace(aside, folder)


def _fill(
    filled: Store, sources: Sources, encoder: Encoder, progress: Progress, batch: int
) -> None:
    with filled as store:
        done = store.state
        progress.advance(done.bytes, done.tokens)
        waiting = _Waiting(encoder, store, batch, progress)
        committed = time.monotonic()
        for number, record in sources.read(done.file, done.record):
            waiting.add(record)
            if time.monotonic() - committed > COMMIT_S:
                waiting.flush()
                store.commit(number, record.number + 1)
                committed = time.monotonic()
        waiting.flush()
        if not done.documents:
            reasons = "; ".join(f"{v['count']:,} {k}" for k, v in done.skipped.items())
            raise SequenceError(f"no document in the sources: {reasons or 'they hold none'}")
        store.finish()


class _Waiting:
    """Pieces of text that wait until there are enough for the tokenizer.

    A document longer than `limit` characters goes to it in parts, and stays open in the store.
    """

    def __init__(self, encoder: Encoder, store: Store, limit: int, progress: Progress) -> None:
        self._encoder, self._store, self._limit, self._progress = encoder, store, limit, progress
        self._pieces: list[str] = []
        self._ends: list[tuple[int, Record]] = []
        self._characters = 0

    def add(self, record: Record) -> None:
        if not record.skipped:
            for piece in pieces(record.blocks):
                self._pieces.append(piece)
                self._characters += len(piece)
                if self._characters >= self._limit:
                    self.flush()
        self._ends.append((len(self._pieces), record))
        if len(self._ends) >= 1 << 14:
            self.flush()

    def flush(self) -> None:
        """Everything waiting goes through the tokenizer into the store."""
        ids = self._encoder.encode(self._pieces) if self._pieces else []
        first, before, size = 0, self._store.written, 0
        for end, record in self._ends:
            self._store.extend(ids[first:end])
            self._store.close(record)
            first, size = end, size + record.bytes
        self._store.extend(ids[first:])
        self._store.write()
        self._progress.advance(size, self._store.written - before)
        self._pieces, self._ends, self._characters = [], [], 0


def pieces(blocks: Iterable[str]) -> Iterator[str]:
    """A text given in blocks, in pieces of at most PIECE characters."""
    rest = ""
    for block in blocks:
        text, start = rest + block if rest else block, 0
        while len(text) - start > PIECE:
            cut = _cut(text, start)
            yield text[start:cut]
            start = cut
        rest = text[start:] if start else text
    if rest:
        yield rest


def _cut(text: str, start: int) -> int:
    """Where to end a piece that begins at `start`: before the last run of white space in it."""
    low, high = start + PIECE // 2, start + PIECE
    cut = max(text.rfind(" ", low, high), text.rfind("\n", low, high))
    while cut > low and text[cut - 1].isspace():
        cut -= 1
    return cut if cut > low else high


class Store:
    """The files of a token store that is being filled. `written` counts tokens, those of the
    document that is still open included.

    Raises SequenceError where `folder` was begun with another key.
    """

    def __init__(self, folder: Path, encoder: Encoder, key: str) -> None:
        self._folder, self._encoder = folder, encoder
        self._state_file = folder / STATE
        self.state = (
            StoreState(**read_json(self._state_file))
            if self._state_file.exists()
            else StoreState(key)
        )
        if self.state.key != key:
            raise SequenceError(
                f"{folder} was begun with other sources or another tokenizer: delete it, or name "
                "another folder with --tokens"
            )
        self.written = self.state.tokens
        self._name_end = self.state.sizes["names.bin"]
        self._fresh()

    def __enter__(self) -> Store:
        with said_plainly(self._folder):
            self._files = {name: (self._folder / name).open("ab") for name in _FILES}
            for name, file in self._files.items():
                file.truncate(self.state.sizes[name])
            with (self._folder / "repositories.txt").open(encoding="utf-8") as lines:
                self._repositories = {json.loads(line): n for n, line in enumerate(lines)}
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            # What a full disk refused is still buffered, and closing would try it again.
            with suppress(OSError):
                file.close()

    def _fresh(self) -> None:
        self._ids: list[Ids] = []
        self._ends: list[int] = []
        self._numbers: list[int] = []
        self._names: list[bytes] = []
        self._lines: dict[str, list[Any]] = {"repositories.txt": [], "skipped.txt": []}

    def extend(self, ids: list[Ids]) -> None:
        """More tokens of the document that is open."""
        self._ids += ids
        self.written += sum(map(len, ids))

    def close(self, record: Record) -> None:
        """The open document is whole: it ends here, or is skipped for a reason."""
        state = self.state
        state.bytes += record.bytes
        why = record.skipped or (EMPTY if self.written == state.tokens else "")
        if why:
            self._skip(record.name, why)
            return
        self.extend([np.array([self._encoder.end], np.int32)])
        state.documents += 1
        state.tokens = self.written
        self._ends.append(self.written)
        self._numbers.append(self._repository(record.repository))
        self._names.append(record.name.encode("utf-8", "replace"))

    def write(self) -> None:
        """Hands everything gathered to the files."""
        ends = self._name_end + np.cumsum([len(name) for name in self._names], dtype=np.int64)
        self._name_end = int(ends[-1]) if len(ends) else self._name_end
        with said_plainly(self._folder):
            if self._ids:
                ids = np.concatenate(self._ids).astype(self._encoder.dtype)
                self._files["tokens.bin"].write(ids.tobytes())
            self._files["ends.bin"].write(np.array(self._ends, np.int64).tobytes())
            self._files["repository.bin"].write(np.array(self._numbers, np.int32).tobytes())
            self._files["names.bin"].write(b"".join(self._names))
            self._files["name_ends.bin"].write(ends.tobytes())
            for file, lines in self._lines.items():
                for line in lines:
                    self._files[file].write(json.dumps(line).encode() + b"\n")
        self._fresh()

    def _repository(self, name: str) -> int:
        if name not in self._repositories:
            self._repositories[name] = len(self._repositories)
            self._lines["repositories.txt"].append(name)
        return self._repositories[name]

    def _skip(self, name: str, why: str) -> None:
        kind = self.state.skipped.setdefault(why, {"count": 0, "first": []})
        kind["count"] += 1
        if len(kind["first"]) < NAMED:
            kind["first"].append(name)
        self._lines["skipped.txt"].append([why, name])

    def _sync(self) -> None:
        for name, opened in self._files.items():
            opened.flush()
            os.fsync(opened.fileno())
            self.state.sizes[name] = os.fstat(opened.fileno()).st_size

    def commit(self, file: int, record: int) -> None:
        """From here on a crash loses nothing before record `record` of file `file`."""
        with said_plainly(self._folder):
            self._sync()
        self.state.file, self.state.record = file, record
        write_json(self._state_file, asdict(self.state))

    def finish(self) -> None:
        """Writes what describes the store."""
        with said_plainly(self._folder):
            self._sync()
        write_json(
            self._folder / "store.json",
            {
                "format": 1, "key": self.state.key, "documents": self.state.documents,
                "tokens": self.state.tokens, "dtype": self._encoder.dtype.name,
                "sha256": {name: checksum(self._folder / name) for name in _FILES},
                "skipped": self.state.skipped, "tokenizer": self._encoder.fingerprint,
                "end_token": self._encoder.end,
            },
        )  # fmt: skip
