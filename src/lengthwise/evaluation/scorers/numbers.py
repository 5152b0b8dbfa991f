"""Numbers in replies: the first, the last, all of them, or one result after another.

first_int   passkeys: LM-Infinite's script for the prompts of Landmark Attention (2023,
            arXiv:2305.16300), and InfiniteBench (2024, arXiv:2402.13718) as text
all_ints    counts and paragraphs: LongBench (2023, arXiv:2308.14508)
the rest    InfiniteBench
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq

# ASCII digits alone: what InfiniteBench splits at, and what `int` reads in one way.
_INT = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_MARKS = "\n:\"'.,?!{}"
_RUN_MARKS = "\n.`'\":"


def first_int(reply: str, references: Seq[str], *, as_text: bool = True) -> float:
    """Whether the first run of digits is the answer.

    As text: InfiniteBench's passkey and number string (arXiv:2402.13718), where leading zeros
    count. As a number: the passkey script for arXiv:2305.16300.

    Args:
        reply: by a model.
        references: right numbers; of texts, their first run of digits counts as a number.
        as_text: compare digits; without, values, and no digits count as 0.

    Returns:
        0 or 1.
    """
    found = _INT.search(reply)
    if as_text:
        return float((found[0] if found else "") in references)
    return float(_value(found[0] if found else "0") in [_value(each) for each in references])


def all_ints(reply: str, references: Seq[str]) -> float:
    """The share of runs of digits that are the answer: LongBench's counts (arXiv:2308.14508).

    Args:
        reply: by a model.
        references: right numbers as text, such as "8". Of one in a longer text, such as
            "Paragraph 8", its first run of digits counts.

    Returns:
        0 to 1; the best of the references.
    """
    said = re.findall(r"\d+", reply)
    right = [found[0] for each in references if (found := re.search(r"\d+", each))]
    return max((said.count(each) / len(said) for each in right), default=0.0) if said else 0.0


def kv_value(reply: str, references: Seq[str]) -> float:
    """Whether the value is a word of the reply: InfiniteBench's key-value pairs (arXiv:2402.13718).

    Args:
        reply: by a model; punctuation but for hyphens is read as spaces.
        references: right values.

    Returns:
        0 or 1.
    """
    words = _spaced(reply, _MARKS).split()
    return float(any(each in words for each in references))


def dialogue_name(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """Whether a name is a word of the reply: InfiniteBench's dialogues (arXiv:2402.13718).

    Args:
        reply: by a model; it is compared in capitals.
        references: right names.
        compat: only the first name counts, and must be in capitals. Without, all count, in any
            case, and names may have several words.

    Returns:
        0 or 1.
    """
    words = _spaced(reply, _MARKS).upper().split()
    if compat:
        return float(references[0] in words)
    said = f" {' '.join(words)} "
    names = [" ".join(_spaced(each, _MARKS).upper().split()) for each in references]
    return float(any(name and f" {name} " in said for name in names))


def code_run(reply: str, references: Seq[str | int]) -> float:
    """Whether the last word is the right integer: InfiniteBench's Code.Run (arXiv:2402.13718).

    Args:
        reply: by a model.
        references: the value, as a number or its text.

    Returns:
        0 or 1.
    """
    words = _spaced(reply.strip(), _RUN_MARKS).split()
    try:
        return float(int(words[-1]) in [int(each) for each in references])
    except (IndexError, ValueError):
        return 0.0


def math_find(reply: str, references: Seq[str | int | float], *, compat: bool = False) -> float:
    """Whether the first number is the answer: InfiniteBench's Math.Find (arXiv:2402.13718).

    Args:
        reply: by a model.
        references: the value, as a number or its text.
        compat: signs are not read, so that "-3" is 3. Without, they are.

    Returns:
        0 or 1. "3.0" is 3 here, which the released code cannot read.
    """
    found = re.search(_NUMBER.pattern if compat else f"-?{_NUMBER.pattern}", reply)
    if found is None:
        return 0.0
    return float(float(found[0]) in [float(each) for each in references])


def math_calc(
    reply: str, references: Seq[str | int], *, skip: int = 0, compat: bool = False
) -> float:
    """The share of leading results that are right: InfiniteBench's Math.Calc (arXiv:2402.13718).

    Args:
        reply: by a model.
        references: all intermediate results, in their order.
        skip: numbers at the front that are left out; the authors leave out 1 of GPT-4's.
        compat: signs are not read, so that -3 counts as 3 and right negative results never do.
            Without, a minus that stands before a number is part of it.

    Returns:
        0 to 1: the index of the first wrong result over the number of results.
    """
    signed = r"(?<![0-9])-[0-9]+|[0-9]+"
    said = re.findall(_INT.pattern if compat else signed, reply)[skip:]
    hits = 0
    for given, right in zip(said, references, strict=False):
        if _value(given) != _value(str(right)):
            break
        hits += 1
    return hits / len(references)


def _value(text: str) -> str:
    """The first integer, without zeros at its front: `int` refuses runs of thousands of digits."""
    found = re.search(r"(-?)0*([0-9]+)", text)
    return "" if found is None else f"{found[1] if found[2] != '0' else ''}{found[2]}"


def _spaced(text: str, marks: str) -> str:
    return text.translate(str.maketrans(marks, " " * len(marks)))


__all__ = [
    "all_ints", "code_run", "dialogue_name", "first_int", "kv_value", "math_calc", "math_find",
]  # fmt: skip
