"""An answer that the user knows: whether a text contains it, however it is written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from lengthwise.errors import LengthwiseError


def check_expected(expected: Sequence[str], questions: int) -> None:
    """Raises LengthwiseError unless there is one text that says something for each question."""
    if expected and len(expected) != questions:
        raise LengthwiseError(
            f"{len(expected)} expected answers for {questions} "
            f"question{'s' if questions != 1 else ''}: give one --expect for each -q, in the same "
            "order"
        )
    empty = next((text for text in expected if not normalised(text)), None)
    if empty is not None:
        raise LengthwiseError(f"the expected answer {empty!r} has no letter or digit to look for")


def normalised(text: str) -> str:
    """Letters of one case and width, no punctuation but that within numbers, single spaces."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"(?<!\d)[^\w\s]|[^\w\s](?!\d)|_", " ", text)
    return " ".join(text.split())


def contains(text: str, expected: str) -> bool:
    """Whether `text` says `expected`, both normalised: in whole words where a script has words."""
    wanted, said = normalised(expected), normalised(text)
    # Scripts without letter case are written without spaces, or join small words to the next one.
    words = not any(unicodedata.category(letter) == "Lo" for letter in wanted)
    pattern = re.escape(wanted)
    return re.search(rf"(?<!\w){pattern}(?!\w)" if words else pattern, said) is not None
