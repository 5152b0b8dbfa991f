"""The small checks of SnapKV, PyramidKV, H2O and RazorAttention, on the real 135M model.

    python -m benchmarks.checks.retention NAME

prints one JSON line of losses in nats per token, in bfloat16; NAME is one of CHECKS. `copy` is the
loss of a list of 64 words that stood near the start of a text of 4,096 tokens, from the 9th token
of its second copy on (from the 17th word where the first 16 are part of the prompt). `text` is the
loss of what follows a prompt, token by token. `bytes` is what is held of the prompt, as a share of
what full holds. A figure is followed by those it is the mean of.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.calibration import calibrate_retrieval_heads
from lengthwise.engine.entries import Entries
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.sequence import Sequence
from lengthwise.methods.base import Budget, Method, option
from lengthwise.methods.retention.h2o import H2O, _HeavyHitters
from lengthwise.methods.retention.pyramidkv import PyramidKV
from lengthwise.methods.retention.razor import Razor, _Razor, choose_heads
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained
from lengthwise.recipes import resolve
from lengthwise.tasks.documents import read_document
from lengthwise.tasks.probes import copy_probe

DTYPE = "bf16"
LENGTH = 4_096
WORDS_IN_PROMPT = 16
AFTER = 256
SEEDS = 3


@dataclass(frozen=True)
class RandomEviction(H2O):
    """H2O whose heavy hitters are drawn by lot."""

    name: ClassVar[str] = "random"

    def start_retention(self, model: Adapted) -> _HeavyHitters:
        return _RandomHitters(self)


class _RandomHitters(_HeavyHitters):
    def __init__(self, method: H2O) -> None:
        super().__init__(method)
        self.generator = torch.Generator().manual_seed(0)

    def _score(self, entries: Entries, seen: int) -> Tensor:
        return torch.rand(entries.key.shape[:2], generator=self.generator)


@dataclass(frozen=True)
class GivenHeads(Razor):
    """RazorAttention with a table of its own; `label` is what its figures are printed under."""

    name: ClassVar[str] = "given_heads"
    table: str = option("", "numbers of the key heads that keep everything")
    label: str = option("", "its name")

    def start_retention(self, model: Adapted) -> _Razor:
        state = _Razor(self, model)
        flat = torch.zeros(sum(len(row) for row in state.table.values()), dtype=torch.bool)
        flat[[int(number) for number in self.table.split()]] = True
        rows = flat.split([len(row) for row in state.table.values()])
        state.table = dict(zip(state.table, rows, strict=True))
        return state


def label(method: Method | None) -> str:
    return method.label if isinstance(method, GivenHeads) else str(method or "full")


@dataclass(frozen=True)
class Bench:
    """The model, and token ids of the default document."""

    model: Adapted
    tokenizer: Any

    @cache  # noqa: B019 - one bench lives as long as the process
    def document(self) -> list[int]:
        return self.tokenizer.encode(read_document().text, add_special_tokens=False)

    def plan(self, method: Method | None) -> Plan:
        return FULL if method is None else resolve([method], self.model)

    def read(self, ids: Seq[int], method: Method | None = None) -> Sequence:
        """What has read ids, its prompt not ended; a fork may take on SnapKV and its kin."""
        sequence = Sequence(self.model, self.plan(method), remember=64)
        prefill(sequence, ids)
        return sequence

    def after(self, read: Sequence, method: Method | None, ids: Seq[int], skip: int) -> float:
        """Loss of ids from `skip` on, after a prompt that the method has seen to."""
        sequence = read.fork(self.plan(method)) if method is not None else read.fork()
        sequence.end_prefill()
        found, at = [], 0
        while at < len(ids):
            # As many at once as decoding would commit before anything more is dropped.
            count = sequence.room() or len(ids)
            found.append(teacher_force(sequence, ids[at : at + count], count))
            at += count
        logits = torch.cat(found)[skip:].float()
        return round(float(F.cross_entropy(logits, torch.tensor(ids[skip:]))), 3)

    def copies(
        self,
        methods: Seq[Method | None],
        words: int,
        own: Seq[Method] = (),
        length: int = LENGTH,
    ) -> dict[str, Any]:
        """Mean copy loss over SEEDS, by method; `own` read the text by themselves."""
        found: dict[str, list[float]] = {}
        for seed in range(SEEDS):
            probes = copy_probe(self.document(), self.tokenizer, length, seed)
            probe = probes.probes[0]
            inside = self.tokenizer.encode(
                " " + " ".join(probe.answer.split()[:words]), add_special_tokens=False
            )
            cut = len(inside) if words else 0
            prompt = [*probes.context, *probe.suffix, *probe.target[:cut]]
            target, skip = list(probe.target[cut:]), 0 if words else probe.skip
            read = self.read(prompt)
            for method in methods:
                loss = self.after(read, method, target, skip)
                found.setdefault(label(method), []).append(loss)
            for method in own:
                loss = self.after(self.read(prompt, method), None, target, skip)
                found.setdefault(label(method), []).append(loss)
        return {name: [round(sum(x) / len(x), 3), x] for name, x in found.items()}


def snapkv(bench: Bench) -> dict[str, Any]:
    """The paper's setting, a window of 8 and the code's own defaults, at three budgets, where the
    first words of the second copy are in the voting window, and where they are not."""
    methods: list[Method | None] = [None]
    for cap in (512, 1024, 2048):
        budget = Budget(cap)
        methods += [
            SnapKV(budget=budget), SnapKV(budget=budget, window=8),
            SnapKV(budget=budget, kernel=5, pooling="avg"), PyramidKV(budget=budget),
        ]  # fmt: skip
    recency = [Streaming(sinks=4, window=508)]
    return {
        "copy, 16 words in the window": bench.copies(methods, WORDS_IN_PROMPT, recency),
        "copy, no word in the window": bench.copies(methods[:3], 0),
    }


def snapkv_settings(bench: Bench) -> dict[str, Any]:
    """How many queries vote, and how far a vote spreads, at 512 tokens."""
    budget = Budget(512)
    methods = [SnapKV(budget=budget, window=w) for w in (1, 2, 4, 16, 64)]
    methods += [SnapKV(budget=budget, window=8, kernel=k) for k in (1, 5, 15, 31)]
    methods += [SnapKV(budget=budget, kernel=k) for k in (15, 31, 63)]
    methods += [SnapKV(budget=budget, window=8, pooling="avg")]
    return {"copy, 16 words in the window": bench.copies(methods, WORDS_IN_PROMPT)}


def snapkv_grid(bench: Bench) -> dict[str, Any]:
    """Windows and kernels at several budgets, for the best known settings."""
    methods: list[Method] = []
    for cap in (256, 512, 1024):
        budget = Budget(cap)
        methods += [SnapKV(budget=budget, window=w, kernel=k) for w in (8, 16) for k in (15, 31)]
        methods += [PyramidKV(budget=budget, kernel=k) for k in (15, 31)]
    return {"copy, 16 words in the window": bench.copies(methods, WORDS_IN_PROMPT)}


def pyramidkv(bench: Bench) -> dict[str, Any]:
    """The paper's budgets, beside SnapKV with its own window and with PyramidKV's."""
    methods: list[Method] = []
    for cap in (64, 96, 128, 256, 512, 2048):
        budget = Budget(cap)
        methods += [
            SnapKV(budget=budget), SnapKV(budget=budget, window=8), PyramidKV(budget=budget),
            PyramidKV(budget=budget, window=32), PyramidKV(budget=budget, beta=2),
        ]  # fmt: skip
    return {"copy, 16 words in the window": bench.copies(methods, WORDS_IN_PROMPT)}


def h2o(bench: Bench) -> dict[str, Any]:
    """A fifth of a prompt of 2,048 tokens, and the 256 tokens that follow it; 6 places."""
    methods = [
        None, H2O(), H2O(normalise=True), H2O(recent=0.75), H2O(recent=1.0), RandomEviction(),
        Streaming(sinks=4, window=406),
    ]  # fmt: skip
    found: dict[str, list[float]] = {}
    for start in range(0, 60_000, 10_000):
        ids = bench.document()[start : start + 2048 + AFTER]
        for method in methods:
            loss = bench.after(bench.read(ids[:2048], method), None, ids[2048:], 0)
            found.setdefault(label(method), []).append(loss)
    return {name: [round(sum(x) / len(x), 3), x] for name, x in found.items()}


def razor(bench: Bench) -> dict[str, Any]:
    """15% of the heads by score or by lot, the rest with 256 tokens, compensated or not."""
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    lot = " ".join(map(str, order[:14].tolist()))
    methods: list[Method | None] = [None]
    for on in (True, False):
        plain = Razor(buffer=256, share=0.0, compensate=on)
        name = f"by lot, compensate={on}".lower()
        methods += [plain, GivenHeads(buffer=256, share=0.0, compensate=on, table=lot, label=name)]
    text: dict[str, list[float]] = {}
    for start in (0, 20_000):
        ids = bench.document()[start : start + LENGTH + AFTER]
        read = bench.read(ids[:LENGTH])
        for method in methods:
            loss = bench.after(read, method, ids[LENGTH:], 0)
            text.setdefault(label(method), []).append(loss)
    sequence = read.fork(bench.plan(methods[1]))
    sequence.end_prefill()
    return {
        "copy": bench.copies(methods, 0),
        "text": {name: [round(sum(x) / len(x), 3), x] for name, x in text.items()},
        "bytes": round(sequence.nbytes() / (LENGTH * bench.model.bytes_per_token), 3),
    }


def razor_paper(bench: Bench) -> dict[str, Any]:
    """The paper's buffer of 4,000 tokens, which takes a longer text; beside a small one."""
    methods = [None, Razor(), Razor(compensate=False), Razor(buffer=256, compensate=False)]
    return {"copy over 7,936 tokens": bench.copies(methods, 0, length=7_936)}


def razor_heads(bench: Bench) -> dict[str, Any]:
    """Heads found on repeats of several lengths: how concentrated scores are, what they copy."""
    found: dict[str, Any] = {}
    methods: list[Method] = []
    for length, repeats in ((512, 4), (1000, 4), (2047, 4), (2500, 2)):
        scores = calibrate_retrieval_heads(bench.model, length=length, repeats=repeats)
        echo, induction = (torch.tensor(scores[name]).flatten() for name in ("echo", "induction"))
        heads = choose_heads(echo, induction, 0.15).nonzero()[:, 0].tolist()
        name = f"{length} tokens, {repeats} times"
        found[name] = {
            "share of induction in the top 14 of 90": round(share(induction, 14), 3),
            "share of echo in the top 14 of 90": round(share(echo, 14), 3),
            "heads": heads,
        }
        table = " ".join(map(str, heads))
        methods.append(GivenHeads(buffer=256, share=0.0, table=table, label=name))
    return {"scores": found, "copy": bench.copies(methods, 0)}


def share(scores: Tensor, count: int) -> float:
    return float(scores.topk(count).values.sum() / scores.sum())


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    check.__name__: check
    for check in (
        snapkv,
        snapkv_settings,
        snapkv_grid,
        pyramidkv,
        h2o,
        razor,
        razor_paper,
        razor_heads,
    )  # fmt: skip
}


def main(name: str) -> None:
    if name not in CHECKS:
        sys.exit(f"no check {name!r}: there are {', '.join(CHECKS)}")
    model, tokenizer, provenance = load_pretrained(dtype=DTYPE)
    bench = Bench(adapt(model), tokenizer)
    figures = CHECKS[name](bench)
    print(json.dumps({"check": name, "model": provenance.name, "dtype": DTYPE, **figures}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
