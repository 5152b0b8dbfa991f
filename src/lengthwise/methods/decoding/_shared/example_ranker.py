"""A tiny random ranker for examples: none comes with us."""

from __future__ import annotations

import atexit
import os
import tempfile
from contextlib import suppress
from functools import lru_cache

import torch

from lengthwise.retrieval.ranker import BiEncoder, Shape, save_ranker

# Tokens of the largest vocabularies.
_VOCAB = 1 << 18


@lru_cache(maxsize=1)
def example_ranker() -> str:
    """The file of a random ranker of any tokenizer's ids, gone when the process ends."""
    handle, path = tempfile.mkstemp(prefix="lengthwise-", suffix=".ranker")
    os.close(handle)
    atexit.register(_remove, path)
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = Shape(width=4, layers=1, heads=1, prefix=16, suffix=8)
        save_ranker(path, BiEncoder(torch.randn(_VOCAB, shape.width), shape))
    return path


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


__all__ = ["example_ranker"]
