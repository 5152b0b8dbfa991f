"""L-Eval's closed tasks: each has its own way to find the answer in a reply.

An and others, "L-Eval: Instituting Standardized Evaluation for Long Context Language Models", 2023,
arXiv:2307.11088. Written from the rules; the authors' code is under another licence.

    exam_letters   coursera, quality, tpo: letters; some right letters and no wrong one give 1/4
    exam_number    gsm100: the number behind "The answer is", else the last word with a digit
    exam_output    codeU: the output stands in the last words, or behind "the final output"
    exam_verdict   sci_fi: true or false, of the text and of the world
    exam_answer    what is left: equal as numbers, else contained without spaces
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq

from lengthwise.evaluation.scorers.choices import LETTERS, chosen_letter, free_letters

PARTLY = 0.25
_FILLERS = (
    "will be", "of the code", "is", "would be", "the value of", "the result of", "printed",
)  # fmt: skip
_CODE_MARKS = (",", "'", "\\")
_BRACKETS = (("] [", "]["), ("[ [", "[["), ("] ]", "]]"))


def exam_letters(
    reply: str, references: Seq[str], *, several: bool = False, compat: bool = False
) -> float:
    """Letters of multiple choice: L-Eval (arXiv:2307.11088).

    Args:
        reply: by a model.
        references: the right letters, such as "BD".
        several: more than one letter may be right (coursera).
        compat: the released rules: a reply without a letter is read as A, and any capital A to D
            is taken, also that of "A good reason". Without, letters must stand alone, and a reply
            without one is wrong; one letter is chosen as in `choices.letter_choice`.

    Returns:
        1 for the same letters, 0.25 for some of them and no other, else 0.
    """
    said = (_released_letters if compat else _letters)(reply, several)
    return max(_shared(said, _right_letters(each, compat)) for each in references)


def exam_number(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """A word problem's number: L-Eval's gsm100 (arXiv:2307.11088).

    Args:
        reply: by a model.
        references: right numbers, or right solutions that end in one.
        compat: digits alone are compared, up to a point, so that -3 is 3, and a right "3" is found
            in "13" where either is no number. Without, values are compared with their signs and
            decimals.

    Returns:
        0 or 1.
    """
    if not compat:
        said = _number(reply)
        return float(said is not None and said in [_number(each) for each in references])
    return exam_answer(_digits(reply), [_digits(each) for each in references])


def exam_output(reply: str, references: Seq[str], *, compat: bool = False) -> float:
    """A program's output: L-Eval's codeU (arXiv:2307.11088).

    The output must stand in the last words of the reply, three more than it has itself, or in the
    first ones behind "the final output".

    Args:
        reply: by a model.
        references: right outputs.
        compat: ".0" and filler words are removed wherever they stand: 10.05 becomes 105, and "this"
            loses "is". Without, only whole words and a ".0" that ends a number are removed.

    Returns:
        0 or 1.
    """
    hits = (
        exam_answer(_last_words(reply, each, compat), [_code(each, compat)]) for each in references
    )
    return max(hits)


def exam_verdict(reply: str, references: Seq[str]) -> float:
    """True or false by the text, and by the world: L-Eval's sci_fi (arXiv:2307.11088).

    Args:
        reply: by a model, as "True [fact: False]".
        references: right verdicts, written the same way.

    Returns:
        The mean of both: 0, 0.5 or 1. A part without a verdict is wrong.
    """
    said = [_verdict(part) for part in _halves(reply)]
    right = [_halves(each) for each in references]
    return max(
        sum(exam_answer(*pair) for pair in zip(said, [[part] for part in both], strict=True)) / 2
        for both in right
    )


def exam_answer(reply: str, references: Seq[str]) -> float:
    """Equal as numbers, else contained without case and spaces: L-Eval (arXiv:2307.11088).

    Args:
        reply: by a model.
        references: right answers.

    Returns:
        0 or 1.
    """
    return float(any(_same(reply, each) for each in references))


def _same(reply: str, right: str) -> bool:
    try:
        return float(reply) == float(right)
    except ValueError:
        return right.lower().replace(" ", "") in reply.lower().replace(" ", "")


def _right_letters(text: str, compat: bool) -> str:
    letters = re.findall(f"[{LETTERS}]", text.split(maxsplit=1)[0] if text.strip() else "")
    return ("".join(letters) or "A") if compat else "".join(sorted(set(letters)))


def _shared(said: str, right: str) -> float:
    if said and said == right:
        return 1.0
    return PARTLY if said and set(said) <= set(right) else 0.0


def _letters(reply: str, several: bool) -> str:
    joined = re.match(rf"\s*([{LETTERS}]{{2,4}})(?!\w)", reply)
    if joined:
        return "".join(sorted(set(joined[1])))
    if not several:
        return chosen_letter(reply)
    return "".join(sorted(set(free_letters(reply.split("Question")[0]))))


def _released_letters(reply: str, several: bool) -> str:
    if not reply.strip():
        return ""
    if reply in LETTERS:
        return reply
    anywhere = re.findall(f"[{LETTERS}]", reply)
    if not several and anywhere:
        return str(anywhere[0])
    first = re.match(f"[{LETTERS}]*", reply)
    leading = first[0] if first else ""
    if len(leading) > 1:
        return "".join(sorted(set(leading)))
    rest = reply[len(leading) :].split("Question")[0]
    found = leading + "".join(re.findall(r"[A-Z](?=[\s.)])", rest))
    found = "".join(sorted(set(re.sub(f"[^{LETTERS}]", "", found))))
    if not found:
        run = re.search(f"[{LETTERS}]+", rest)
        found = run[0] if run else "A"
    return found


def _stated(reply: str) -> str:
    found = re.search(r"The answer is (\S+)", reply)
    if found:
        return found[1]
    words = reply.split("\n\n")[0].split(" ")
    return next((word for word in reversed(words) if any(map(str.isdigit, word))), "")


def _digits(reply: str) -> str:
    return "".join(filter(str.isdigit, _stated(reply).split(".")[0]))


def _number(reply: str) -> float | None:
    found = re.search(r"-?\$?-?\d[\d,]*(?:\.\d+)?", _stated(reply))
    return float(re.sub(r"[$,]", "", found[0]).replace("--", "-")) if found else None


def _code(text: str, compat: bool) -> str:
    text = re.sub(r"\s+", " ", text)
    for mark in _CODE_MARKS:
        text = text.replace(mark, "")
    text = text.replace(".0", "") if compat else re.sub(r"(?<=\d)\.0+(?!\d)", "", text)
    for apart, together in _BRACKETS:
        text = text.replace(apart, together)
    return text


def _last_words(reply: str, right: str, compat: bool) -> str:
    count = len(right.split()) + 3
    text = _code(reply, compat)
    for filler in _FILLERS:
        text = text.replace(filler, "") if compat else re.sub(rf"\b{filler}\b", "", text)
    _, stated, behind = text.rpartition("the final output")
    words = re.split(r"\s+", behind if stated else text)
    return " ".join(words[:count] if stated else words[-count:])


def _halves(text: str) -> list[str]:
    loyal, *rest = text.lower().split("[fact:")
    return [loyal.strip(), (rest[0][:-1] if rest else "").strip()]


def _verdict(part: str) -> str:
    kinds = ("true", "false")
    found = ([kind for kind in kinds if kind in word] for word in part.split())
    return next((kinds_said[0] for kinds_said in found if kinds_said), "<error>")


__all__ = [
    "exam_answer", "exam_letters", "exam_number", "exam_output", "exam_verdict",
]  # fmt: skip
