"""Tokenization counts: the authors' own replies scored by ours, and two little models that differ
in the direction from which their numbers are cut."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random

import torch
from benchmarks.reproduction.harness import Found, Note, check
from transformers import LlamaConfig, LlamaForCausalLM

from lengthwise.evaluation.tasks.benchmark import Sample
from lengthwise.evaluation.tasks.generated.addition import Addition, drawn
from lengthwise.training.fitting import fit_batches, padded_ids, written_loss

WAYS = ("l2r", "r2l", "single")
_PLUS, _EQUAL, _END = "+", "=", "."


@check({"digits": "", "replies": "d", "right": ".1f", "longer sums": "d", "right there": ".1f"})
def published(replies: Path, shots: int = 8) -> Iterator[Found]:
    """Percent right of the replies that the authors recorded (a file of their `results` folder),
    by how digits were grouped, and of sums that are longer than both numbers."""
    scorer, found = Addition(), defaultdict(list)
    csv.field_size_limit(1 << 30)
    with replies.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["num_shots"]) != shots:
                continue
            a, b, way = int(row["num1"]), int(row["num2"]), row["problem_number_format"]
            longer = len(str(a + b)) > max(len(str(a)), len(str(b)))
            facts = {"sum": a + b, "longer": longer}
            asked = Sample("", "", (str(a + b),), 20, facts=facts)
            found[way].append((scorer.score(way, row["response"], asked)["right"], longer))
    for way, scores in found.items():
        there = [right for right, longer in scores if longer]
        yield {
            "digits": way, "replies": len(scores),
            "right": 100 * statistics.fmean(right for right, _ in scores),
            "longer sums": len(there), "right there": 100 * statistics.fmean(there),
        }  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """How a model is trained; see `training/fitting.py`."""

    steps: int
    seed: int
    batch: int = 128
    lr: float = 1e-3
    clip: float = 1.0


@check(
    {"cut": "", "seed": "d", "right": ".1f", "as long": ".1f", "longer": ".1f", "tokens": ".2f"},
    wrong={"cut": "", "group": "d", "errors": ".1f"},
)
def directions(
    steps: int = 2500, group: int = 2, low: int = 3, high: int = 5, seeds: int = 1,
    count: int = 1000,
) -> Iterator[Found]:  # fmt: skip
    """Additions by a model of two layers after equal steps, its numbers cut into groups of `group`
    digits from the left, from the right, or digit by digit: percent right, of sums as long as the
    longer number, and of longer ones; tokens of an addition. `wrong`: the share of wrong sums whose
    first wrong group is the first, the second, ..."""
    names = [*_pieces(group), _PLUS, _EQUAL, _END]
    ids = {name: number for number, name in enumerate(names)}
    for way in WAYS:
        places: list[int] = []
        for seed in range(seeds):
            chance = Random(f"additions {seed}")
            pairs = [_pair(chance, low, high) for _ in range(steps * 64)]
            rows = [[ids[each] for each in _said(a, b, way, group)] for a, b in pairs]
            torch.manual_seed(seed)
            model = LlamaForCausalLM(LlamaConfig(
                vocab_size=len(names), hidden_size=128, intermediate_size=512,
                num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
                tie_word_embeddings=True, bos_token_id=None, eos_token_id=ids[_END],
            ))  # fmt: skip
            fit_batches(
                model,
                lambda batch, model=model: written_loss(  # type: ignore[misc]
                    model, batch, [row.index(ids[_EQUAL]) + 1 for row in batch]
                ),
                rows, Rates(steps, seed),
            )  # fmt: skip
            asked = [_pair(Random(f"asked {seed} {n}"), low, high) for n in range(count)]
            sums = _sums(model, [(a, b) for a, b in asked], way, group, names, ids)
            marks = [
                (said == _cut(a + b, way, group), len(str(a + b)) > max(len(str(a)), len(str(b))))
                for (a, b), said in zip(asked, sums, strict=True)
            ]
            yield {
                "cut": way, "seed": seed, "right": _share(marks),
                "as long": _share([each for each in marks if not each[1]]),
                "longer": _share([each for each in marks if each[1]]),
                "tokens": statistics.fmean(len(_said(a, b, way, group)) for a, b in asked),
            }  # fmt: skip
            for (a, b), said in zip(asked, sums, strict=True):
                right = _cut(a + b, way, group)
                differ = [x != y for x, y in zip(right, said, strict=False)]
                if said != right:
                    places.append(differ.index(True) if True in differ else len(differ))
        for place, alike in groupby(sorted(places)):
            share = 100 * len(list(alike)) / len(places)
            yield "wrong", {"cut": way, "group": place + 1, "errors": share}
    yield Note({"problems a model has seen": steps * 128})


def _share(marks: Sequence[tuple[bool, bool]]) -> float:
    return 100 * statistics.fmean(right for right, _ in marks)


def _pair(chance: Random, low: int, high: int) -> tuple[int, int]:
    return drawn(chance, chance.randint(low, high)), drawn(chance, chance.randint(low, high))


def _pieces(group: int) -> list[str]:
    """All that digits are cut into."""
    return [str(n).zfill(size) for size in range(1, group + 1) for n in range(10**size)]


def _cut(number: int, way: str, group: int) -> list[str]:
    digits, size = str(number), 1 if way == "single" else group
    first = len(digits) % size if way == "r2l" else 0
    cuts = [0, *range(first or size, len(digits), size), len(digits)]
    return [digits[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]


def _said(a: int, b: int, way: str, group: int) -> list[str]:
    return [*_asked(a, b, way, group), *_cut(a + b, way, group), _END]


def _asked(a: int, b: int, way: str, group: int) -> list[str]:
    return [*_cut(a, way, group), _PLUS, *_cut(b, way, group), _EQUAL]


@torch.inference_mode()
def _sums(
    model: LlamaForCausalLM, asked: Sequence[tuple[int, int]], way: str, group: int,
    names: Sequence[str], ids: dict[str, int],
) -> list[list[str]]:  # fmt: skip
    """What a model says to each, greedily; additions of one length go together."""
    prompts = [[ids[each] for each in _asked(a, b, way, group)] for a, b in asked]
    order = sorted(range(len(asked)), key=lambda n: len(prompts[n]))
    found: list[list[str]] = [[] for _ in asked]
    for _, alike in groupby(order, key=lambda n: len(prompts[n])):
        places = list(alike)
        rows = padded_ids([prompts[n] for n in places], torch.device("cpu"), 0)
        for _ in range(12):
            last = model(input_ids=rows, use_cache=False).logits[:, -1].argmax(-1)
            rows = torch.cat([rows, last[:, None]], 1)
        start = len(prompts[places[0]])
        for place, row in zip(places, rows[:, start:].tolist(), strict=True):
            said = [names[token] for token in row]
            found[place] = said[: said.index(_END)] if _END in said else said
    return found
