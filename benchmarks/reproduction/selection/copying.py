"""Small checks of the selections on the real model.

    python -m benchmarks.checks.selection NAME... [LENGTH]

Prints one JSON line of figures a NAME, which is infllm, token_select, quest or hip; LENGTH is that
of the context in tokens (4096). The pages in docs/reproduction quote them. COPY is the mean loss of
64 repeated words in Python's own language reference (see `lengthwise.tasks.probes`), MASS the share
of the probability over far keys that falls on the selected ones. The dtype is what the machine is
fast at, and the line says which.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.entries import Entries, Segment
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.losses import Losses
from lengthwise.engine.placement import Placement
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.roles import Choice, Queries, Selector
from lengthwise.engine.sequence import Sequence
from lengthwise.methods.base import Method
from lengthwise.methods.selection.hip import HiP
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.methods.selection.quest import Pages, Quest
from lengthwise.methods.selection.reading import by_key_head, far_keys
from lengthwise.methods.selection.token_select import TokenSelect
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained
from lengthwise.models.probe import LayerFacts
from lengthwise.tasks.documents import read_document
from lengthwise.tasks.probes import ProbeSet, copy_probe

LENGTH = 4096
# Where TEXT begins, and of how many tokens one counts.
LATE, EVERY = 1536, 4


@cache
def setting(length: int) -> tuple[Adapted, ProbeSet]:
    """The embedded model and a copy probe in Python's language reference."""
    model, tokenizer, _ = load_pretrained()
    ids = tokenizer.encode(read_document().text, add_special_tokens=False)
    return adapt(model), copy_probe(ids, tokenizer, length)


def plan_of(method: Method, length: int) -> Plan:
    model, _ = setting(length)
    return Plan(str(method), None, method.placement(model) or Placement(), method.start_selector)


def recent(window: int) -> Plan:
    """Only the most recent tokens."""
    return Plan(f"recent {window}", None, Placement(window=window, keeps_far=False))


def copy_loss(plan: Plan | Method, length: int) -> float:
    """COPY under a plan, the second copy decoded token by token."""
    return copy_and_text(plan, length)[0]


def copy_and_text(plan: Plan | Method, length: int) -> list[float]:
    """COPY and TEXT under a plan."""
    model, probes = setting(length)
    (probe,) = probes.probes
    sequence = Sequence(model, plan_of(plan, length) if isinstance(plan, Method) else plan)
    read = Losses(EVERY)
    sequence.last_logits = prefill(sequence, probes.context, losses=read)
    sequence.end_prefill()
    tokens = [*probe.suffix, *probe.target]
    logits = teacher_force(sequence, tokens).float().log_softmax(-1)
    losses = -logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    copied = round(float(losses[len(probe.suffix) + probe.skip :].mean()), 3)
    late = [v for p, v in zip(read.positions, read.values, strict=True) if p >= LATE]
    return [copied, mean(late)] if late else [copied]


@dataclass
class _Watched:
    """A selection whose choice is measured and then ignored, so that what is measured is full."""

    inner: Selector
    layer: LayerFacts
    note: Callable[[int, Tensor, Tensor], None]

    @property
    def query_block(self) -> int | None:
        return self.inner.query_block

    @property
    def last_alone(self) -> bool:
        return self.inner.last_alone

    @property
    def wants_stat(self) -> int:
        return self.inner.wants_stat

    def extend(self, entries: Entries, far: Segment) -> None:
        self.inner.extend(entries, far)

    def tensors(self) -> list[Tensor | None]:
        return list(self.inner.tensors())

    def room(self, length: int, boundary: int) -> int | None:
        return self.inner.room(length, boundary)

    def plan(self, queries: Queries, far: Segment) -> Choice | None:
        choice = self.inner.plan(queries, far)
        if queries.decoding and choice is not None:
            key = far_keys(far)
            each = queries.far.shape[0] // key.shape[0]
            logits = torch.matmul(queries.far.float(), key.repeat_interleave(each, 0).float().mT)
            share = (logits[:, 0] * self.layer.scaling).softmax(-1)
            self.note(self.layer.index, share, choice.ids.expand(len(share), -1))
        return None


def masses(method: Method, length: int, blocks: int = 1) -> dict[str, list[float]]:
    """Per layer, over 32 decoding steps: MASS of the choice, of the exact best as many far tokens
    (in aligned runs of `blocks`), and of as many at random."""
    model, probes = setting(length)
    sums: dict[str, dict[int, float]] = {n: defaultdict(float) for n in ("mass", "best", "random")}
    counts: dict[int, int] = defaultdict(int)

    def note(layer: int, share: Tensor, ids: Tensor) -> None:
        counts[layer] += 1
        sums["mass"][layer] += float(share.gather(1, ids).sum(1).mean())
        whole = share.shape[1] // blocks * blocks
        runs = share[:, :whole].unflatten(1, (-1, blocks)).sum(-1)
        sums["best"][layer] += float(runs.topk(ids.shape[1] // blocks, -1).values.sum(1).mean())
        sums["random"][layer] += ids.shape[1] / share.shape[1]

    def watched(layer: LayerFacts) -> Selector | None:
        inner = method.start_selector(layer)
        return None if inner is None else _Watched(inner, layer, note)

    plan = Plan("watched", None, method.placement(model) or Placement(), watched)
    sequence = Sequence(model, plan)
    sequence.last_logits = prefill(sequence, probes.context)
    sequence.end_prefill()
    (probe,) = probes.probes
    teacher_force(sequence, [*probe.suffix, *probe.target][:32])
    return {
        name: [round(each[layer] / counts[layer], 3) for layer in sorted(counts)]
        for name, each in sums.items()
    }


def mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 3)


class _TruePages(Pages):
    """Pages chosen by their true largest logit, which the bound stands for."""

    def plan(self, queries: Queries, far: Segment) -> Choice | None:
        self.key = far_keys(far)
        return super().plan(queries, far)

    def scores(self, query: Tensor) -> Tensor:
        size = self.method.page
        key = self.key[:, : self.held // size * size]
        logits = torch.matmul(by_key_head(query[:, None], len(key)), key.mT)
        return logits.reshape(len(query), -1, size).amax(-1)


class _TrueQuest(Quest):
    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return None if layer.index < self.dense else _TruePages(self)


def infllm(length: int) -> dict[str, Any]:
    small = {n: InfLLM(budget=n, window=512, block=32) for n in (926, 702)}
    return {
        "full": copy_and_text(FULL, length),
        "default": copy_and_text(InfLLM(), length),
        "observe 1": copy_and_text(InfLLM(observe=1), length),
        **{f"window 512, blocks of 32, budget {n}": copy_and_text(small[n], length) for n in small},
    }


def token_select(length: int) -> dict[str, Any]:
    """Beside the default some of 64 first tokens: what is chosen counts, not what is first."""
    settings = {"default": TokenSelect()}
    for budget in (704, 1024, 2048):
        for block in (512, 128):
            method = TokenSelect(budget=budget, init=64, query_block=block)
            settings[f"budget {budget}, query_block {block}"] = method
    settings["budget 1024, reuse 0.9"] = TokenSelect(budget=1024, init=64, reuse=0.9)
    return {
        "full": copy_and_text(FULL, length),
        **{name: copy_and_text(each, length) for name, each in settings.items()},
        "recent 1024": copy_and_text(recent(1024), length),
    }


def quest(length: int) -> dict[str, Any]:
    pages = {n: masses(Quest(budget=512, page=n), length)["mass"] for n in (8, 16, 64)}
    return {
        "full": full_copy(length),
        "budget 512": copy_loss(Quest(budget=512), length),
        "budget 512, pages by their true largest logit": copy_loss(_TrueQuest(budget=512), length),
        "budget 1024": copy_loss(Quest(), length),
        "recent 512": copy_loss(recent(512), length),
        **{f"MASS page {n}": mean(found) for n, found in pages.items()},
    }


def hip(length: int) -> dict[str, Any]:
    settings = {
        "default": HiP(),
        "interval 1": HiP(interval=1),
        "interval 2": HiP(interval=2),
        "interval 64": HiP(interval=64),
        "interval 1, sample first": HiP(interval=1, sample="first"),
        "interval 1, dense 0": HiP(interval=1, dense=0),
    }
    for given in ({"interval": 1}, {}, {"sample": "first"}):
        method = HiP(budget=1024, block=4, init=64, **given)  # type: ignore[arg-type]
        settings[str(method)] = method
    found = {
        each: masses(HiP(dense=0, interval=1, sample=each), length, HiP().block)
        for each in ("middle", "first")
    }
    return {
        "full": copy_and_text(FULL, length),
        **{name: copy_and_text(each, length) for name, each in settings.items()},
        "MASS by layer": found["middle"]["mass"],
        "MASS by layer, sample first": found["first"]["mass"],
        "MASS of exact top blocks": found["middle"]["best"],
        "MASS of a random choice": found["middle"]["random"],
    }


@cache
def full_copy(length: int) -> float:
    return copy_loss(FULL, length)


CHECKS = {"infllm": infllm, "token_select": token_select, "quest": quest, "hip": hip}


def main(arguments: list[str]) -> int:
    numbers = [word for word in arguments if word.isdecimal()]
    names = [word for word in arguments if not word.isdecimal()]
    if not names or len(numbers) > 1 or not set(names) <= set(CHECKS):
        print(f"give some of {', '.join(CHECKS)}, and a length or nothing", file=sys.stderr)
        return 2
    length = int(numbers[0]) if numbers else LENGTH
    model, probes = setting(length)
    facts = {"dtype": str(model.dtype).removeprefix("torch."), "context": len(probes.context)}
    for name in names:
        print(json.dumps({"check": name, **facts, **CHECKS[name](length)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
