"""One vector a document, in a memory map, so that documents of one subject lie near each other.

Without a model: words are hashed tokens and pairs of neighbouring tokens. They are weighed by how
often the document has them (1 + log count) and how few documents have them at all (inverse document
frequency). A sparse random projection sends them to DIMENSIONS numbers: each word adds its weight,
with a sign of its own, to SPREAD of them. Angles between documents survive it. With a
model: what `TextEncoder` makes of the first MODEL_TOKENS tokens of the text.

Vectors have length 1, so that the product of two is the cosine of their angle.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.counter_rng import Ints, key, words
from lengthwise._utils.messages import first_line
from lengthwise._utils.progress import Progress
from lengthwise._utils.text_encoder import TextEncoder
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import NotAsAskedError
from lengthwise.sequences.files import reserve, written_aside
from lengthwise.sequences.token_store import TokenStore

Vectors = NDArray[np.float32]

DIMENSIONS = 256
SPREAD = 8
MODEL_TOKENS = 510
READ_TOKENS = 1 << 14
"""Tokens of a document that are looked at."""
_BATCH_TOKENS = 1 << 18
_WORDS = 1 << 20
"""Hashed words that are told apart."""
_MODEL_BATCH = 16


def embed(
    store: TokenStore, path: Path, encoder: Encoder | None, model: str | None, progress: Progress
) -> Vectors:
    """float32 [documents, dimensions] at `path`, worked out unless it is there.

    model: folder of a transformers model, or None for hashed words. encoder: gives back the text
        that a model reads.

    Raises NotAsAskedError where the model cannot be loaded.
    """
    done = path.with_suffix(".npy")
    if not done.exists():
        if model is None:
            dimensions, found = DIMENSIONS, _hashed(store, progress)
        else:
            if encoder is None:
                raise TypeError("a model reads texts, which takes the encoder of the corpus")
            loaded = _load(model)
            dimensions = loaded.width
            found = _modelled(store, encoder, loaded, progress)
        with written_aside(done) as aside:
            shape = (store.documents, dimensions)
            out = np.lib.format.open_memmap(aside, "w+", np.float32, shape)
            reserve(out)
            first = 0
            for vectors in found:
                norms = np.linalg.norm(vectors, axis=1, keepdims=True)
                out[first : first + len(vectors)] = vectors / np.maximum(norms, 1e-12)
                first += len(vectors)
            out.flush()
    mapped: Vectors = np.load(done, mmap_mode="r")
    return mapped


def batches(store: TokenStore, most: int, documents: int = 1 << 14) -> Iterator[tuple[Ints, Ints]]:
    """Starts and lengths of the first `most` tokens of each document, without its end token, some
    documents at a time."""
    for first in range(0, store.documents, documents):
        numbers = np.arange(first, min(first + documents, store.documents))
        starts, lengths = store.spans(numbers)
        lengths = np.minimum(lengths - 1, most)
        begin = 0
        ends = np.cumsum(lengths)
        while begin < len(numbers):
            before = int(ends[begin - 1]) if begin else 0
            stop = max(begin + 1, int(np.searchsorted(ends, before + _BATCH_TOKENS)))
            yield starts[begin:stop], lengths[begin:stop]
            begin = stop


def _counts(store: TokenStore, starts: Ints, lengths: Ints) -> tuple[Ints, Ints, Ints]:
    """(document, word, count) of all words of a batch, each once a document."""
    ids = store.gather(starts, lengths).astype(np.uint64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    pairs = np.flatnonzero(owner[1:] == owner[:-1])
    both = (ids[pairs] + np.uint64(1)) << np.uint64(32) | ids[pairs + 1]
    hashed = words(key(0, "words"), np.append(ids, both)) % np.uint64(_WORDS)
    owners = np.append(owner, owner[pairs])
    joint, counts = np.unique(owners * _WORDS + hashed.astype(np.int64), return_counts=True)
    return joint // _WORDS, joint % _WORDS, counts


def _hashed(store: TokenStore, progress: Progress) -> Iterator[Vectors]:
    progress.stage("counting words", store.documents, "documents")
    having = np.zeros(_WORDS, np.int64)
    for starts, lengths in batches(store, READ_TOKENS):
        having += np.bincount(_counts(store, starts, lengths)[1], minlength=_WORDS)
        progress.advance(len(starts), int(lengths.sum()))
    rarity = np.log((1 + store.documents) / (1 + having)) + 1e-3
    progress.stage("embedding", store.documents, "documents")
    for starts, lengths in batches(store, READ_TOKENS):
        owner, word, count = _counts(store, starts, lengths)
        weight = (1 + np.log(count)) * rarity[word]
        flat = np.zeros(len(starts) * DIMENSIONS)
        for copy in range(SPREAD):
            drawn = words(key(0, "projection", copy), word)
            sign = 1 - 2.0 * (drawn >> np.uint64(63)).astype(np.float64)
            place = owner * DIMENSIONS + (drawn % np.uint64(DIMENSIONS)).astype(np.int64)
            flat += np.bincount(place, sign * weight, len(flat))
        yield flat.reshape(-1, DIMENSIONS).astype(np.float32)
        progress.advance(len(starts), int(lengths.sum()))


def _load(model: str) -> TextEncoder:
    if not Path(model).is_dir():
        raise NotAsAskedError(
            f"--encoder {model} is no folder: save a transformers encoder and its tokenizer there, "
            "or leave the option out for hashed words"
        )
    try:
        return TextEncoder(model)
    except Exception as error:  # transformers raises whatever went wrong in it
        raise NotAsAskedError(
            f"--encoder {model} cannot be loaded ({first_line(error)}): it takes a folder with a "
            "transformers model and its tokenizer; left out, hashed words are compared"
        ) from error


def _modelled(
    store: TokenStore, encoder: Encoder, model: TextEncoder, progress: Progress
) -> Iterator[Vectors]:
    progress.stage("embedding", store.documents, "documents")
    # A token of the corpus may be a single byte, of which an encoder's token holds several.
    for starts, lengths in batches(store, 8 * MODEL_TOKENS, _MODEL_BATCH):
        ids = np.split(store.gather(starts, lengths), np.cumsum(lengths)[:-1])
        texts = [encoder.tokenizer.decode(each.tolist()) for each in ids]
        yield model.embed(texts, MODEL_TOKENS + 2).numpy()
        progress.advance(len(starts), int(lengths.sum()))
