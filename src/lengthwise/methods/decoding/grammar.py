"""grammar: the text follows a JSON schema, a regular expression, a grammar or a choice.

Willard and Louf, "Efficient Guided Generation for Large Language Models", 2023, arXiv:2307.09702:
tokens after which no text of the language can follow are masked before one is chosen.

    p'(token | text) ~ p(token | text) [some continuation of text + token is in the language]

The end of the text is a token like any other: allowed where the text may end, and nothing is asked
where nothing may follow. The paper indexes the states of an automaton; ours asks llguidance, which
has an Earley parser over lexemes, and a trie of the vocabulary's bytes. So grammars may nest, and
every way of cutting a text into tokens is allowed.

What is masked depends on the written tokens alone: guesses are verified under it, and texts fork.
Tokens that the grammar leaves no choice about are told to whoever guesses (`forced`).

The law is bent by masking: a token may be likely for continuations that are forbidden later.
`asap` corrects that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.methods.base import Paper, Question
from lengthwise.methods.decoding._shared.constraint import GrammarLaw
from lengthwise.methods.decoding._shared.grammars import Constrained

if TYPE_CHECKING:
    from lengthwise.engine.next_token_law import NextTokenLaw
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Grammar(Constrained):
    """The text follows a grammar, given in one of four ways."""

    name: ClassVar[str] = "grammar"
    question: ClassVar[str] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Efficient Guided Generation for Large Language Models", "Willard and Louf", 2023,
        arxiv="2307.09702", code="https://github.com/guidance-ai/llguidance",
    )  # fmt: skip

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        return GrammarLaw(self.name, self.start(model))


__all__ = ["Grammar"]
