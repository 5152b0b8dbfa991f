"""monitor: behind a dot only members are written that a language server knows.

Agrawal et al., "Guiding Language Models of Code with Global Context using Monitors", NeurIPS 2023,
arXiv:2306.10763 (MGD). A monitor reads along. At a trigger point it asks a language server what may
follow, and masks what cannot lead there:

    trigger  the code ends with an expression and a dot, outside of strings and comments
    query    R = names that may follow there, keywords left out, asked again with brackets closed
    mask     behind the part p of a name that is written already, with S = {r without p : r in R,
             r begins with p}, a token t is allowed if it begins some s in S, or if it begins with
             some s and then a character that no name has (a break character)

so a member that begins another stays open until a break character comes. Where R or S is empty
nothing is masked. The end of the text is a break.

Ours tells the state from the text at every step, where the authors' code carries it from token to
token. So what is masked depends on the path alone, guesses are verified under it, and a name that
the prompt begins is completed as well. Tokens that hold a dot and what follows, such as ".get",
would pass by the trigger. They are held to the members, too: all of them for a table of members;
with a language server those of a probability of at least 0.001, others being forbidden, as every
place would have to be asked about.

In a text with fences of Markdown, code is what stands in an open fence; else the whole text is. Of
a server that fails or does not answer nothing is masked at that point, which is said once.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise.engine.context_ids import common
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.decoding._shared.members import Members, jedi_members, table_of
from lengthwise.methods.decoding._shared.python_text import BEGINNING, Place, inside_text, read_on
from lengthwise.methods.decoding._shared.token_texts import TokenTexts, token_texts

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.models.adapted_model import AdaptedModel

# A dot and the part of a name behind it, in a token, before whose first letter anything may stand.
_PASSING = re.compile(r"(?:^|\w|[)\]\"'])\.([^\W\d]\w*)")
# Tokens that pass by a trigger are asked about from this probability on.
LIKELY = 1e-3
# What a token is shown as that ends within a character.
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
# Characters of code that tell a table what stands before a dot.
RECEIVER = 256


@dataclass(frozen=True)
class Monitor(Method):
    """Members of Python's expressions, by jedi, or by a table. project: a folder of code that is
    known beside the text."""

    name: ClassVar[str] = "monitor"
    question: ClassVar[str] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Guiding Language Models of Code with Global Context using Monitors", "Agrawal et al.",
        2023, arxiv="2306.10763", venue="NeurIPS",
        code="https://github.com/microsoft/monitors4codegen",
    )  # fmt: skip

    members: str = option(
        "", "JSON of names and their members, or its file, in place of the language server"
    )
    project: str = option(
        "", "folder whose code the language server knows",
        needs=Needs("a language server (no members)", lambda method: not method.members),
    )  # fmt: skip
    seconds: float = option(
        10.0, "that the language server may take to answer", low=0.001,
        needs=Needs("a language server (no members)", lambda method: not method.members),
    )  # fmt: skip

    @classmethod
    def of(cls, members: Mapping[str, Seq[str]]) -> Monitor:
        """The method for a table that a program holds.

        Args:
            members: names that may follow a dot, by what stands before it.
        """
        return cls(members=json.dumps({name: list(found) for name, found in members.items()}))

    @classmethod
    def identity(cls, length: int) -> Monitor:
        return cls(members="{}")

    @classmethod
    def example(cls) -> Monitor:
        return cls.of({letter: ["x", "xy"] for letter in "abcdefghijklmnopqrstuvwxyz"})

    def check(self, model: AdaptedModel) -> None:
        self._members()
        if model.tokenizer is None:
            raise Refused(
                f"{self.name} reads the text of tokens, and this {model.family!r} model has no "
                "tokenizer",
                "wrap it with one: lengthwise.wrap(model, tokenizer)",
            )

    def _members(self) -> Members:
        if self.members:
            return table_of(self.name, self.members)
        return jedi_members(self.name, self.project, self.seconds)()

    def start_law(self, model: AdaptedModel) -> NextTokenLaw:
        self.check(model)
        assert model.tokenizer is not None
        return MonitorLaw(
            self.name, self._members(), token_texts(model.tokenizer, model.vocab_size)
        )


class MonitorLaw(NextTokenLaw):
    """Masks what no member begins with."""

    def __init__(self, name: str, members: Members, tokens: TokenTexts) -> None:
        self.name, self._source, self._tokens = name, members, tokens
        self._before = ""
        self._stop_ids: list[int] = []
        # By length and hash of the code, which would be kept anew at each dot.
        self._known: dict[tuple[int, int], frozenset[str]] = {}
        # What was shown last, and where the text ended behind so many tokens of it.
        self._path: list[int] = []
        self._places: list[tuple[int, Place]] = [(0, BEGINNING)]
        self._failed = ""
        self._seconds, self._masked, self._asked = 0.0, 0, 0
        self._dotted = _dotted(tokens)

    def __deepcopy__(self, memo: dict[int, Any]) -> MonitorLaw:
        copied = copy.copy(self)
        copied._known = dict(self._known)
        copied._path, copied._places = list(self._path), list(self._places)
        return copied

    def begin(self, sequence: Sequence, sampling: Sampling, limit: int, stop_ids: Seq[int]) -> None:
        self._before, self._stop_ids = self._tokens.written(list(sequence.tokens)), list(stop_ids)
        self._path, self._places = [], [(0, read_on(self._before))]

    def process(self, scores: Tensor, written: Seq[int]) -> Tensor:
        code = self._code(written)
        if code is None:
            return scores
        passing = [*self._dotted.inner, *(self._dotted.leading if _expression(code) else ())]
        rare: set[int] = set()
        if passing and not self._source.free:
            likely = torch.softmax(scores, -1)[passing] >= LIKELY
            rare = {token for token, kept in zip(passing, likely.tolist(), strict=True) if not kept}
        if rest := self._rest(code):
            allowed = torch.zeros(len(scores), dtype=torch.bool)
            allowed[sorted(self._beginning(rest))] = True
            allowed[self._stop_ids] = "" in rest
            scores = scores.masked_fill_(~allowed.to(scores.device), -torch.inf)
            self._masked += 1
        finite = scores.isfinite().tolist() if passing else []
        forbidden = [
            token
            for token in passing
            if finite[token]
            and (token in rare or not self._passes(code, self._tokens.texts[token]))
        ]
        scores[forbidden] = -torch.inf
        return scores

    def _code(self, written: Seq[int]) -> str | None:
        """The code that is open at the end of the text, as much of it as is asked about; None where
        none is, or a string or a comment."""
        same = common(self._path, written)
        self._path[same:] = written[same:]
        while self._places[-1][0] > same:
            self._places.pop()
        tokens, place = self._places[-1]
        text = self._before + self._tokens.written(written)
        if tokens < len(written):
            place = read_on(text, place)
            self._places.append((len(written), place))
        if place.start < 0 or place.inside:
            return None
        # A table looks at what stands before a dot, and a name that is begun may follow that.
        shown = len(text) - 2 * RECEIVER if self._source.free else 0
        return text[max(place.start, shown) :]

    def _rest(self, code: str) -> frozenset[str]:
        """What of the members is not written yet; empty where nothing is known."""
        part = code[_word(code) :]
        before = code[: len(code) - len(part)]
        if not before.endswith(".") or part[:1].isdecimal() or not _expression(before[:-1]):
            return frozenset()
        names = self._names(before)
        return frozenset(name[len(part) :] for name in names if name.startswith(part))

    def _beginning(self, rest: frozenset[str]) -> set[int]:
        """Tokens that begin what is left of a member, or go on behind a whole one."""
        found: set[int] = set()
        for name in rest:
            for length in range(1, len(name) + 1):
                found.update(self._tokens.of(name[:length]))
            if not name:
                found |= self._dotted.breaks
                continue
            for text, token in self._tokens.beginning(name):
                if _breaks(text[len(name)]):
                    found.add(token)
        return found

    def _passes(self, code: str, text: str) -> bool:
        """Whether every dot in a token is followed by what may follow it there."""
        for place, part, open_ in _dots(text):
            head = code + text[:place]
            names = self._names(head + ".") if _expression(head) else frozenset()
            fits = any(name.startswith(part) for name in names) if open_ else part in names
            if names and not fits:
                return False
        return True

    def _names(self, code: str) -> frozenset[str]:
        if self._source.free:
            return self._source.of(code[-RECEIVER:])
        key = len(code), hash(code)
        if key not in self._known:
            begin = time.perf_counter()
            self._asked += 1
            try:
                self._known[key] = self._source.of(code)
            except Exception as error:
                self._known[key] = frozenset()
                self._failed = self._failed or first_line(error)
            self._seconds += time.perf_counter() - begin
        return self._known[key]

    @property
    def notes(self) -> Seq[str]:
        if not self._failed:
            return ()
        return [
            f"{self.name}: the language server failed ({self._failed}): nothing was masked where "
            "it had no answer"
        ]

    @property
    def figures(self) -> dict[str, float]:
        return {
            f"{self.name}: places asked": self._asked, f"{self.name}: seconds": self._seconds,
            f"{self.name}: tokens under a mask": self._masked,
        }  # fmt: skip


def _expression(code: str) -> bool:
    """Whether a dot that follows takes a member: it is no decimal point."""
    start = _word(code)
    return not code[start].isdigit() if start < len(code) else code.endswith((")", "]", '"', "'"))


def _word(code: str) -> int:
    """Where the run of letters, digits and underscores at the end begins."""
    start = len(code)
    while start and (code[start - 1].isalnum() or code[start - 1] == "_"):
        start -= 1
    return start


def _dots(text: str) -> list[tuple[int, str, bool]]:
    """The dots in a token with what follows them: their place, the name, whether it may go on."""
    return [
        (found.start(1) - 1, found.group(1), found.end() == len(text))
        for found in _PASSING.finditer(text)
        if not inside_text(text[: found.start(1) - 1])
    ]


def _breaks(letter: str) -> bool:
    """Whether a character ends the name before it."""
    return letter != UNFINISHED and not (letter.isalnum() or letter == "_")


class _Dotted(NamedTuple):
    """Of a vocabulary the tokens that pass by a trigger, their dot first or within, and those that
    begin with a break character."""

    leading: tuple[int, ...]
    inner: tuple[int, ...]
    breaks: frozenset[int]


@lru_cache(maxsize=4)
def _dotted(tokens: TokenTexts) -> _Dotted:
    leading: list[int] = []
    inner: list[int] = []
    for token, text in enumerate(tokens.texts):
        if dots := _dots(text):
            (inner if dots[0][0] else leading).append(token)
    breaks = (token for token, text in enumerate(tokens.texts) if text and _breaks(text[0]))
    return _Dotted(tuple(leading), tuple(inner), frozenset(breaks))


__all__ = ["Monitor", "MonitorLaw"]
