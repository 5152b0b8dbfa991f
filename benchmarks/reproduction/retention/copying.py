"""What the checks of retentions share: what is left of a copy and of a text without the entries.

Losses in nats per token, in bfloat16. A copy is a list of 64 words that stood near the start of a
text of 4,096 tokens, from the 9th token of its second copy on (from the 17th word where the first
16 are part of the prompt); a text is what follows a prompt, token by token. A figure is followed by
those it is the mean of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.reproduction.harness import Workbench, encode, load

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.evaluation.tasks.probes import copy_probe
from lengthwise.methods.base import Method

DTYPE = "bf16"
LENGTH = 4_096
WORDS_IN_PROMPT = 16
AFTER = 256
SEEDS = 3

Means = dict[str, Any]


def bench() -> Bench:
    """The bench of the embedded model."""
    return Bench(load(DTYPE))


@dataclass(frozen=True)
class Bench(Workbench):
    """What reads a prompt once and lets methods go on from there."""

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
            count = sequence.tokens_until_change() or len(ids)
            found.append(teacher_force(sequence, ids[at : at + count], count))
            at += count
        logits = torch.cat(found)[skip:].float()
        return round(float(F.cross_entropy(logits, torch.tensor(ids[skip:]))), 3)

    def cases(self, words: int, length: int = LENGTH) -> list[dict[str, Any]]:
        """Lists to be copied, SEEDS of them: ids of the prompt, whose end are the first `words` of
        the list again, and of the target, of which the first `skip` do not count."""
        found = []
        for seed in range(SEEDS):
            probes = copy_probe(self.document(), self.loaded.tokenizer, length, seed)
            probe = probes.probes[0]
            inside = encode(self.loaded, " " + " ".join(probe.answer.split()[:words]))
            cut = len(inside) if words else 0
            prompt = [*probes.context, *probe.suffix, *probe.target[:cut]]
            skip = 0 if words else probe.skip
            found.append({"prompt": prompt, "target": list(probe.target[cut:]), "skip": skip})
        return found

    def copies(
        self,
        methods: Mapping[str, Method | None],
        words: int,
        own: Mapping[str, Method] | None = None,
        length: int = LENGTH,
        under: Method | None = None,
    ) -> dict[str, Means]:
        """Copy losses over SEEDS, by name of a method; `own` read the text by themselves.

        under: what the text is read under for all others, where they want notes taken of it.
        """
        found: dict[str, list[float]] = {}
        for case in self.cases(words, length):
            prompt, target, skip = case["prompt"], case["target"], case["skip"]
            read = self.read(prompt, under)
            for name, method in methods.items():
                found.setdefault(name, []).append(self.after(read, method, target, skip))
            for name, method in (own or {}).items():
                loss = self.after(self.read(prompt, method), None, target, skip)
                found.setdefault(name, []).append(loss)
        return {name: means(losses) for name, losses in found.items()}


def means(losses: Seq[float]) -> Means:
    """The mean of losses, and what it is the mean of."""
    return {"mean": round(sum(losses) / len(losses), 3), "each": list(losses)}
