"""The distribution of what a verifier says, by running it once for every way that it can go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence as Seq

import pytest
import torch
from torch import Tensor

from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless, Verifier


class Dice:
    """Choices that are all tried, one after the other: `ways` runs something once for each way."""

    def __init__(self) -> None:
        self._script: list[int] = []
        self._made: list[tuple[int, list[float]]] = []

    def choose(self, probs: Seq[float]) -> int:
        """One of several things of these probabilities."""
        at = len(self._made)
        choice = self._script[at] if at < len(self._script) else self._next(probs, 0)
        self._made.append((choice, list(probs)))
        return choice

    def ways(self, run: Callable[[], list[int]]) -> Iterator[tuple[float, list[int]]]:
        """Every way a run can go: its probability, and what it returns."""
        self._script = []
        while True:
            self._made = []
            found = run()
            prob = 1.0
            for choice, probs in self._made:
                prob *= probs[choice]
            yield prob, found
            while self._made:
                choice, probs = self._made.pop()
                further = self._next(probs, choice + 1)
                if further < len(probs):
                    self._script = [*(made for made, _ in self._made), further]
                    break
            else:
                return

    @staticmethod
    def _next(probs: Seq[float], start: int) -> int:
        return next((n for n in range(start, len(probs)) if probs[n] > 0), len(probs))


class Uniform:
    """A uniform number of which it is only ever asked whether it lies below p / q."""

    def __init__(self, dice: Dice, q: float = 1.0) -> None:
        self.dice, self.q = dice, q

    def __mul__(self, q: Tensor) -> Uniform:
        return Uniform(self.dice, float(q))

    def __lt__(self, p: Tensor) -> bool:
        prob = min(1.0, float(p) / self.q)
        return self.dice.choose([1 - prob, prob]) == 1


class Loaded(Sampler):
    """A sampler whose draws and uniforms are choices of the dice."""

    def __init__(self, sampling: Sampling, dice: Dice) -> None:
        super().__init__(sampling)
        self.dice = dice

    def draw(self, probs: Tensor, position: int) -> int:
        return self.dice.choose(probs.tolist())

    def choose(self, logits: Tensor, context: Seq[int]) -> int:
        return self.dice.choose(self.probs(logits, context).tolist())

    def uniform(self, position: int, number: int) -> Uniform:  # type: ignore[override]
        return Uniform(self.dice)


def pair(vocab: int, seed: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """Logits `[vocab, vocab]` of the next token by the last, of a target and of a draft."""
    noise = torch.Generator().manual_seed(seed)
    target, draft = (spread * torch.randn(2, vocab, vocab, generator=noise)).unbind()
    return target, 0.5 * target + draft


def without_replacement(dice: Dice, probs: Tensor, count: int) -> list[int]:
    found, left = [], probs.clone()
    while len(found) < count and left.sum() > 0:
        found.append(dice.choose((left / left.sum()).tolist()))
        left[found[-1]] = 0
    return found


Drafting = Callable[[Tree, Loaded, Tensor], None]


def probs_of(
    drafting: Drafting,
    logits: tuple[Tensor, Tensor],
    verifier: Verifier | None = None,
    sampling: Sampling | None = None,
) -> Tensor:
    """The distribution `[vocab, vocab]` of the first two tokens: what a round says behind token 0,
    with a plain draw behind where it says but one."""
    target, draft = logits
    dice = Dice()
    sampler = Loaded(sampling or Sampling(1.0), dice)
    plain = torch.stack([sampler.probs(row, ()) for row in target])

    def run() -> list[int]:
        tree = Tree(0)
        drafting(tree, sampler, draft)
        accepted, token = (verifier or Lossless()).walk(tree, target[tree.tokens], sampler, [0])
        return [*(tree.tokens[node] for node in accepted[1:]), token]

    found = torch.zeros_like(plain)
    for prob, new in dice.ways(run):
        found[new[0]] += prob * (plain[new[0]] if len(new) == 1 else _one(new[1], len(plain)))
    return found


def _one(token: int, vocab: int) -> Tensor:
    found = torch.zeros(vocab, dtype=torch.float64)
    found[token] = 1
    return found


def distance(found: Tensor, target: Tensor, sampling: Sampling | None = None) -> float:
    """Total variation between a distribution of two tokens and the target's."""
    sampler = Sampler(sampling or Sampling(1.0))
    plain = torch.stack([sampler.probs(row, ()) for row in target])
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    return float((found - plain[0][:, None] * plain).abs().sum() / 2)
