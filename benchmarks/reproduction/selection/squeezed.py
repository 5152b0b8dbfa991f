"""Squeezed Attention by the share of keys removed, beside random clusters and thresholds a head.

A document is read once. Then each question to it (numbers planted at five depths, NEEDLE, and a
list of words to repeat, COPY) is fed token by token, as behind a compressed session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence as Seq
from functools import cache
from statistics import median
from time import perf_counter

import torch
from benchmarks.reproduction.harness import Found, Note, Row, check, load, reference
from benchmarks.reproduction.selection.copying import COPY, LENGTH, mean
from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.evaluation.tasks.probes import ProbeSet, probe_context
from lengthwise.methods.selection.squeezed import ClusteredKeys, Level, Squeezed, level_of, quantile
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.recipes import resolve
from lengthwise.testing.drive import feed

DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
NEEDLE = "NEEDLE, nats"
READ, HELD = "keys read", "loaded"
READING: list[tuple[float, float]] = []
# Clusters by layer, number and what is clustered: those of one document, for all settings.
FOUND: dict[tuple[int, int, int], Level] = {}


class Counted(ClusteredKeys):
    """Notes, of the keys before the window, the share that query heads read and that is loaded."""

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        choice = super().plan(queries, far)
        read = held = 1.0
        if choice is not None and choice.mask is not None:
            read = float(choice.mask.sum(-1).float().mean()) / len(far)
            held = choice.ids.shape[1] / len(far)
        READING.append((read, held))
        return choice

    def cluster(self, points: Tensor, weights: Tensor, count: int) -> Level:
        key = (self.layer.index, count, points.shape[1])
        if key not in FOUND:
            FOUND[key] = super().cluster(points, weights, count)
        return FOUND[key]


class Shuffled(Counted):
    """Clusters of the sizes that were found, of keys at random."""

    def cluster(self, points: Tensor, weights: Tensor, count: int) -> Level:
        found = super().cluster(points, weights, count)
        generator = torch.Generator().manual_seed(self.layer.index)
        labels = found.labels.long()
        labels = labels[:, torch.randperm(labels.shape[1], generator=generator)]
        return level_of(points, weights, labels, count)


class ByHead(Counted):
    """A threshold for each head of each layer, all of which then read as much. One level."""

    def agree(self, layers: Seq[ClusteredKeys]) -> None:
        for each in layers:
            (observed,), (level,) = each.observed, each.levels
            rows = zip(observed, level.sizes_of(len(observed)), strict=True)
            bounds = [[quantile(*row, self.method.removed)] for row in rows]
            each.bounds, each.observed = (torch.tensor(bounds),), []  # type: ignore[assignment]


Kind = Callable[[Squeezed, LayerFacts], ClusteredKeys]


def settings(removed: float) -> Iterator[tuple[str, Squeezed, Kind]]:
    """What stands in the table: its name there, the method, and its selectors."""
    shares = (0.5, removed, 0.8, 0.9)
    for share in shares:
        yield f"`squeezed(removed={share:g})`", Squeezed(removed=share), Counted
    for share in (removed, max(shares)):
        flat = Squeezed(removed=share, levels=1)
        yield f"`{flat}`", flat, Counted
        yield f"`{flat}`, clusters of keys at random", flat, Shuffled
        yield f"`{flat}`, a threshold for each head", flat, ByHead


@cache
def read(context: tuple[int, ...]) -> Sequence:
    """A prompt that was read and has not ended."""
    model = load().adapted
    sequence = Sequence(model, resolve([Squeezed()], model))
    sequence.last_logits = prefill(sequence, context)
    return sequence


def losses(
    context: tuple[int, ...], probes: ProbeSet, method: Squeezed | None, kind: Kind = Counted
) -> dict[str, float]:
    """NEEDLE and COPY behind a context; method None reads everything."""
    sequence = read(context).fork()
    for layer, group in sequence.groups():
        group.selector = None if method is None else kind(method, layer.facts)
    sequence.end_prefill()
    asked = [[*probe.suffix, *probe.target] for probe in probes.probes]
    forks = [sequence.fork() for _ in asked]
    found: list[list[float]] = [[] for _ in asked]
    for at in range(max(map(len, asked)) - 1):
        live = [i for i, tokens in enumerate(asked) if at < len(tokens) - 1]
        logits = feed([(forks[i], asked[i][at : at + 1]) for i in live])
        for i, row in zip(live, logits, strict=True):
            found[i].append(-float(row[-1].float().log_softmax(-1)[asked[i][at + 1]]))
    answers = [
        sum(own[-(len(probe.target) - probe.skip) :]) / (len(probe.target) - probe.skip)
        for own, probe in zip(found, probes.probes, strict=True)
    ]
    return {NEEDLE: mean(answers[1:]), COPY: round(answers[0], 3)}


def found_row(name: str, probes: ProbeSet, method: Squeezed, kind: Kind) -> Row:
    """A row of the table."""
    READING.clear()
    found = losses(probes.context, probes, method, kind)
    seen, held = (round(sum(each) / len(READING), 3) for each in zip(*READING, strict=True))
    return {"what": name, **found, READ: seen, HELD: held}


@check({"what": "", NEEDLE: ".3f", COPY: ".3f", READ: ".3f", HELD: ".3f"})
def squeezed(length: int = LENGTH, removed: float = 0.7) -> Iterator[Found]:
    """Losses by the share of keys removed, and the share that was read of those before the window.

    Loaded is the share of keys that a key head has to give: those that any of its query heads
    reads, and as many as the key head that gives most.
    """
    model = load()
    probes = probe_context(reference(model), model.tokenizer, length, DEPTHS)
    for name, value in losses(probes.control, probes, None).items():
        yield Note({f"{name}, nothing planted": value})
    everything = losses(probes.context, probes, None)
    yield {"what": "full attention", **everything, READ: 1.0, HELD: 1.0}
    for name, method, kind in settings(removed):
        yield found_row(name, probes, method, kind)


@check({"what": "", NEEDLE: ".3f", COPY: ".3f", READ: ".3f", HELD: ".3f"})
def clusters(
    length: int = LENGTH, removed: float = 0.7, shares: tuple[float, ...] = (0.1, 0.25, 1.0)
) -> Iterator[Found]:
    """The same by the number of clusters. With one for every key S is the true probability."""
    model = load()
    probes = probe_context(reference(model), model.tokenizer, length, DEPTHS)
    for share in shares:
        method = Squeezed(removed=removed, clusters=share, levels=1)
        yield found_row(f"`{method}`", probes, method, Counted)


@check({"tokens": "", "reading, s": ".2f", "clustering, s": ".2f", "share": ".2f"})
def seconds(lengths: tuple[int, ...] = (2048, 4096, 8192), repeats: int = 3) -> Iterator[Found]:
    """Medians of the seconds that reading takes, and what the end of the prompt takes."""
    model, document = load().adapted, reference(load())
    for length in lengths:
        reading, ending = [], []
        for _ in range(repeats):
            sequence = Sequence(model, resolve([Squeezed()], model))
            start = perf_counter()
            prefill(sequence, document[:length])
            middle = perf_counter()
            sequence.end_prefill()
            reading.append(middle - start)
            ending.append(perf_counter() - middle)
        read_s, end_s = median(reading), median(ending)
        yield {"tokens": f"{length:,}", "reading, s": round(read_s, 2),
               "clustering, s": round(end_s, 2), "share": round(end_s / read_s, 2)}  # fmt: skip
