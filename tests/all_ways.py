"""The law of what a verifier says, by running it once for every way that chance can go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence as Seq

import pytest
import torch
from torch import Tensor

from lengthwise.engine.sampling import Sampler, Sampling
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless, Verifier


class Dice:
    """Choices that are all tried, one after the other: `ways` runs something once for each way."""

    def __init__(self) -> None:
        self._script: list[int] = []
        self._made: list[tuple[int, list[float]]] = []

    def choose(self, chances: Seq[float]) -> int:
        """One of several things of these chances."""
        at = len(self._made)
        choice = self._script[at] if at < len(self._script) else self._next(chances, 0)
        self._made.append((choice, list(chances)))
        return choice

    def ways(self, run: Callable[[], list[int]]) -> Iterator[tuple[float, list[int]]]:
        """Every way a run can go: its chance, and what it returns."""
        self._script = []
        while True:
            self._made = []
            found = run()
            chance = 1.0
            for choice, chances in self._made:
                chance *= chances[choice]
            yield chance, found
            while self._made:
                choice, chances = self._made.pop()
                further = self._next(chances, choice + 1)
                if further < len(chances):
                    self._script = [*(made for made, _ in self._made), further]
                    break
            else:
                return

    @staticmethod
    def _next(chances: Seq[float], start: int) -> int:
        return next((n for n in range(start, len(chances)) if chances[n] > 0), len(chances))


class Coin:
    """A uniform number of which it is only ever asked whether it lies below p / q."""

    def __init__(self, dice: Dice, q: float = 1.0) -> None:
        self.dice, self.q = dice, q

    def __mul__(self, q: Tensor) -> Coin:
        return Coin(self.dice, float(q))

    def __lt__(self, p: Tensor) -> bool:
        chance = min(1.0, float(p) / self.q)
        return self.dice.choose([1 - chance, chance]) == 1


class Loaded(Sampler):
    """A sampler whose draws and coins are choices of the dice."""

    def __init__(self, sampling: Sampling, dice: Dice) -> None:
        super().__init__(sampling)
        self.dice = dice

    def draw(self, law: Tensor, position: int) -> int:
        return self.dice.choose(law.tolist())

    def choose(self, logits: Tensor, context: Seq[int]) -> int:
        return self.dice.choose(self.law(logits, context).tolist())

    def coin(self, position: int, number: int) -> Coin:  # type: ignore[override]
        return Coin(self.dice)


def pair(vocab: int, seed: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """Logits `[vocab, vocab]` of the next token by the last, of a target and of a draft."""
    noise = torch.Generator().manual_seed(seed)
    target, draft = (spread * torch.randn(2, vocab, vocab, generator=noise)).unbind()
    return target, 0.5 * target + draft


def without_replacement(dice: Dice, law: Tensor, count: int) -> list[int]:
    found, left = [], law.clone()
    while len(found) < count and left.sum() > 0:
        found.append(dice.choose((left / left.sum()).tolist()))
        left[found[-1]] = 0
    return found


Drafting = Callable[[Tree, Loaded, Tensor], None]


def law_of(
    drafting: Drafting,
    logits: tuple[Tensor, Tensor],
    verifier: Verifier | None = None,
    sampling: Sampling | None = None,
) -> Tensor:
    """The law `[vocab, vocab]` of the first two tokens: what a round says behind token 0, with a
    plain draw behind where it says but one."""
    target, draft = logits
    dice = Dice()
    sampler = Loaded(sampling or Sampling(1.0), dice)
    plain = torch.stack([sampler.law(row, ()) for row in target])

    def run() -> list[int]:
        tree = Tree(0)
        drafting(tree, sampler, draft)
        accepted, token = (verifier or Lossless()).walk(tree, target[tree.tokens], sampler, [0])
        return [*(tree.tokens[node] for node in accepted[1:]), token]

    found = torch.zeros_like(plain)
    for chance, new in dice.ways(run):
        found[new[0]] += chance * (plain[new[0]] if len(new) == 1 else _one(new[1], len(plain)))
    return found


def _one(token: int, vocab: int) -> Tensor:
    found = torch.zeros(vocab, dtype=torch.float64)
    found[token] = 1
    return found


def distance(found: Tensor, target: Tensor, sampling: Sampling | None = None) -> float:
    """Total variation between a law of two tokens and the target's."""
    sampler = Sampler(sampling or Sampling(1.0))
    plain = torch.stack([sampler.law(row, ()) for row in target])
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    return float((found - plain[0][:, None] * plain).abs().sum() / 2)
