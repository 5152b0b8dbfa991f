"""Between two vocabularies, by way of text: what a drafter with another tokenizer needs.

The target's tokens are decoded as they come and encoded by the drafter's tokenizer. The end of a
text may be encoded otherwise once more text follows. So only what lies before the last word is
final: it never changes again, and a drafting model reads it once. Guesses go back the same way.
Those that would change how the target's own last tokens are written are dropped. Special tokens are
text like any other: a drafter that has the same ones knows who speaks next.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lengthwise.errors import Refused
from lengthwise.tokenization.detokenise import UNFINISHED, Incremental

# Tokens of the target that guesses are encoded behind, so that they begin as they would there.
BEHIND = 8
# A text without a word's end for so many tokens is settled where it stands.
LONGEST = 32
# How far guesses of a last word are believed: with its end it might be other tokens.
OPEN = 0.7


@dataclass(frozen=True)
class Translated:
    """A guess in the target's vocabulary with its probability, given that those before it come
    true.

    open: it belongs to a word that may go on.
    """

    token: int
    prior: float
    open: bool


def same_vocabulary(target: PreTrainedTokenizerBase, draft: PreTrainedTokenizerBase) -> bool:
    """Whether every token of the target is the same number to the drafter, which may know more.

    Args:
        target: the tokenizer of the model that writes.
        draft: that of the model that guesses.
    """
    return target.get_vocab().items() <= draft.get_vocab().items()


def backend(tokenizer: PreTrainedTokenizerBase, name: str) -> Tokenizer:
    """The fast tokenizer beneath.

    Args:
        tokenizer: of transformers.
        name: of the method, for the refusal.

    Raises:
        Refused: where there is no fast tokenizer.
    """
    found = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise Refused(
            f"{name}: the vocabularies differ, and a tokenizer of class "
            f"{type(tokenizer).__name__} cannot translate",
            "give a second model with the target's own tokenizer",
        )
    return found


class Translator:
    """Reads a growing text of the target's tokens as the drafter's.

    settled: the drafter's tokens that will not change. open: those after them, of `text`. name: of
    the method, for which tokenizers that cannot translate are refused.
    """

    def __init__(
        self, target: PreTrainedTokenizerBase, draft: PreTrainedTokenizerBase, name: str = "model"
    ) -> None:
        self.target, self.draft = backend(target, name), backend(draft, name)
        self.settled = _opening(self.draft)
        self.open: list[int] = []
        self.text = ""
        self._said = Incremental(target, special=True)
        self._given = 0

    def read(self, tokens: Seq[int]) -> None:
        """Takes in the tokens that are new; a character that is not complete yet waits.

        Args:
            tokens: all of the target's so far; those read before are skipped.
        """
        said = self._said
        said.extend(tokens[len(said.ids) :])
        new, self._given = said.text[self._given : said.stable], max(self._given, said.stable)
        if new:
            self.text += new
            self.open = _encode(self.draft, self.text)
            self._settle()

    def _settle(self) -> None:
        """Settles what comes before the last word, where encoding the two apart changes nothing."""
        cut = _last_word(self.text)
        # Some tokenizers write a word's own space in front of it, some put one in front of a text.
        for skipped in (0, 1) if cut else ():
            head = _encode(self.draft, self.text[:cut])
            tail = _encode(self.draft, self.text[cut + skipped :])
            if head + tail == self.open:
                self.settled += head
                self.text, self.open = self.text[cut + skipped :], tail
                return
        if len(self.open) > LONGEST:
            self.settled += self.open
            self.text, self.open = "", []

    def back(self, tokens: Seq[int], guesses: Seq[int], probs: Seq[float]) -> list[Translated]:
        """The drafter's guesses and their probabilities as tokens that continue the target's.

        Args:
            tokens: the target's so far.
            guesses: the drafter's tokens.
            probs: of each guess.

        Returns:
            The guesses as tokens of the target; none where they would change how its last ones are
                written.
        """
        before = [*self.settled, *self.open][-BEHIND:]
        known = _decode(self.draft, before)
        whole = _decode(self.draft, [*before, *guesses]).rstrip(UNFINISHED)
        tail = _decode(self.target, tokens[-BEHIND:])
        if not whole.startswith(known) or tail.endswith(UNFINISHED):
            return []
        behind = _encode(self.target, tail)
        text = tail + whole[len(known) :]
        found = _encode(self.target, text)
        if not behind or found[: len(behind)] != behind:
            return []
        new = found[len(behind) :]
        ends = _ends(self.target, behind, new)
        priors = _shared(ends, _ends(self.draft, before, guesses), probs)
        word = _last_word(text) - len(tail)
        return [
            Translated(token, prior * OPEN if end > word else prior, end > word)
            for token, prior, end in zip(new, priors, ends, strict=True)
        ]


def _shared(ends: Seq[int], draft_ends: Seq[int], probs: Seq[float]) -> list[float]:
    """The probability of each token by the drafter's guesses whose text begins in it."""
    found, at = [], 0
    for end in ends:
        prob = 1.0
        while at < len(draft_ends) and (draft_ends[at - 1] if at else 0) < end:
            prob *= probs[at]
            at += 1
        found.append(prob)
    return found


def _ends(tokenizer: Tokenizer, before: Seq[int], tokens: Seq[int]) -> list[int]:
    """Characters of the text that each token and those before it add behind `before`."""
    start = len(_decode(tokenizer, before))
    return [
        len(_decode(tokenizer, [*before, *tokens[: count + 1]])) - start
        for count in range(len(tokens))
    ]


def _opening(tokenizer: Tokenizer) -> list[int]:
    """What the tokenizer puts in front of every text, such as a beginning-of-text token."""
    plain, special = _encode(tokenizer, "a"), list(tokenizer.encode("a").ids)
    return special[: special.index(plain[0])] if plain and plain[0] in special else []


def _last_word(text: str) -> int:
    """Where the last word that follows another begins, its space included; 0 where none does."""
    for at in range(len(text) - 2, 0, -1):
        if text[at].isspace() and not text[at - 1].isspace() and not text[at + 1].isspace():
            return at
    return 0


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _decode(tokenizer: Tokenizer, tokens: Seq[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=False))


__all__ = ["Translated", "Translator", "backend", "same_vocabulary"]
