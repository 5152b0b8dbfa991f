"""Texts that ask for what was planted far back: what heads that look back are told apart by.

Passkeys of random words stand at random depths of a long filler text. At its end each is asked for
and answered. Without a tokenizer filler, words and questions are random tokens.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from lengthwise.errors import Refused
from lengthwise.models.adapted_model import AdaptedModel

# The alphabet of radio, as in the released code.
WORDS = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett",
    "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango",
    "uniform", "victor", "whiskey", "xray", "yankee", "zulu",
)  # fmt: skip
ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
)  # fmt: skip
PLANTED = "\n\nRemember this sequence of words, it is the {} passkey to the vault: "
ASKED = "\n\nWhat is the {} passkey to the vault?\nPasskey: "
BEGIN, END = "This is a very long book: ", "\n\nThat is the end of the book."
# Share of the filler before the first passkey at least, and behind the last.
MARGIN = 0.05
# Tokens of the fixed texts where they are random, and how many of those count as words.
RANDOM, RANDOM_WORDS = 4, 26


@dataclass(frozen=True)
class Asking:
    """A text whose end asks for what its beginning says.

    ids: all its tokens. start: the first token of the questions and answers.
    """

    ids: tuple[int, ...]
    start: int


class Passkeys:
    """Draws texts of one kind.

    filler: token ids, which are read from a random place on. planted, asked: token ids before each
    passkey, and before each answer.
    """

    def __init__(
        self, model: AdaptedModel, filler: Seq[int], passkeys: int, words: int, seed: int
    ) -> None:
        """passkeys: of a text. words: of a passkey. seed: of all that is drawn."""
        self.chance = torch.Generator().manual_seed(seed)
        self.filler = list(filler)
        self.words = words
        first = model.model.config.get_text_config().bos_token_id
        self.before = [first] if isinstance(first, int) else []
        if model.tokenizer is None:
            self._at_random(model.vocab_size, passkeys)
        else:
            self._in_words(model.tokenizer, passkeys)

    def _in_words(self, tokenizer: PreTrainedTokenizerBase, passkeys: int) -> None:
        def ids(text: str) -> list[int]:
            return list(tokenizer.encode(text, add_special_tokens=False))

        self.alphabet = [ids(" " + word) for word in WORDS]
        self.planted = [ids(PLANTED.format(ORDINALS[n])) for n in range(passkeys)]
        self.asked = [ids(ASKED.format(ORDINALS[n])) for n in range(passkeys)]
        self.before += ids(BEGIN)
        self.end = ids(END)

    def _at_random(self, vocabulary: int, passkeys: int) -> None:
        def ids(count: int) -> list[int]:
            return torch.randint(0, vocabulary, (count,), generator=self.chance).tolist()

        self.alphabet = [ids(1) for _ in range(RANDOM_WORDS)]
        self.planted = [ids(RANDOM) for _ in range(passkeys)]
        self.asked = [ids(RANDOM) for _ in range(passkeys)]
        self.end = []

    def draw(self, length: int) -> Asking:
        """A text of about `length` tokens, and no more.

        Args:
            length: in tokens.

        Raises:
            Refused: where the passkeys alone take more.
        """
        keys = [self._passkey() for _ in self.planted]
        spoken = [*self.planted, *self.asked, *keys, *keys, self.before, self.end]
        room = length - sum(map(len, spoken))
        if room < len(keys):
            raise Refused(
                f"{len(keys)} passkeys of {self.words} words do not fit into {length} tokens",
                f"give {length - room + len(keys)} tokens or more",
            )
        filler, ids, at = self._filler(room), list(self.before), 0
        for place, planted, key in zip(self._depths(room), self.planted, keys, strict=True):
            ids += filler[at:place] + planted + key
            at = place
        ids += filler[at:] + self.end
        start = len(ids)
        for asked, key in zip(self.asked, keys, strict=True):
            ids += asked + key
        return Asking(tuple(ids), start)

    def _passkey(self) -> list[int]:
        drawn = torch.randint(0, len(self.alphabet), (self.words,), generator=self.chance)
        return [token for word in drawn.tolist() for token in self.alphabet[word]]

    def _filler(self, count: int) -> list[int]:
        repeated = self.filler * -(-count // len(self.filler))
        most = len(repeated) - count
        at = int(torch.randint(0, most + 1, (1,), generator=self.chance))
        return repeated[at : at + count]

    def _depths(self, count: int) -> list[int]:
        """Places in the filler, ascending."""
        share = torch.rand(len(self.planted), generator=self.chance).sort().values
        return ((MARGIN + (1 - 2 * MARGIN) * share) * count).long().tolist()


__all__ = ["Asking", "Passkeys"]
