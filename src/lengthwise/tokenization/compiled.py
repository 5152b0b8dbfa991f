"""The compiled parts of this room: they need numba, which is optional.

Numba keeps what it compiled beside the file of each function, and does not look at the files of
what that one calls. Here it lies in the user's cache under the digest of all compiled files, so
that a change of one is a change of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from lengthwise._utils.cache_folder import cache_dir
from lengthwise.errors import TokenizerError

Function = TypeVar("Function", bound=Callable[..., Any])


def kernels(name: str) -> ModuleType:
    """A module of compiled functions.

    Args:
        name: within `lengthwise.tokenization`.

    Raises:
        TokenizerError: without numba.
    """
    try:
        return import_module(f"lengthwise.tokenization.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "numba":
            raise
        raise TokenizerError(
            "merges are learned and read by compiled code, which needs the package numba: "
            "pip install 'lengthwise[tokenizers]'"
        ) from None


def jit(function: Function) -> Function:
    """The decorator of all compiled functions.

    Args:
        function: is compiled when it is called first.
    """
    numba = import_module("numba")
    before = numba.config.CACHE_DIR
    # Asked when a function is defined, so that other packages keep theirs where they do.
    numba.config.CACHE_DIR = before or str(cache_dir() / f"compiled-{_digest()}")
    try:
        compiled: Function = numba.njit(cache=True, nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = before
    return compiled


@cache
def _digest() -> str:
    room = Path(__file__).parent
    found = hashlib.blake2b(digest_size=8)
    for path in sorted([*room.rglob("*_kernels.py"), *room.rglob("learner_state.py")]):
        found.update(path.read_bytes())
    return found.hexdigest()


__all__ = ["jit", "kernels"]
