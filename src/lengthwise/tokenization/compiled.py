"""The compiled parts of this room: they need numba, which is optional."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lengthwise.errors import TokenizerError


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


__all__ = ["kernels"]
