"""Whether what verifiers say has the target's distribution, by many draws.

Chi-square over a small vocabulary: for each verifier the p of the next two tokens' counts against
the target's distribution (temperature 0.8, top-p 0.95 of 8 tokens), tokens a round, and, for
guesses that share the target's noise, whether every text was that of plain sampling. `typical` is
lossy and must fail. `bonus` is the lossless match with a fault, a new draw where nothing matched,
and must fail too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from benchmarks.reproduction.harness import Found, Row, check
from torch import Tensor

from lengthwise.engine.sampler import DRAWN, Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless, Verifier
from lengthwise.methods.verification.typical import Typical, TypicalVerifier

VOCAB = 8
DRAWS = 50_000
# More than a round says.
PLACES = 4
SAMPLING = Sampling(0.8, top_p=0.95)

Drafting = Callable[[Tree, "Pair", Sampler, int], None]


@dataclass(frozen=True)
class Pair:
    """Logits `[vocab, vocab]` of the next token by the last: a target's, and a draft's like it."""

    target: Tensor
    draft: Tensor

    @classmethod
    def of(cls, seed: int, vocab: int = VOCAB) -> Pair:
        noise = torch.Generator().manual_seed(seed)
        target = 1.2 * torch.randn(vocab, vocab, generator=noise)
        return cls(target, target + 0.8 * torch.randn(vocab, vocab, generator=noise))


class Quick(Sampler):
    """A sampler that processes the same logits once; here no law depends on the context."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self._processed: dict[tuple[float, ...], Tensor] = {}
        self._laws: dict[tuple[float, ...], Tensor] = {}

    def process(self, logits: Tensor, context: Sequence[int]) -> Tensor:
        key = tuple(logits.tolist())
        if key not in self._processed:
            self._processed[key] = super().process(logits, context)
        return self._processed[key]

    def law(self, logits: Tensor, context: Sequence[int]) -> Tensor:
        key = tuple(logits.tolist())
        if key not in self._laws:
            self._laws[key] = super().probs(logits, context)
        return self._laws[key]


def guessed(tree: Tree, pair: Pair, sampler: Sampler, known: int) -> None:
    """Two likely tokens and two below the first: plain guesses."""
    for parent in (0, 1):
        for token in pair.draft[tree.tokens[parent]].topk(2).indices.tolist():
            tree.add(parent, token)


def chain(tree: Tree, pair: Pair, sampler: Sampler, known: int) -> None:
    """Two drawn tokens, one below the other, beside a guess."""
    tree.add(0, 1)
    node = 0
    for depth in (0, 1):
        (node,) = _drawn(tree, node, known + depth, 1, pair, sampler)


def drawn(tree: Tree, pair: Pair, sampler: Sampler, known: int) -> None:
    """Three tokens drawn without replacement, two below each of the first two, and a guess."""
    tree.add(0, 2)
    for node in _drawn(tree, 0, known, 3, pair, sampler)[:2]:
        _drawn(tree, node, known + 1, 2, pair, sampler)


def coupled(tree: Tree, pair: Pair, sampler: Sampler, known: int) -> None:
    """Two tokens guessed by the noise that the target will choose with."""
    node = 0
    for depth in (0, 1):
        law = sampler.probs(pair.draft[tree.tokens[node]], ())
        node = tree.add(node, int(sampler.perturbed(law, known + depth).argmax()))


def _drawn(
    tree: Tree, node: int, position: int, count: int, pair: Pair, sampler: Sampler
) -> list[int]:
    law = sampler.probs(pair.draft[tree.tokens[node]], ())
    values, tokens = sampler.perturbed(law, position, DRAWN + node).topk(count)
    tokens = tokens[values > -torch.inf]
    return tree.draw(node, tokens.tolist(), law, "draft", [0] * len(tokens))


class Bonus(Lossless):
    """Throws away the choice that matched no guess, and draws another."""

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        accepted, _ = super().walk(tree, logits, sampler, context)
        law = sampler.probs(logits[accepted[-1]], context)
        return accepted, sampler.draw(law, 10**7 + len(context) + len(accepted))


VERIFIERS: dict[str, tuple[Drafting, Verifier]] = {
    "match": (guessed, Lossless()),
    "chain": (chain, Lossless()),
    "tree": (drawn, Lossless()),
    "coupled": (coupled, Lossless()),
    "typical": (guessed, TypicalVerifier(Typical())),
    "bonus": (guessed, Bonus()),
}


@check({"verifier": "", "p": ".2g", "tokens a round": ".2f", "equal to plain": ""})
def many_draws(
    draws: int = DRAWS, seed: int = 0, verifiers: tuple[str, ...] = tuple(VERIFIERS)
) -> Iterator[Found]:
    """p of a chi-square, tokens a round and equality with plain sampling of each verifier."""
    for name in verifiers:
        yield {"verifier": name, **drawn_many(name, draws, seed)}


def drawn_many(name: str, draws: int, seed: int) -> Row:
    """The row of a verifier.

    Every draw is one round behind token 0, with the noise of places of its own: behind a context
    that is PLACES longer each time. Where the round said a single token a plain draw follows.
    """
    pair = Pair.of(seed)
    drafting, verifier = VERIFIERS[name]
    sampler = Quick(replace(SAMPLING, seed=seed))
    counts = torch.zeros(VOCAB, VOCAB, dtype=torch.float64)
    said, equal, context = 0, True, [0]

    def plain(before: list[int], row: int) -> int:
        """The target's own choice behind the context and a few tokens more."""
        context.extend(before)
        token = sampler.choose(pair.target[row], context)
        del context[len(context) - len(before) :]
        return token

    for _ in range(draws):
        tree = Tree(0)
        drafting(tree, pair, sampler, len(context))
        accepted, token = verifier.walk(tree, pair.target[tree.tokens], sampler, context)
        new = [*(tree.tokens[node] for node in accepted[1:]), token]
        said += len(new)
        if len(new) < 2:
            new.append(plain(new, new[0]))
        if name == "coupled":
            first = plain([], 0)
            equal &= new[:2] == [first, plain([first], first)]
        counts[new[0], new[1]] += 1
        context.extend([0] * PLACES)
    laws = torch.stack([sampler.probs(row, ()) for row in pair.target])
    found = {"p": chi_square(laws[0][:, None] * laws, counts), "tokens a round": said / draws}
    return {**found, "equal to plain": equal} if name == "coupled" else found


def chi_square(law: Tensor, counts: Tensor) -> float:
    """The chance of counts at least as far from a law; cells of small expectation are pooled."""
    expected = (law * counts.sum()).flatten()
    seen = counts.flatten()
    impossible = expected == 0
    if seen[impossible].sum() > 0:
        return 0.0
    big = expected >= 5
    hoped = [*expected[big].tolist(), float(expected[~big].sum())]
    came = [*seen[big].tolist(), float(seen[~big].sum())]
    if hoped[-1] < 5:
        hoped[-2:], came[-2:] = [sum(hoped[-2:])], [sum(came[-2:])]
    square = sum((s - h) ** 2 / h for s, h in zip(came, hoped, strict=True))
    half = torch.tensor([(len(hoped) - 1) / 2, square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))
