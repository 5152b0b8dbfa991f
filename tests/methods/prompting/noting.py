"""A model that writes notes by a rule, for tests of methods in which a model writes."""

from __future__ import annotations

import re
from collections.abc import Callable

Tell = Callable[[str], str]


class Noting:
    """Words are tokens. Of a text it writes what `tell` says, cut at as many words as asked."""

    name = "noting"

    def __init__(self, tell: Tell, trained_length: int = 200) -> None:
        self.tell, self.trained_length = tell, trained_length
        self.asked: list[tuple[str, str, int]] = []

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+\s*|\s+", text)]

    def count(self, text: str) -> int:
        return len(self.spans(text))

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        self.asked.append((text, question, max_new_tokens))
        return " ".join(self.tell(text).split()[:max_new_tokens])


def facts(text: str) -> str:
    """The words in capitals; NONE where there are none."""
    return " ".join(re.findall(r"\b[A-Z]{2,}\b", text)) or "NONE."
