"""Questions whose answer stands in a long document, and the same with the answer changed.

The two WikiQA tasks that Giraffe's authors judge models by (arXiv 2308.10882). FreeFormQA: the
answer is a word or a short sentence of the document, which is cut so that it stands near the start,
in the bulk or near the end. AlteredNumericQA: where the answer is a number, it and every occurrence
of it in the document become another number, so that a model that remembers the fact instead of
reading is wrong:

    a year (1000 to 2100)    a different one, at most 10 away
    any other number         a different one of as many digits

An answer counts when it is part of the reply (presence accuracy). The authors' documents are from
Wikipedia and are not shipped here: their files are read, and questions can be made of any document
by leaving out a number that it states once.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lengthwise.documents.json_lines import json_lines
from lengthwise.errors import DocumentError, LengthwiseError

PLACES = {"start": (0.0, 0.1), "bulk": (0.1, 0.9), "end": (0.9, 1.0)}
YEARS = range(1000, 2101)
FAR = 10
GAP = "____"
# A whole number, with commas between thousands or without.
_NUMBER = re.compile(r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+|\d+)(?![\d]|[.,]\d)")
_SENTENCE = re.compile(r"[^.!?\n][^!?\n]*?[.!?](?=\s|$)")
_SHORTEST, _LONGEST = 40, 300


@dataclass(frozen=True, slots=True)
class DocumentQuestion:
    """A document, a question about it, and the answer as the document has it."""

    document: str
    question: str
    answer: str

    @property
    def prompt(self) -> str:
        """What a model reads."""
        asked = f"Question: {self.question}\nAnswer with the words of the text, and with no others."
        return f"Read this text.\n\n{self.document}\n\n{asked}"

    def right(self, reply: str) -> bool:
        """Presence accuracy: whether the answer is part of a reply."""
        return self.answer.strip() in reply


def altered(case: DocumentQuestion, seed: int = 0) -> DocumentQuestion:
    """The case with its answer, a number, changed wherever it stands.

    Raises LengthwiseError where the answer is no whole number or the document does not hold it.
    """
    answer = case.answer.strip()
    if not _NUMBER.fullmatch(answer):
        raise LengthwiseError(
            f"the answer {answer!r} is no whole number, and only numbers can be altered"
        )
    texts = (case.document, case.question)
    if _digits(answer) not in {_digits(n) for n in _NUMBER.findall(case.document)}:
        raise LengthwiseError(f"the document does not hold its answer, {answer}")
    taken = {_digits(number) for text in texts for number in _NUMBER.findall(text)}
    new = _another(_digits(answer), taken, random.Random(seed))
    document, question = (_replaced(text, _digits(answer), new) for text in texts)
    return DocumentQuestion(document, question, _shaped(new, answer))


def _another(old: str, taken: set[str], draw: random.Random) -> str:
    """A number that the texts do not hold: near a year, else of as many digits."""
    value = int(old)
    if value in YEARS and len(old) == 4:
        found = [str(n) for n in range(value - FAR, value + FAR + 1) if n in YEARS]
        found = [n for n in found if n not in taken]
        if found:
            return draw.choice(found)
    low = 10 ** (len(old) - 1) if len(old) > 1 else 0
    free = 10 ** len(old) - low - sum(len(n) == len(old) for n in taken)
    if free <= 0:
        raise LengthwiseError(f"the document holds every number of {len(old)} digits already")
    while (new := str(draw.randint(low, 10 ** len(old) - 1))) in taken:
        pass
    return new


def _replaced(text: str, old: str, new: str) -> str:
    return _NUMBER.sub(lambda m: _shaped(new, m[0]) if _digits(m[0]) == old else m[0], text)


def _digits(number: str) -> str:
    return number.replace(",", "")


def _shaped(digits: str, like: str) -> str:
    """digits with commas where `like` has them."""
    return f"{int(digits):,}" if "," in like else digits


def placed(
    case: DocumentQuestion, where: str, length: int, tokens: Callable[[str], int]
) -> DocumentQuestion:
    """The case with its document cut to about `length` tokens, at ends of lines, such that the
    answer stands in the first tenth ("start"), between ("bulk") or in the last tenth ("end").

    tokens: how many a text has. Raises LengthwiseError where the document has too little text on a
    side of the answer, or no answer.
    """
    if where not in PLACES:
        raise LengthwiseError(f"where={where!r}: allowed are {', '.join(PLACES)}")
    lines = case.document.split("\n")
    at = next((i for i, line in enumerate(lines) if case.answer in line), None)
    if at is None:
        raise LengthwiseError(f"the document does not hold its answer, {case.answer!r}")
    low, high = PLACES[where]
    before = (low + high) / 2 * length
    sizes = [tokens(line + "\n") for line in lines]
    first, held = at, 0
    while first and held + sizes[first - 1] <= before:
        first -= 1
        held += sizes[first]
    last, total = at + 1, held + sizes[at]
    while last < len(lines) and total + sizes[last] <= length:
        total += sizes[last]
        last += 1
    depth = held / max(1, total)
    if total < 0.8 * length or not low <= depth <= high:
        raise LengthwiseError(
            f"the document has too little text around its answer for {length:,} tokens with the "
            f"answer at the {where}: give a smaller length or a longer document"
        )
    return replace(case, document="\n".join(lines[first:last]))


def number_questions(document: str, count: int, seed: int = 0) -> list[DocumentQuestion]:
    """Questions for numbers of two digits and more that a document states once, spread over it.

    Raises DocumentError where it states fewer than `count`.
    """
    numbers = [_digits(n) for n in _NUMBER.findall(document)]
    once = {n for n in set(numbers) if numbers.count(n) == 1 and len(n) > 1}
    found = []
    for match in _SENTENCE.finditer(document):
        sentence = match[0].strip()
        own = [n for n in _NUMBER.findall(sentence) if _digits(n) in once]
        if len(own) == 1 and _SHORTEST <= len(sentence) <= _LONGEST:
            gap = _NUMBER.sub(lambda m, n=own[0]: GAP if m[0] == n else m[0], sentence)  # type: ignore[misc]
            asked = f'Which number stands at {GAP} in this sentence of the text? "{gap}"'
            found.append(DocumentQuestion(document, asked, own[0]))
    if len(found) < count:
        raise DocumentError(
            f"the document has {len(found)} sentences with a number of its own, and {count} are "
            "asked for: give a longer document"
        )
    chosen = sorted(random.Random(seed).sample(range(len(found)), count))
    return [found[i] for i in chosen]


def read_conversations(path: str | Path) -> list[tuple[str, str]]:
    """Prompts and answers of a published WikiQA file: JSON, or JSON lines, with `conversations`.

    Raises DocumentError, naming the record, where one is not of that form.
    """
    path, found = Path(path), []
    for number, record in json_lines(path):
        turns = record.get("conversations")
        listed = turns if isinstance(turns, list) else []
        values = [each.get("value") for each in listed if isinstance(each, dict)]
        said = [value for value in values if isinstance(value, str)]
        if len(said) < 2 or len(said) < len(values):
            raise DocumentError(
                f"{path.name}, record {number}: `conversations` holds two turns with a `value` "
                "each, the prompt and the answer"
            )
        found.append((said[0], said[1].strip()))
    return found


def altered_prompt(prompt: str, answer: str, seed: int = 0) -> tuple[str, str]:
    """A prompt that holds document and question in one, and its answer, altered as `altered`."""
    case = altered(DocumentQuestion(prompt, "", answer), seed)
    return case.document, case.answer
