"""A rating from 1 to 10 of one reply: single-answer grading.

Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023,
arXiv:2306.05685. The judge explains shortly, and then writes its rating in double brackets. Beside
a reference it compares the reply with that first, and looks for mistakes; without one it looks at
help, relevance, accuracy, depth, creativity and detail.

Ours differs: words are ours. A rating outside 1 to 10, or several that differ, cannot be read; the
released code takes the first one, whatever it is. Samples of a run have one turn. LLM-KICK (2024,
arXiv:2310.01382) asks for the same scale with two replies in one prompt; here each stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.judges.answers import one_mark
from lengthwise.evaluation.judges.judge import Case, listed
from lengthwise.methods.options import option

_GROUNDED = """\
You are an impartial judge. Grade the answer that an assistant gave to a question: is it correct, \
and does it help? A reference answer is given, too. Compare the answer with it first, and point \
out and correct what is wrong. Stay objective."""
_FREE = """\
You are an impartial judge. Grade the answer that an assistant gave to a question. Look at how \
helpful, relevant, accurate, deep, creative and detailed it is. Explain yourself shortly first. \
Stay objective."""
_FORM = """\
At the end, rate the answer with a number from 1 to 10 in double brackets, in this form: \
Rating: [[number]]"""


@dataclass(frozen=True)
class Rating:
    """MT-Bench's single-answer grading. The score is the rating."""

    name: ClassVar[str] = "rating"
    paper: ClassVar[Paper] = Paper(
        "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", "Zheng et al.", 2023,
        arxiv="2306.05685", venue="NeurIPS", code="https://github.com/lm-sys/FastChat",
    )  # fmt: skip
    scale: ClassVar[tuple[float, float]] = (1.0, 10.0)
    most: ClassVar[int] = 2048
    compares: ClassVar[bool] = False

    reference: bool = option(True, "the right reply is shown, where a sample has one")

    @property
    def grounded(self) -> bool:
        """Never: without a reference the judge is asked in general."""
        return False

    def asked(self, case: Case) -> Seq[str]:
        """One prompt."""
        shown = self.reference and bool(case.references)
        parts = [f"{_GROUNDED if shown else _FREE} {_FORM}", f"[Question]\n{case.question}"]
        if shown:
            parts.append(
                f"[Reference answer]\n{listed(case.references)}\n[End of reference answer]"
            )
        parts.append(f"[Assistant's answer]\n{case.replies[0]}\n[End of assistant's answer]")
        return ("\n\n".join(parts),)

    def read(self, part: int, said: str, case: Case) -> Mapping[str, float] | None:
        """The number in double brackets, else in single ones."""
        found = one_mark(said, r"\[\[\s*(\d+\.?\d*)\s*\]\]")
        if found is None and "[[" not in said:
            found = one_mark(said, r"\[\s*(\d+\.?\d*)\s*\]")
        if found is None or not self.scale[0] <= float(found) <= self.scale[1]:
            return None
        return {"rating": float(found)}

    def verdict(self, parts: Seq[Mapping[str, float]], case: Case) -> Mapping[str, float]:
        """The rating."""
        return parts[0]


__all__ = ["Rating"]
