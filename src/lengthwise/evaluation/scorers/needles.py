"""Needles: keywords of a planted sentence, and values at the ends of threads.

keyword_recall  offline, for the judge of Needle-in-a-Haystack (Kamradt, 2023)
thread_value, thread_values  Needle Threading (Roberts and others, 2024, arXiv:2411.05000)
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence as Seq


def keyword_recall(reply: str, references: Seq[str]) -> float:
    """The share of keywords that a reply has as whole words, case aside. The rule is ours.

    Args:
        reply: by a model.
        references: three or four content words of the needle; several words are one keyword.

    Returns:
        0 to 1.
    """
    said = f" {' '.join(_words(reply))} "
    return sum(f" {' '.join(_words(each))} " in said for each in references) / len(references)


def thread_value(reply: str, references: Seq[str]) -> float:
    """Whether a reply begins with the value: Needle Threading (arXiv:2411.05000).

    The reply is read as a Python literal, or as it is where it is none.

    Args:
        reply: by a model.
        references: right values.

    Returns:
        0 or 1.
    """
    said = str(literal(reply))
    return float(any(said[: len(each)] == each for each in references))


def thread_values(reply: str, references: Seq[str], *, ordered: bool = True) -> float:
    """The share of values that a reply lists: Needle Threading (arXiv:2411.05000).

    Args:
        reply: a Python list, or values with commas, spaces or line ends between.
        references: the right values.
        ordered: each must stand at its own place, as where several keys are asked for. Without, as
            for the conditional task, any place does, and wrong values take their share away.

    Returns:
        0 to 1: right ones over those that are wanted; without order over those said, if they are
        more.
    """
    read = literal(reply)
    if isinstance(read, list | tuple | set):
        said = [str(each) for each in read]
    else:
        said = re.findall(r"[^\s,\[\]'\"]+", str(read))
    if ordered:
        return sum(map(str.__eq__, said, references)) / len(references)
    found = set(said) & set(references)
    return len(found) / max(len(set(references)), len(set(said)))


def literal(reply: str) -> object:
    """A reply as a Python literal; the text itself where it is none: arXiv:2411.05000.

    Args:
        reply: by a model.
    """
    text = reply.strip()
    try:
        found: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text.strip("'\"")
    # A value of digits is itself, not a number: leading zeros and 1_000 would be lost.
    return found if isinstance(found, str | list | tuple | set) else text


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


__all__ = ["keyword_recall", "literal", "thread_value", "thread_values"]
