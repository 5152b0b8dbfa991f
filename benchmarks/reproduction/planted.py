"""The small checks of the position methods and streaming caches, on the real 135M model.

    python -m benchmarks.checks.positions NAME

prints one JSON line of losses in nats per token; NAME is one of CHECKS. Texts are read in
bfloat16. `last` is the mean loss of the last 2,048 tokens of a text (one in `EVERY`), `copy` of a
list of words that stood in the text, `needle` of a number planted at a depth. A copy or needle
counts only against the same question to a text in which nothing was planted (`unplanted`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.reproduction.book import moby_dick

from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import FULL
from lengthwise.engine.sequence import Sequence
from lengthwise.methods.base import Method
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.methods.positions.giraffe import Giraffe
from lengthwise.methods.positions.lm_infinite import LMInfinite
from lengthwise.methods.positions.ntk import NTK
from lengthwise.methods.positions.pi import PI
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.positions.yarn import YaRN
from lengthwise.methods.retention.sirllm import SirLLM
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained
from lengthwise.recipes import resolve
from lengthwise.tasks.documents import read_document
from lengthwise.tasks.probes import Probe, ProbeSet, probe_context

DTYPE = "bf16"
LONG, SHORT = 12_288, 2_048
LAST = 2_048
EVERY = 8
DEPTHS = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Bench:
    """The model, and token ids of the default document and of the book."""

    model: Adapted
    tokenizer: Any

    @cache  # noqa: B019 - one bench lives as long as the process
    def reference(self) -> list[int]:
        return self.tokenizer.encode(read_document().text, add_special_tokens=False)

    @cache  # noqa: B019
    def book(self) -> list[int]:
        return self.tokenizer.encode(moby_dick(), add_special_tokens=False)

    def probes(self, length: int) -> ProbeSet:
        return probe_context(self.reference(), self.tokenizer, length, DEPTHS)

    def read(
        self, method: Method | None, ids: Seq[int], every: int = EVERY
    ) -> tuple[Sequence, Losses]:
        """A sequence that has read ids (its prompt not ended), and its losses."""
        plan = FULL if method is None else resolve([method], self.model)
        sequence, losses = Sequence(self.model, plan, expected=len(ids) + 256), Losses(every)
        prefill(sequence, ids, losses=losses)
        return sequence, losses

    def ask(self, sequence: Sequence, probe: Probe) -> float:
        """Mean loss of a probe's answer after what the sequence has read."""
        asked = sequence.fork()
        prefill(asked, probe.suffix)
        asked.end_prefill()
        logits = teacher_force(asked, probe.target)[probe.skip :].float()
        return float(F.cross_entropy(logits, torch.tensor(probe.target[probe.skip :])))

    def look_back(self, method: Method | None, length: int) -> dict[str, float]:
        """Losses of a text of `length` tokens: its end, and what is asked about its past."""
        probes = self.probes(length)
        sequence, losses = self.read(method, probes.context)
        found = {"last": mean(losses, len(probes.context) - LAST)}
        return found | {p.name: round(self.ask(sequence, p), 3) for p in probes.probes}

    def unplanted(self, method: Method | None, length: int) -> dict[str, float]:
        probes = self.probes(length)
        sequence, _ = self.read(method, probes.control)
        return {p.name: round(self.ask(sequence, p), 3) for p in probes.probes}


class Figures(dict[str, Any]):
    """What a check found; each figure is shown as it comes, for a long run may be cut short."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        print(name, value, file=sys.stderr, flush=True)


def mean(losses: Losses, start: int, stop: int = 1 << 60) -> float:
    """Mean loss of the positions start to stop."""
    found = [v for p, v in zip(losses.positions, losses.values, strict=True) if start <= p < stop]
    return round(sum(found) / len(found), 3)


def extended(bench: Bench, *methods: Method) -> dict[str, Any]:
    """Each method and full attention beyond the trained length, and what it costs within it."""
    found = Figures()
    for method in (None, *methods):
        name, losses = str(method or "full"), bench.read(method, bench.reference()[:SHORT])[1]
        found[name] = {str(SHORT): mean(losses, 64), str(LONG): bench.look_back(method, LONG)}
    return found


def pi(bench: Bench) -> dict[str, Any]:
    return extended(bench, PI(factor=2))


def ntk(bench: Bench) -> dict[str, Any]:
    return extended(bench, NTK(factor=2))


def dynamic_ntk(bench: Bench) -> dict[str, Any]:
    return extended(bench, DynamicNTK(factor=2))


def yarn(bench: Bench) -> dict[str, Any]:
    return extended(bench, YaRN(factor=2), PI(factor=2))


def yarn_attention(bench: Bench) -> dict[str, Any]:
    """The paper's attention factor beside none and a larger one."""
    found = Figures()
    for attention in (None, 1.0, 1.15):
        method = YaRN(factor=2, attention=attention)
        losses = bench.read(method, bench.reference()[:SHORT])[1]
        found[str(method)] = {
            str(SHORT): mean(losses, 64),
            str(LONG): bench.look_back(method, LONG),
        }
    return found


def giraffe(bench: Bench) -> dict[str, Any]:
    trained = bench.model.trained_length
    return extended(
        bench, Giraffe(scale=2), Giraffe(truncate=trained), Giraffe(scale=2, truncate=trained)
    )


def giraffe_order(bench: Bench) -> dict[str, Any]:
    """Scaled, then truncated, as the authors do."""
    method = Giraffe(scale=2, truncate=bench.model.trained_length)
    losses = bench.read(method, bench.reference()[:SHORT])[1]
    return Figures({str(SHORT): mean(losses, 64), str(LONG): bench.look_back(method, LONG)})


def self_extend(bench: Bench) -> dict[str, Any]:
    return extended(bench, SelfExtend(group=4, window=1024))


def extension(bench: Bench) -> dict[str, Any]:
    """The six checks above in one run, which reads with full attention only once."""
    trained = bench.model.trained_length
    return extended(
        bench,
        PI(factor=2),
        NTK(factor=2),
        DynamicNTK(factor=2),
        YaRN(factor=2),
        Giraffe(truncate=trained),
        SelfExtend(group=4, window=1024),
    )


def lm_infinite(bench: Bench) -> dict[str, Any]:
    """As if the model were trained to 512 tokens: with its first tokens and without."""
    ids = bench.book()[:4096]
    found = {"full": mean(bench.read(None, ids, every=1)[1], 2048)}
    for sinks in (4, 0):
        method = LMInfinite(sinks=sinks, window=512, cap=512)
        found[str(method)] = mean(bench.read(method, ids, every=1)[1], 2048)
    return found


def lm_infinite_top_k(bench: Bench) -> dict[str, Any]:
    """What was planted in 4,096 tokens, asked through a window of 1,024 and re-admitted tokens."""
    plain = LMInfinite(window=1024)
    found = Figures({"unplanted": bench.unplanted(plain, 4096)})
    settings = [plain, *(LMInfinite(window=1024, top_k=k) for k in (5, 32))]
    settings += [LMInfinite(window=1024, top_k=5, top_k_at=at) for at in (256, 1024, 4096)]
    for method in settings:
        found[str(method)] = bench.look_back(method, 4096)
    found["full"] = bench.look_back(None, 4096)
    return found


def lm_infinite_book(bench: Bench, length: int = 16_384) -> dict[str, Any]:
    """The last 2,048 tokens of a book's first 16,384: LM-Infinite, stock attention over the 4,096
    tokens before them alone, and stock attention over everything. Every token counts."""
    ids = bench.book()[:length]
    found = Figures()
    sequence, losses = bench.read(LMInfinite(sinks=10, window=2048), ids, every=1)
    sequence.end_prefill()
    found["lm_infinite(window=2048)"] = mean(losses, length - LAST)
    early = Sequence(bench.model, sequence.plan)
    prefill(early, ids[:4096])
    early.end_prefill()
    found["kv_bytes"] = {"4096": early.nbytes(), str(length): sequence.nbytes()}
    found["kv_bytes_full"] = length * bench.model.bytes_per_token
    control = bench.read(None, ids[-LAST - 4096 :], every=1)[1]
    found["full, 4096 tokens before"] = mean(control, 4096)
    everything = bench.read(None, ids, every=1)[1]
    found["full, everything"] = mean(everything, length - LAST)
    found["by_position"] = {
        str(start): [mean(losses, start, start + LAST), mean(everything, start, start + LAST)]
        for start in range(0, length, LAST)
    }
    return found


def streaming(bench: Bench) -> dict[str, Any]:
    """20,000 tokens of the book through 512 tokens of cache, and what lies outside the window."""
    found = Figures()
    for sinks in (4, 0):
        method = Streaming(sinks=sinks, window=512 - sinks)
        losses = bench.read(method, bench.book()[:20_000])[1]
        found[str(method)] = {str(at): mean(losses, at, at + 4000) for at in range(0, 20_000, 4000)}
    method = Streaming(sinks=4, window=508)
    found["planted at 4096"] = bench.look_back(method, 4096)
    found["unplanted at 4096"] = bench.unplanted(method, 4096)
    return found


def sirllm(bench: Bench) -> dict[str, Any]:
    """Numbers planted in 4,096 tokens, 1,024 kept: the turn under way and surprising ones, with
    more recent ones, with the latest token alone, or recent ones only."""
    found = Figures(full=bench.look_back(None, 4096))
    for method in (
        SirLLM(),
        SirLLM(recent=0.35),
        SirLLM(turn=1),
        SirLLM(recent=1.0),
        Streaming(sinks=4, window=1020),
    ):
        found[str(method)] = bench.look_back(method, 4096)
    found["unplanted"] = bench.unplanted(SirLLM(), 4096)
    return found


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    check.__name__: check
    for check in (
        pi, ntk, dynamic_ntk, yarn, yarn_attention, giraffe, giraffe_order, self_extend, extension,
        lm_infinite, lm_infinite_top_k, lm_infinite_book, streaming, sirllm,
    )
}  # fmt: skip


def main(name: str) -> None:
    if name not in CHECKS:
        sys.exit(f"no check {name!r}: there are {', '.join(CHECKS)}")
    model, tokenizer, provenance = load_pretrained(dtype=DTYPE)
    figures = CHECKS[name](Bench(adapt(model), tokenizer))
    print(json.dumps({"check": name, "model": provenance.name, "dtype": DTYPE, **figures}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
