"""Which choice a reply names: letters, option numbers, designations of answers.

    letter_choice   the first free-standing letter
    infinite_choice, code_debug   InfiniteBench (Zhang and others, 2024, arXiv:2402.13718)
    option_number   ProteinLMBench (Shen and others, 2024, arXiv:2406.05540)
    best_answer     Ada-LEval's BestAnswer (Wang and others, 2024, arXiv:2404.06480)

The letters of L-Eval are in `exams`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq

LETTERS = "ABCD"
_ANSWERS = ("answer is:", "answer:", "answer is", "option is")
_STATED = re.compile(r"answer is|option is|answer\s*:", re.IGNORECASE)
_DEBUGS = ("answer is:", "is:", "answer:", "correct option is:")


def free_letters(reply: str, letters: str = LETTERS) -> list[str]:
    """Letters of choices that stand alone, in their order; "A good one" has none.

    Args:
        reply: by a model.
        letters: those of the choices.
    """
    # "A" before a small word is the article, unless that joins or goes on from a choice.
    article = r"(?! +(?!(?:and|or|is|because|but)\b)[a-z])"
    return re.findall(rf"(?<![\w'])([{letters}])(?![\w']){article}", reply)


def chosen_letter(reply: str, letters: str = LETTERS) -> str:
    """The letter behind "answer is", "answer:" or "option is", else the first that stands alone.

    Args:
        reply: by a model.
        letters: those of the choices.

    Returns:
        The letter; empty where the reply has none, so that nothing is guessed.
    """
    _, *behind = _STATED.split(reply, maxsplit=1)
    found = free_letters("".join(behind), letters) or free_letters(reply, letters)
    return found[0] if found else ""


def letter_choice(reply: str, references: Seq[str], *, letters: str = LETTERS) -> float:
    """Whether the letter that a reply chooses is right.

    `chosen_letter` says which that is; a reply without one is wrong. The rule is ours, for
    questions as those of L-Eval (arXiv:2307.11088) and InfiniteBench (arXiv:2402.13718).

    Args:
        reply: by a model.
        references: right letters.
        letters: those of the choices.

    Returns:
        0 or 1.
    """
    return float(chosen_letter(reply, letters) in references)


def infinite_choice(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """The choice of a question about a novel: InfiniteBench (arXiv:2402.13718).

    Args:
        reply: by a model.
        references: the letter and the text of the right choice.
        compat: the released rules, step by step. Their first takes "Based on ..." for B. Without,
            the letter is that of `letter_choice`; where there is none, the reply must begin with
            the text, or say it behind "answer is".

    Returns:
        0 or 1.
    """
    if compat:
        return float(_infinite_ladder(reply.strip(), references))
    letter = chosen_letter(reply)
    if letter:
        return float(letter in references)
    behind = _STATED.split(reply, maxsplit=1)
    starts = tuple(part.strip(" \n:\"'").lower() for part in (reply, behind[-1]))
    texts = [each.lower() for each in references if len(each) > 1]
    return float(any(start.startswith(text) for start in starts for text in texts))


def code_debug(reply: str, references: Seq[str]) -> float:
    """The function with a planted error: InfiniteBench's Code.Debug (arXiv:2402.13718).

    The reply begins with the letter and a full stop or colon, or names letter or function behind
    "answer:" or the like.

    Args:
        reply: by a model.
        references: the function's name and its letter, in this order.

    Returns:
        0 or 1.
    """
    name, letter = references
    said = reply.strip()
    if said[:2] in (f"{letter}.", f"{letter}:"):
        return 1.0
    for each in ("\n", "`", "'", '"', "-", "*", "Option", "option"):
        said = said.replace(each, " ")
    behind = _behind(re.sub(" +", " ", said), _DEBUGS)
    return float(behind is not None and behind.startswith((letter, name)))


def option_number(reply: str, references: Seq[str]) -> float:
    """Whether the option that is named first is right: ProteinLMBench (arXiv:2406.05540).

    The authors' rule is not published; this one takes the number behind "option", else the first
    number.

    Args:
        reply: by a model.
        references: right options, as "option 3" or "3".

    Returns:
        0 or 1.
    """
    return float(_option(reply) in [_option(each) for each in references] and _option(reply) != "")


def best_answer(reply: str, references: Seq[str], *, choices: int) -> float:
    """Whether the best answer's designation is named: Ada-LEval (arXiv:2404.06480).

    Of several designations, or else of several bare numbers, that are named the highest counts, so
    that A12 is not read as A1. That favours replies which list candidates.

    Args:
        reply: by a model.
        references: the right designation, such as "A5".
        choices: how many answers there were to choose from.

    Returns:
        0 or 1.
    """
    numbers = range(choices, 0, -1)
    found = next((n for n in numbers if f"A{n}" in reply), None)
    if found is None:
        found = next((n for n in numbers if str(n) in reply), None)
    return float(f"A{found}" in references)


def _infinite_ladder(said: str, right: Seq[str]) -> bool:
    if not said:
        return False
    if said[0] in LETTERS:
        return said[0] in right
    if said in right:
        return True
    said = re.sub("[\n\"'.,?!{} ]+", " ", said)
    if any(each in said for each in _ANSWERS):
        behind = _behind(said, _ANSWERS)
        return behind is not None and behind.startswith(tuple(right))
    letter = next((word for word in said.split() if word in LETTERS), None)
    return letter in right


def _behind(said: str, prefixes: Seq[str]) -> str | None:
    """What stands behind the first of the prefixes that occurs, and behind one character more."""
    for prefix in prefixes:
        place = said.find(prefix)
        if place >= 0:
            start = place + len(prefix) + 1
            return said[start:] if len(said) >= start else None
    return None


def _option(text: str) -> str:
    found = re.search(r"option\s*(\d+)", text, re.IGNORECASE) or re.search(r"(\d+)", text)
    return found[1] if found else ""


__all__ = [
    "LETTERS", "best_answer", "chosen_letter", "code_debug", "free_letters", "infinite_choice",
    "letter_choice", "option_number",
]  # fmt: skip
