"""Akyürek et al., "In-Context Language Learning: Architectures and Algorithms", ICML 2024,
arXiv:2401.12973.

Strings of a regular language that nobody has seen are shown, and one more is to be gone on with.
The language is that of a random automaton: 4 to 12 states, 4 to 18 symbols, 1 to 3 edges a state to
distinct states under distinct symbols, none to itself, all states accepting; trimmed and minimised.
Strings are uniform walks of 1 to 49 symbols.

Two tasks ask about one set of languages:

    writing  the share of the symbols written that the automaton permits, up to the first that it
             does not
    law      total variation distance, 1/2 sum |p - q|, of the model's law of the next symbol to
             the automaton's, which is uniform; and greedy validity, the share of places whose
             likeliest symbol is permitted. The string is given symbol by symbol. The score is 1
             minus the distance.

Ours differs: as many strings are shown as the length holds (the paper's: 10 to 19), and symbols are
letters with spaces between them. Places of the last string count alone, not of all of them. A model
that was not trained on such strings knows other tokens, too: its law is that among the symbols, and
`mass` is what it gives to them. The released code reports twice the distance.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.tasks.benchmark import (
    Difficulty,
    Forced,
    Law,
    Sample,
    Wanted,
    largest,
)
from lengthwise.evaluation.tasks.generated._shared.pairs import Grown, apart
from lengthwise.methods.options import option

SYMBOLS = "abcdefghijklmnopqr"
_INTRO = "Each line below is a string of one language, which has rules of its own.\n\n"
_ASKED = "Write one more string of this language. It begins as follows; go on with it."


@dataclass(frozen=True)
class InContextLanguage:
    """Regular languages in context, gone on with, or the law of the next symbol."""

    name: ClassVar[str] = "icll"
    paper: ClassVar[Paper] = Paper(
        "In-Context Language Learning: Architectures and Algorithms", "Akyürek et al.", 2024,
        arxiv="2401.12973", venue="ICML", code="https://github.com/berlino/seq_icl",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        "writing": Difficulty("high", "high"), "law": Difficulty("high", "high"),
    }  # fmt: skip
    laws: ClassVar[frozenset[str]] = frozenset({"law"})

    states: int = option(12, "states of an automaton, at most", low=4, high=100)
    symbols: int = option(10, "symbols to write", low=1, high=100)
    given: int = option(3, "symbols that are given", low=1, high=40)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """A language a sample."""
        for draw in wanted.draws("icll"):
            edges = automaton(draw, self.states)
            start = walk(edges, self.given, draw)
            right = walk(edges, self.symbols, draw, state_after(edges, start))
            own = apart(draw)
            shown = Grown(lambda own=own, edges=edges: walk(edges, own.randint(1, 49), own))  # type: ignore[misc]

            def build(
                units: int, shown: Grown[list[str]] = shown, start: Seq[str] = start,
                right: Seq[str] = right, edges: Seq[Mapping[str, int]] = edges,
            ) -> Sample:  # fmt: skip
                text = _INTRO + "\n".join(" ".join(each) for each in shown.first(units))
                facts = {
                    "edges": [dict(each) for each in edges],
                    "state": state_after(edges, start),
                }
                most = 2 * self.symbols + 4
                forced = None
                if task in self.laws:
                    forced = Forced(tuple(f" {s}" for s in right), tuple(f" {s}" for s in SYMBOLS))
                return Sample(
                    text, _ASKED, (" ".join(right),), most, " ".join(start), facts=facts,
                    forced=forced,
                )  # fmt: skip

            yield largest(wanted, build)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The share of asked symbols permitted before the first that is not; and of the first."""
        edges, state = sample.facts["edges"], sample.facts["state"]
        asked, right = len(sample.references[0].split()), 0
        for symbol in said.strip().split("\n")[0].split()[:asked]:
            if symbol not in edges[state]:
                break
            state, right = edges[state][symbol], right + 1
        return {"valid": right / asked, "first": float(right > 0)}

    def score_laws(self, task: str, laws: Seq[Law], sample: Sample) -> Mapping[str, float]:
        """1 minus the distance, the distance, greedy validity, and the mass of the symbols."""
        edges, state = sample.facts["edges"], sample.facts["state"]
        distances, greedy, masses = [], [], []
        for law, symbol in zip(laws, sample.references[0].split(), strict=True):
            found = {each.strip(): chance for each, chance in law.items()}
            masses.append(sum(found.values()))
            distances.append(distance(found, edges[state]))
            greedy.append(float(max(found, key=lambda each: found[each]) in edges[state]))
            state = edges[state][symbol]
        far = fmean(distances)
        return {"agreement": 1 - far, "tvd": far, "greedy": fmean(greedy), "mass": fmean(masses)}


def distance(law: Mapping[str, float], permitted: Collection[str]) -> float:
    """Total variation distance of a law to the uniform one over what is permitted.

    Args:
        law: of symbols; it is scaled to sum to 1.
        permitted: symbols, at least one.
    """
    mass = sum(law.values())
    if not mass:
        return 1.0
    even = {symbol: 1 / len(permitted) for symbol in permitted}
    both = {*law, *even}
    return sum(abs(law.get(s, 0.0) / mass - even.get(s, 0.0)) for s in both) / 2


def automaton(draw: random.Random, most: int = 12) -> list[dict[str, int]]:
    """A random automaton: for each state, its symbols and where they lead. It begins at state 0.

    Args:
        draw: source of chance.
        most: states before it is trimmed and minimised.
    """
    while True:
        states, letters = draw.randint(4, most), draw.sample(SYMBOLS, draw.randint(4, 18))
        edges = []
        for state in range(states):
            others = [each for each in range(states) if each != state]
            count = draw.randint(1, 3)
            to, under = draw.sample(others, count), draw.sample(letters, count)
            edges.append(dict(zip(under, to, strict=True)))
        found = minimised(edges)
        # One state of one symbol, or a ring of single edges, has nothing to learn.
        if len(found) > 1 and any(len(each) > 1 for each in found):
            return found


def minimised(edges: Seq[Mapping[str, int]]) -> list[dict[str, int]]:
    """The smallest automaton of the language, of states that are reached (Moore's partitions).

    Args:
        edges: of an automaton all of whose states accept.
    """
    reached = [0]
    for state in reached:
        reached += [to for to in dict.fromkeys(edges[state].values()) if to not in reached]
    group = dict.fromkeys(reached, 0)
    while True:
        kinds: dict[object, int] = {}
        finer = {}
        for state in reached:
            kind = (group[state], tuple(sorted((s, group[to]) for s, to in edges[state].items())))
            finer[state] = kinds.setdefault(kind, len(kinds))
        if len(kinds) == len(set(group.values())):
            break
        group = finer
    first: dict[int, int] = {}
    for state in reached:
        first.setdefault(finer[state], state)
    return [{s: finer[to] for s, to in edges[first[n]].items()} for n in range(len(first))]


def walk(
    edges: Seq[Mapping[str, int]], symbols: int, draw: random.Random, state: int = 0
) -> list[str]:
    """Symbols of a uniform walk.

    Args:
        edges: of an automaton, in which every state leads on.
        symbols: how many.
        draw: source of chance.
        state: where it begins.
    """
    found = []
    for _ in range(symbols):
        symbol = draw.choice(sorted(edges[state]))
        found.append(symbol)
        state = edges[state][symbol]
    return found


def state_after(edges: Seq[Mapping[str, int]], symbols: Seq[str], state: int = 0) -> int:
    """Where a string leads.

    Args:
        edges: of an automaton.
        symbols: of the string, each permitted.
        state: where it begins.

    Raises:
        KeyError: for a symbol that is not permitted.
    """
    for symbol in symbols:
        state = edges[state][symbol]
    return state


__all__ = [
    "SYMBOLS", "InContextLanguage", "automaton", "distance", "minimised", "state_after", "walk",
]  # fmt: skip
