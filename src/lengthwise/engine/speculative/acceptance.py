"""How often guesses are accepted, learned by drafter and by kind of guess."""

from __future__ import annotations

import threading
from collections.abc import Sequence as Seq

from lengthwise.engine.speculative.tree import Tree

# The drafter, its bucket, and how the guess stands to those of others: "alone", "agreed" (another
# drafter guesses it too) or "contested" (another guesses something else).
Kind = tuple[str, int, str]

# A prior weighs as much as this many guesses that were checked.
PRIOR_WEIGHT = 2.0
# What one more outcome leaves of the weight of those before it: 50 of them are remembered.
FORGET = 0.98
# Acceptance of a guess of whom nothing is known (as SmartSpec begins).
MEAN = 0.7


class Acceptance:
    """How often guesses were right where their parent was, by drafter and kind of guess.

    A guess that another drafter agrees with, or has another guess beside, is a kind of its own. So
    what agreement is worth is learned from outcomes.

    before: what other requests have seen, where an estimate begins. It learns along, from several
    threads where there are.
    """

    def __init__(self, before: Acceptance | None = None) -> None:
        self.before = before
        self._seen: dict[Kind, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def prob(self, kind: Kind, prior: float) -> float:
        """Probability that a guess of a kind is right: mean of a Beta that began at `prior`.

        Args:
            kind: the drafter's name, the bucket, and "alone", "agreed" or "contested".
            prior: what is believed before any outcome, 0 to 1. It weighs PRIOR_WEIGHT guesses.
        """
        if self.before is not None:
            prior = self.before.prob(kind, prior)
        right, tried = self._seen.get(kind, (0.0, 0.0))
        return (PRIOR_WEIGHT * prior + right) / (PRIOR_WEIGHT + tried)

    def average(self, source: str, bucket: int, prior: float) -> float:
        """The same for a guess of which it is not known yet how it stands to others.

        Args:
            source: the drafter's name.
            bucket: the kind of guess, as the drafter counts it.
            prior: as in `prob`.
        """
        kinds = [(source, bucket, how) for how in ("alone", "agreed", "contested")]
        seen = [self._seen.get(kind, (0.0, 0.0)) for kind in kinds]
        if self.before is not None:
            prior = self.before.average(source, bucket, prior)
        right, tried = sum(r for r, _ in seen), sum(t for _, t in seen)
        return (PRIOR_WEIGHT * prior + right) / (PRIOR_WEIGHT + tried)

    def mean(self, source: str) -> float:
        """The same for any guess of a drafter; MEAN before anything was seen.

        Args:
            source: the drafter's name.
        """
        with self._lock:
            seen = [counts for kind, counts in self._seen.items() if kind[0] == source]
        prior = MEAN if self.before is None else self.before.mean(source)
        right, tried = sum(r for r, _ in seen), sum(t for _, t in seen)
        return (PRIOR_WEIGHT * prior + right) / (PRIOR_WEIGHT + tried)

    def path_probs(self, tree: Tree) -> list[float]:
        """By node, the probability that its whole path from the root is right.

        Args:
            tree: guesses with their priors.

        Returns:
            A probability for each node. That of the root is 1.
        """
        found = [1.0]
        for node in range(1, len(tree)):
            own = self.prob(kind_of(tree, node), tree.priors[node])
            found.append(found[tree.parents[node]] * own)
        return found

    def learn(self, tree: Tree, tokens: Seq[int]) -> None:
        """Compares what was proposed with the tokens that came, whether verified or pruned.

        So a drafter whose guesses are pruned is still learned about.

        Args:
            tree: all that was proposed, pruned guesses included.
            tokens: ids that came after the root, in order.
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
    if tree.agreed[node]:
        return source, tree.buckets[node], "agreed"
    return source, tree.buckets[node], "contested" if tree.mixed[tree.parents[node]] else "alone"
