"""Packages of the extra `evaluation`, imported when a scorer first needs them."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from typing import Any

from lengthwise.errors import LengthwiseError

_PACKAGES = {"sklearn": "scikit-learn", "rouge_score": "rouge-score"}


@cache
def library(module: str) -> Any:
    """A module of another package.

    Args:
        module: its name, as in "nltk.translate.bleu_score".

    Raises:
        LengthwiseError: where its package is missing, with what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        top = module.partition(".")[0]
        raise LengthwiseError(
            f"this scorer needs the package {_PACKAGES.get(top, top)}: "
            "pip install 'lengthwise[evaluation]'"
        ) from None


def chinese_words(text: str) -> list[str]:
    """Words of a Chinese text as jieba cuts them; spaces and marks are words of their own.

    Args:
        text: any.
    """
    jieba = library("jieba")
    jieba.setLogLevel(logging.WARNING)
    return [str(word) for word in jieba.cut(text, cut_all=False)]


__all__ = ["chinese_words", "library"]
