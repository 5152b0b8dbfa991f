"""The compiled parts of this room: they need numba, which is optional.

Numba keeps what it compiled beside the file of each function, and does not look at the files of
what that one calls. Here it lies in the user's cache under the digest of all compiled files, so
that a change of one is a change of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from lengthwise._utils.cache_folder import cache_dir
from lengthwise.errors import TokenizerError


def kernels(name: str) -> ModuleType:
    """A module of compiled functions.

    Args:
        name: within `lengthwise.tokenization`.

    Raises:
        TokenizerError: without numba.
    """
    try:
        with _kept_by_digest():
            return import_module(f"lengthwise.tokenization.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "numba":
            raise
        raise TokenizerError(
            "merges are learned and read by compiled code, which needs the package numba: "
            "pip install 'lengthwise[tokenizers]'"
        ) from None


@contextmanager
def _kept_by_digest() -> Iterator[None]:
    """Numba asks where to keep a function when that is defined, here and not elsewhere."""
    config = import_module("numba").config
    before = config.CACHE_DIR
    config.CACHE_DIR = before or str(cache_dir() / f"compiled-{_digest()}")
    try:
        yield
    finally:
        config.CACHE_DIR = before


@cache
def _digest() -> str:
    room = Path(__file__).parent
    found = hashlib.blake2b(digest_size=8)
    for path in sorted([*room.rglob("*_kernels.py"), *room.rglob("learner_state.py")]):
        found.update(path.read_bytes())
    return found.hexdigest()


__all__ = ["kernels"]
