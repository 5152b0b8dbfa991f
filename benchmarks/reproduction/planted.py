"""What checks of positions and of streaming caches share: a text in which something was planted.

Losses in nats per token, texts read in bfloat16. `text` is the mean loss of the last 2,048 tokens
of a text (one in `EVERY`), `list` of a list of 64 words that stood in it, `number` of a number
planted at a depth. A list or number counts only against the same question to a text in which
nothing was planted (`unplanted`).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

from benchmarks.reproduction.book import moby_dick
from benchmarks.reproduction.harness import Workbench, encode, load
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.losses import Losses
from lengthwise.evaluation.tasks.probes import Probe, ProbeSet, probe_context
from lengthwise.methods.base import Method

DTYPE = "bf16"
LAST = 2_048
EVERY = 8
DEPTHS = (0.1, 0.5, 0.9)
ASKED = ("list", *(f"number {depth}" for depth in DEPTHS))
PLANTED = {"text": ".3f", **dict.fromkeys(ASKED, ".3f")}


def bench() -> Bench:
    """The bench of the embedded model."""
    return Bench(load(DTYPE))


@dataclass(frozen=True)
class Bench(Workbench):
    """The model, and token ids of the default document and of the book."""

    @cache  # noqa: B019 - one bench lives as long as the process
    def book(self) -> list[int]:
        return encode(self.loaded, moby_dick())

    def probes(self, length: int) -> ProbeSet:
        return probe_context(self.document(), self.loaded.tokenizer, length, DEPTHS)

    def read(
        self, method: Method | None, ids: Seq[int], every: int = EVERY
    ) -> tuple[Sequence, Losses]:
        """A sequence that has read ids (its prompt not ended), and its losses."""
        plan = self.plan(method)
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
        found = {"text": mean(losses, len(probes.context) - LAST)}
        return found | self._asked(sequence, probes)

    def unplanted(self, method: Method | None, length: int) -> dict[str, float]:
        """What is asked about its past, of a text in which nothing was planted."""
        probes = self.probes(length)
        sequence, _ = self.read(method, probes.control)
        return self._asked(sequence, probes)

    def _asked(self, sequence: Sequence, probes: ProbeSet) -> dict[str, float]:
        """Losses of the list of words and of each number, by column."""
        return {
            column: round(self.ask(sequence, probe), 3)
            for column, probe in zip(ASKED, probes.probes, strict=True)
        }


def mean(losses: Losses, start: int, stop: int = 1 << 60) -> float:
    """Mean loss of the positions start to stop."""
    found = [v for p, v in zip(losses.positions, losses.values, strict=True) if start <= p < stop]
    return round(sum(found) / len(found), 3)
