"""What the checks of selections share: a list of words copied from afar, and the mass of choices.

COPY is the mean loss of 64 repeated words in Python's own language reference (see
`lengthwise.evaluation.tasks.probes`), TEXT that of the reference itself from token 1,536 on, one in
four. MASS is the share of the probability over far keys that falls on the selected ones. The dtype
is what the machine is fast at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from benchmarks.reproduction.harness import Row, load, reference
from torch import Tensor

from lengthwise.api.model import Model
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import Plan
from lengthwise.evaluation.tasks.probes import ProbeSet, copy_probe
from lengthwise.methods.base import Method
from lengthwise.methods.selection.reading import far_keys
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

LENGTH = 4096
# Where TEXT begins, and of how many tokens one counts.
LATE, EVERY = 1536, 4
COPY, TEXT = "COPY, nats", "TEXT, nats"
COLUMNS = {"what": "", COPY: ".3f", TEXT: ".3f"}


@cache
def setting(
    length: int, opened: Model | None = None, seed: int = 0
) -> tuple[AdaptedModel, ProbeSet]:
    """A model, the embedded one for None, and a copy probe in Python's language reference.

    seed: of the list of words.
    """
    model = opened or load()
    return model.adapted, copy_probe(reference(model), model.tokenizer, length, seed)


def plan_of(method: Method, length: int) -> Plan:
    model, _ = setting(length)
    return Plan(
        str(method), None, method.placement(model) or Placement(), selector=method.selectors(model)
    )


def recent(window: int) -> Plan:
    """Only the most recent tokens."""
    return Plan(f"recent {window}", None, Placement(window=window, keeps_far=False))


def rows(plans: Mapping[str, Plan | Method], length: int, lists: int = 1) -> Iterator[Row]:
    """A row a plan: COPY, the second copy decoded token by token, and TEXT."""
    for name, plan in plans.items():
        copied, text = copy_and_text(plan, length, lists=lists)
        yield {"what": name, COPY: copied, TEXT: text}


def copy_and_text(
    plan: Plan | Method, length: int, opened: Model | None = None, lists: int = 1
) -> tuple[float, float | None]:
    """COPY and TEXT under a plan, means of so many lists of words, each in a reading of its own;
    no TEXT where the context ends before it begins."""
    found = [_copy_and_text(plan, length, opened, seed) for seed in range(lists)]
    late = [text for _, text in found if text is not None]
    return mean([copied for copied, _ in found]), mean(late) if late else None


def _copy_and_text(
    plan: Plan | Method, length: int, opened: Model | None, seed: int
) -> tuple[float, float | None]:
    model, probes = setting(length, opened, seed)
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
    return copied, mean(late) if late else None


@dataclass
class Watched:
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
    def wants_attention_mass(self) -> int:
        return self.inner.wants_attention_mass

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        self.inner.extend(entries, far)

    def tensors(self) -> list[Tensor | None]:
        return list(self.inner.tensors())

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        return self.inner.tokens_until_change(length, boundary)

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
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

    start = method.selectors(model)

    def watched(layer: LayerFacts) -> Selector | None:
        inner = start(layer)
        return None if inner is None else Watched(inner, layer, note)

    plan = Plan("watched", None, method.placement(model) or Placement(), selector=watched)
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
