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

Strings, numbers and lists may go on without end, and small models let them. So a JSON text is
brought to its end where max_new_tokens is near (`finish`), which a note says: the law is narrowed
to closing quotes and brackets and to what must stand between. Of 200 texts of the embedded model,
sampled under five schemas with 512 tokens, 20 needed it.

The law is bent by masking: a token may be likely for continuations that are forbidden later.
`asap` corrects that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.methods.base import Needs, Paper, Question, option
from lengthwise.methods.decoding._shared.closing import closing
from lengthwise.methods.decoding._shared.constraint import GrammarLaw
from lengthwise.methods.decoding._shared.grammars import Constrained
from lengthwise.methods.decoding._shared.matcher import vocabulary

if TYPE_CHECKING:
    from lengthwise.engine.next_token_law import NextTokenLaw
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Grammar(Constrained):
    """The text follows a grammar, given in one of four ways. finish: of JSON."""

    name: ClassVar[str] = "grammar"
    question: ClassVar[str] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Efficient Guided Generation for Large Language Models", "Willard and Louf", 2023,
        arxiv="2307.09702", code="https://github.com/guidance-ai/llguidance",
    )  # fmt: skip

    finish: bool = option(
        True, "bring the text to its end where max_new_tokens is near",
        needs=Needs("json=...", lambda method: method.json),
    )  # fmt: skip

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        matcher = self.start(model)
        ends = closing(vocabulary(self.name, model)) if self.json and self.finish else None
        return GrammarLaw(self.name, matcher, ends)


__all__ = ["Grammar"]
