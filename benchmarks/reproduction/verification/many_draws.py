"""The law of what verifiers say, by many draws, and what trees of draws bring on the real model.

    python -m benchmarks.checks.verifiers law [DRAWS [SEED]]
    python -m benchmarks.checks.verifiers rsd

Each prints one JSON line. `law`: chi-square over a small vocabulary; for each verifier the p of the
next two tokens' counts against the target's law (temperature 0.8, top-p 0.95 of 8 tokens), tokens a
round, and, for guesses that share the target's noise, whether every text was that of plain
sampling. `typical` is lossy and must fail. `bonus` is the lossless match with a fault, a new draw
where nothing matched, and must fail too. `rsd`: tokens a round of chains and trees that four fifths
of the default model's layers draw, four levels deep, over three prompts of 64 new tokens at
temperature 0.8, top-p 0.95, in float32; greedy as well, where `equal` says that the text is that of
plain decoding.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.plan import Plan
from lengthwise.engine.policy import Fixed
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import DRAWN, Sampler, Sampling
from lengthwise.engine.sequence import Sequence as Context
from lengthwise.engine.tree import Tree
from lengthwise.engine.verify import Lossless, Verifier
from lengthwise.methods.drafting.layers import Layers
from lengthwise.methods.drafting.rsd import RSD, RSDDrafter
from lengthwise.methods.drafting.typical import Typical, TypicalVerifier
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained

VOCAB = 8
DRAWS = 50_000
SAMPLING = Sampling(0.8, top_p=0.95)

NEW = 64
PROMPTS = (
    "List eight facts about the sea.",
    "Write a Python function that merges two sorted lists, and explain it.",
    "Tell me a short story about a lighthouse keeper.",
)
SHAPES = {
    "chain": RSD(width=1),
    "RSD-S, width 2": RSD(width=2),
    "RSD-S, width 4": RSD(width=4),
    "RSD-C, 2,2,1,1": RSD(kind="constant", branching="2,2,1,1"),
    "RSD-C, 4,1,1,1": RSD(kind="constant", branching="4,1,1,1"),
}

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
    """A sampler that takes the law of the same logits once. base: added to every position of
    noise."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self.base = 0
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
            self._laws[key] = super().law(logits, context)
        return self._laws[key]

    def _generator(self, position: int, stream: int) -> np.random.Generator:
        return super()._generator(self.base + position, stream)


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
        law = sampler.law(pair.draft[tree.tokens[node]], ())
        node = tree.add(node, int(sampler.perturbed(law, known + depth).argmax()))


def _drawn(
    tree: Tree, node: int, position: int, count: int, pair: Pair, sampler: Sampler
) -> list[int]:
    law = sampler.law(pair.draft[tree.tokens[node]], ())
    values, tokens = sampler.perturbed(law, position, DRAWN + node).topk(count)
    tokens = tokens[values > -torch.inf]
    return tree.draw(node, tokens.tolist(), law, "draft", [0] * len(tokens))


class Bonus(Lossless):
    """Throws away the choice that matched no guess, and draws another."""

    def walk(
        self, tree: Tree, logits: Tensor, sampler: Sampler, context: list[int]
    ) -> tuple[list[int], int]:
        accepted, _ = super().walk(tree, logits, sampler, context)
        law = sampler.law(logits[accepted[-1]], context)
        return accepted, sampler.draw(law, 10**7 + len(accepted))


VERIFIERS: dict[str, tuple[Drafting, Verifier]] = {
    "match": (guessed, Lossless()),
    "chain": (chain, Lossless()),
    "tree": (drawn, Lossless()),
    "coupled": (coupled, Lossless()),
    "typical": (guessed, TypicalVerifier(Typical())),
    "bonus": (guessed, Bonus()),
}


def check(name: str, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """p, tokens a round and equality with plain sampling of one verifier.

    Every draw is one round behind token 0, with the noise of places of its own, followed by a plain
    draw where the round said a single token.
    """
    pair = Pair.of(seed)
    drafting, verifier = VERIFIERS[name]
    sampler = Quick(replace(SAMPLING, seed=seed))
    counts = torch.zeros(VOCAB, VOCAB, dtype=torch.float64)
    said, equal, context = 0, True, [0]
    for draw in range(draws):
        sampler.base = 4 * draw
        tree = Tree(0)
        drafting(tree, pair, sampler, len(context))
        accepted, token = verifier.walk(tree, pair.target[tree.tokens], sampler, context)
        new = [*(tree.tokens[node] for node in accepted[1:]), token]
        said += len(new)
        if len(new) < 2:
            new.append(sampler.choose(pair.target[new[0]], [*context, new[0]]))
        if name == "coupled":
            first = sampler.choose(pair.target[0], context)
            equal &= new[:2] == [first, sampler.choose(pair.target[first], [*context, first])]
        counts[new[0], new[1]] += 1
    law = torch.stack([sampler.law(row, ()) for row in pair.target])
    found: dict[str, Any] = {"p": chi_square(law[0][:, None] * law, counts), "tokens": said / draws}
    return {**found, "equal": equal} if name == "coupled" else found


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


def law(draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """The check of every verifier."""
    found = {name: check(name, draws, seed) for name in VERIFIERS}
    return {"check": "law", "draws": draws, "seed": seed, "vocabulary": VOCAB, **found}


def rsd() -> dict[str, Any]:
    """Tokens a round by shape, and guesses verified a round."""
    model, tokenizer, _ = load_pretrained(dtype="float32")
    adapted = adapt(model)
    found: dict[str, Any] = {"check": "rsd", "new": NEW}
    for name, options in SHAPES.items():
        for kind, sampling in {"sampled": replace(SAMPLING, seed=1), "greedy": Sampling()}.items():
            rows = []
            for prompt in PROMPTS:
                talk = [{"role": "user", "content": prompt}]
                text = tokenizer.apply_chat_template(
                    talk, add_generation_prompt=True, tokenize=False
                )
                ids = tokenizer.encode(text, add_special_tokens=False)
                drafted, plain = (_generate(adapted, ids, o, sampling) for o in (options, None))
                rows.append((drafted.ledger, drafted.output == plain.output))
            steps = sum(ledger.steps for ledger, _ in rows)
            row = {
                "tokens_a_round": round(sum(ledger.decoded for ledger, _ in rows) / steps, 2),
                "guesses_a_round": round(sum(ledger.drafted for ledger, _ in rows) / steps, 1),
            }
            if kind == "greedy":
                row["equal"] = all(equal for _, equal in rows)
            found.setdefault(name, {})[kind] = row
    return found


def _generate(model: Adapted, ids: Sequence[int], options: RSD | None, how: Sampling) -> Request:
    def start() -> RSDDrafter:
        assert options is not None
        return RSDDrafter(options, Layers().start_drafter(model))

    sequence = Context(model, Plan(drafters=(start,) if options is not None else ()))
    request = loop.begin(sequence, how, NEW, ())
    loop.start(request, loop.prefill(sequence, ids))
    for _ in loop.run(request, Fixed()):
        pass
    assert not request.ledger.notes, request.ledger.notes
    return request


CHECKS: dict[str, Callable[..., dict[str, Any]]] = {"law": law, "rsd": rsd}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"name one of {', '.join(CHECKS)}")
    print(json.dumps(CHECKS[sys.argv[1]](*map(int, sys.argv[2:]))))
