"""How often guesses come true, learned from what came of them, by who guessed and how."""

from __future__ import annotations

import threading
from collections.abc import Sequence as Seq

from lengthwise.engine.speculative.tree import Tree

# Who guessed, the grade it gave, and how the guess stands to those of others.
Kind = tuple[str, int, str]

# A prior weighs as much as this many guesses that were checked.
PRIOR_WEIGHT = 2.0
# What one more outcome leaves of the weight of those before it: 50 of them are remembered.
FORGET = 0.98
# Acceptance of a guess of whom nothing is known (as SmartSpec begins).
MEAN = 0.7


class Acceptance:
    """How often guesses came true where their parent did, by who guessed and what kind of guess.

    A guess that another drafter seconds, or has another guess beside, is a kind of its own: so it
    is learned from outcomes what agreement is worth. before: what other requests have seen, from
    which a new belief starts; it learns along, from several threads where there are.
    """

    def __init__(self, before: Acceptance | None = None) -> None:
        self.before = before
        self._seen: dict[Kind, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def chance(self, kind: Kind, prior: float) -> float:
        """Mean of a Beta belief that began at the drafter's own `prior`."""
        if self.before is not None:
            prior = self.before.chance(kind, prior)
        right, tried = self._seen.get(kind, (0.0, 0.0))
        return (PRIOR_WEIGHT * prior + right) / (PRIOR_WEIGHT + tried)

    def average(self, source: str, grade: int, prior: float) -> float:
        """The chance of a guess of which it is not known yet how it stands to others."""
        kinds = [(source, grade, how) for how in ("alone", "seconded", "contested")]
        seen = [self._seen.get(kind, (0.0, 0.0)) for kind in kinds]
        if self.before is not None:
            prior = self.before.average(source, grade, prior)
        right, tried = sum(r for r, _ in seen), sum(t for _, t in seen)
        return (PRIOR_WEIGHT * prior + right) / (PRIOR_WEIGHT + tried)

    def mean(self, source: str) -> float:
        """The chance of a guess of a drafter whatever its kind, MEAN before anything was seen."""
        with self._lock:
            seen = [counts for kind, counts in self._seen.items() if kind[0] == source]
        prior = MEAN if self.before is None else self.before.mean(source)
        right, tried = sum(r for r, _ in seen), sum(t for _, t in seen)
        return (PRIOR_WEIGHT * prior + right) / (PRIOR_WEIGHT + tried)

    def chances(self, tree: Tree) -> list[float]:
        """For every node of a tree the chance that its whole path comes true."""
        found = [1.0]
        for node in range(1, len(tree)):
            own = self.chance(kind_of(tree, node), tree.priors[node])
            found.append(found[tree.parents[node]] * own)
        return found

    def learn(self, tree: Tree, tokens: Seq[int]) -> None:
        """Compares what was proposed with the tokens that came, whether verified or pruned.

        So a drafter that is switched off costs nothing and still earns its way back.
        """
        node: int | None = 0
        for token in tokens:
            assert node is not None
            for guess, child in tree.children[node].items():
                self._note(kind_of(tree, child), guess == token)
            node = tree.children[node].get(token)
            if node is None:
                return

    def _note(self, kind: Kind, true: bool) -> None:
        if self.before is not None:
            self.before._note(kind, true)
        with self._lock:
            right, tried = self._seen.get(kind, (0.0, 0.0))
            self._seen[kind] = right * FORGET + true, tried * FORGET + 1


def kind_of(tree: Tree, node: int) -> Kind:
    """What the acceptance of a guess is counted under."""
    source = tree.sources[node]
    if tree.seconded[node]:
        return source, tree.grades[node], "seconded"
    return source, tree.grades[node], "contested" if tree.mixed[tree.parents[node]] else "alone"
