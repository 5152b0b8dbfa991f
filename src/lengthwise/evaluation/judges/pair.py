"""Which of two replies is better: pairwise preference, asked in both orders.

Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", NeurIPS 2023,
arXiv:2306.05685; with a reference as in L-Eval (An and others, 2024, arXiv:2307.11088). The judge
writes [[A]], [[B]] or, for a tie, [[C]]. A win is 1, a tie 1/2, a loss 0, and the preference is the
mean of both orders, as L-Eval counts. A verdict that changes with the order is a sign that the
place decided. Length-controlled win rates (Dubois and others, 2024, arXiv:2404.04475) are fitted to
these preferences.

Ours differs: words are ours, and an answer with marks that differ cannot be read. Equal replies are
a tie and not asked about, as in AlpacaEval. AlpacaEval asks once, in an order that is drawn, for
the better model's name alone.
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
You are an impartial judge. Two assistants answered a question about a long document, which you do \
not see. A person wrote the reference answer. Say whose answer is better. Compare both with the \
reference first. What goes beyond the reference is no advantage. An answer should be about the \
question, but above all it must not contradict the reference."""
_FREE = """\
You are an impartial judge. Two assistants answered a question. Say whose answer is better and \
follows the instructions better. Look at how helpful, relevant, accurate, deep, creative and \
detailed they are. Compare both first, and explain yourself shortly."""
_FORM = """\
Neither the order of the answers, nor their length, nor the names of the assistants may have a \
say. Stay objective. At the end write the verdict in double brackets: [[A]] if assistant A is \
better, [[B]] if assistant B is better, [[C]] for a tie."""
# What a verdict is worth to the reply that stands first.
_WORTH = {"A": 1.0, "B": 0.0, "C": 0.5}


@dataclass(frozen=True)
class Pair:
    """Preference between the replies of two recipes. The score is the share of the wins."""

    name: ClassVar[str] = "pair"
    paper: ClassVar[tuple[Paper, ...]] = (
        Paper(
            "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", "Zheng et al.", 2023,
            arxiv="2306.05685", venue="NeurIPS", code="https://github.com/lm-sys/FastChat",
        ),
        Paper(
            "L-Eval: Instituting Standardized Evaluation for Long Context Language Models",
            "An et al.", 2024, arxiv="2307.11088", venue="ACL",
            code="https://github.com/OpenLMLab/LEval",
        ),
        Paper(
            "Length-Controlled AlpacaEval: A Simple Way to Debias Automatic Evaluators",
            "Dubois et al.", 2024, arxiv="2404.04475",
            code="https://github.com/tatsu-lab/alpaca_eval",
        ),
    )  # fmt: skip
    scale: ClassVar[tuple[float, float]] = (0.0, 1.0)
    most: ClassVar[int] = 2048
    compares: ClassVar[bool] = True

    reference: bool = option(True, "the right reply is shown, where a sample has one")

    @property
    def grounded(self) -> bool:
        """Never: without a reference the judge is asked in general."""
        return False

    def asked(self, case: Case) -> Seq[str]:
        """The same question in both orders; none for equal replies."""
        mine, other = case.replies
        if mine == other:
            return ()
        return self._prompt(case, mine, other), self._prompt(case, other, mine)

    def _prompt(self, case: Case, first: str, second: str) -> str:
        shown = self.reference and bool(case.references)
        parts = [f"{_GROUNDED if shown else _FREE} {_FORM}", f"[Question]\n{case.question}"]
        if shown:
            parts.append(
                f"[Reference answer]\n{listed(case.references)}\n[End of reference answer]"
            )
        parts += [
            f"[Assistant {name}'s answer]\n{said}\n[End of assistant {name}'s answer]"
            for name, said in (("A", first), ("B", second))
        ]
        return "\n\n".join(parts)

    def read(self, part: int, said: str, case: Case) -> Mapping[str, float] | None:
        """The verdict, as what it is worth to the first of the case's replies."""
        found = one_mark(said, r"\[\[\s*([ABC])\s*\]\]")
        if found is None:
            return None
        worth = _WORTH[found]
        return {"preference": worth if part == 0 else 1 - worth}

    def verdict(self, parts: Seq[Mapping[str, float]], case: Case) -> Mapping[str, float]:
        """The mean of both orders, and whether they differ; of equal replies a tie alone."""
        if not parts:
            return {"preference": 0.5}
        first, second = (each["preference"] for each in parts)
        return {"preference": (first + second) / 2, "changes": float(first != second)}


__all__ = ["Pair"]
