"""How alike a line of code is to the right one: LongBench (2023, arXiv:2308.14508)."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from difflib import SequenceMatcher

from lengthwise.evaluation.scorers._libraries import library

_NO_CODE = ("`", "#", "//")


def edit_ratio(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """2M / T of the first line of code: M characters that both share in order, T those of both.

    LongBench's code similarity (arXiv:2308.14508). A line with a backtick, a hash or two slashes is
    no code.

    Args:
        reply: by a model.
        references: the right next line.
        compat: fuzzywuzzy's ratio as LongBench's requirements install it, which is that of difflib
            in whole percents. Without, M is the longest common subsequence, by rapidfuzz.

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: without `compat`, where rapidfuzz is missing.
    """
    line = code_line(reply)
    alike = _difflib if compat else _indel
    return max(alike(line, each) for each in references)


def code_line(reply: str) -> str:
    """The first line of code; empty where there is none: LongBench (arXiv:2308.14508).

    Args:
        reply: by a model.
    """
    lines = reply.lstrip("\n").split("\n")
    return next((each for each in lines if not any(mark in each for mark in _NO_CODE)), "")


def _indel(said: str, right: str) -> float:
    if not said or not right:
        return 0.0
    return float(library("rapidfuzz.fuzz").ratio(said, right)) / 100


def _difflib(said: str, right: str) -> float:
    if not said or not right:
        return 0.0
    return int(round(100 * SequenceMatcher(None, said, right).ratio())) / 100


__all__ = ["code_line", "edit_ratio"]
