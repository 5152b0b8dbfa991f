"""cDPO: running sums of five numbers, modulo 40, in some of which one step went wrong.

The solution of `7 12 3 30 9` is `19 22 12 21`, a number a token, and an end. A wrong one has a step
that is off by 1 to 3, and goes on from it without a further mistake, so each of its other steps
is right. A tiny Llama learns from a mixture of both, and makes mistakes as it samples. Two copies
are tuned on right and on wrong solutions; pairs that neither saw are scored. Then policies go on
from the first model with DPO, plain and weighed, for as many steps, on the same pairs. float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, Note, check
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lengthwise.training.cdpo import Preference, Tuning, scored, train_policy, tuned

NUMBERS, TERMS = 40, 5
END = NUMBERS
SIZES = {
    "vocab_size": NUMBERS + 1, "hidden_size": 96, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
    "tie_word_embeddings": True, "max_position_embeddings": 32, "initializer_range": 0.08,
}  # fmt: skip
# Of the solutions that the first model learns from, those with a mistake.
WRONG = 0.4

Ids = tuple[int, ...]


def solution(prompt: Ids, chance: Random, wrong: int | None = None) -> Ids:
    """Running sums behind a prompt; the step `wrong`, counted from 0, is off by 1 to 3."""
    found, total = [], prompt[0]
    for step, term in enumerate(prompt[1:]):
        total = (total + term + (chance.randint(1, 3) if step == wrong else 0)) % NUMBERS
        found.append(total)
    return (*found, END)


def problems(count: int, seed: int) -> list[Ids]:
    chance = Random(seed)
    return [tuple(chance.randrange(NUMBERS) for _ in range(TERMS)) for _ in range(count)]


def first_model(steps: int, seed: int) -> PreTrainedModel:
    """A model that has learned from solutions of which some are wrong."""
    torch.manual_seed(seed)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    chance = Random(seed)
    texts = []
    for prompt in problems(20_000, seed):
        wrong = chance.randrange(TERMS - 1) if chance.random() < WRONG else None
        texts.append((prompt, solution(prompt, chance, wrong)))
    return tuned(made, texts, Tuning(steps=steps, batch=128, lr=3e-3, seed=seed))


@torch.no_grad()
def errors(model: PreTrainedModel, prompts: list[Ids], greedy: bool = False) -> float:
    """The share of problems whose solution, sampled at temperature 1, has a mistake."""
    noise = torch.Generator().manual_seed(0)
    ids = torch.tensor(prompts)
    for _ in range(TERMS):
        probs = model(ids, use_cache=False).logits[:, -1].softmax(-1)
        new = probs.argmax(-1, keepdim=True) if greedy else torch.multinomial(
            probs, 1, generator=noise)  # fmt: skip
        ids = torch.cat([ids, new], 1)
    right = torch.tensor([solution(each, Random(0)) for each in prompts])
    return float((ids[:, TERMS:] != right).any(1).float().mean())


@check(
    {"objective": "", "steps": ",", "seeds": "", "errors, sampled": ".1%", "lowest": ".1%",
     "highest": ".1%", "errors, greedy": ".1%"},
    critical={"step that went wrong": "", "pairs": ",", "argmin of s is that step": ".1%",
              "score there": ".3f", "score elsewhere": ".3f"},
)  # fmt: skip
def cdpo(
    seeds: int = 3, steps: tuple[int, ...] = (50, 150, 400), lr: float = 1e-4, learn: int = 3000
) -> Iterator[Found]:
    """How often the least score is that of the injected mistake, and what weighing brings."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    hits: dict[int, list[tuple[bool, float, float]]] = {n: [] for n in range(TERMS - 1)}
    test = problems(2000, 10_000)
    for seed in range(seeds):
        start = first_model(learn, seed)
        chance = Random(100 + seed)
        right, wrong = [], []
        for n, prompt in enumerate(problems(2000, 200 + seed)):
            right.append((prompt, solution(prompt, chance)))
            wrong.append((prompt, solution(prompt, chance, n % (TERMS - 1))))
        how = Tuning(steps=200, batch=64, lr=3e-4, seed=seed)
        positive, negative = tuned(start, right, how), tuned(start, wrong, how)
        pairs = [
            Preference(prompt, solution(prompt, chance),
                       solution(prompt, chance, n % (TERMS - 1)))
            for n, prompt in enumerate(problems(1000, 300 + seed))
        ]  # fmt: skip
        pairs = scored(positive, negative, pairs)
        for n, pair in enumerate(pairs):
            step, own = n % (TERMS - 1), pair.rejected_scores
            others = [score for at, score in enumerate(own) if at != step]
            hits[step].append((own.index(min(own)) == step, own[step], sum(others) / len(others)))
        found.setdefault(("none", 0), []).append((errors(start, test), errors(start, test, True)))
        for weights, name in (("none", "DPO"), ("rejected", "cDPO"), ("both", "cDPO, both sides")):
            for count in steps:
                policy = copy.deepcopy(start)
                train_policy(policy, pairs, Tuning(count, 32, lr, seed=seed, weights=weights))
                got = errors(policy, test), errors(policy, test, True)
                found.setdefault((name, count), []).append(got)
    for step, own in hits.items():
        yield "critical", {
            "step that went wrong": step + 1, "pairs": len(own),
            "argmin of s is that step": _mean([hit for hit, _, _ in own]),
            "score there": _mean([there for _, there, _ in own]),
            "score elsewhere": _mean([other for _, _, other in own]),
        }  # fmt: skip
    every = [hit for own in hits.values() for hit, _, _ in own]
    yield Note({"argmin of s is the mistake": _mean(every), "by chance": 1 / TERMS})
    for (name, count), rows in found.items():
        sampled = [each for each, _ in rows]
        yield {
            "objective": name, "steps": count, "seeds": len(rows),
            "errors, sampled": _mean(sampled), "lowest": min(sampled), "highest": max(sampled),
            "errors, greedy": _mean([greedy for _, greedy in rows]),
        }  # fmt: skip


def _mean(values: list[Any]) -> float:
    return sum(map(float, values)) / len(values)
