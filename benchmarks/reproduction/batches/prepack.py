"""Prompts read in one forward against each read alone, and what padding would have computed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, load, reference
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.packed_prefill import bins, pack, read_together, waste

COLUMNS = {
    "batch": "", "prompts": "", "longest": "", "tokens": "", "padded": "", "waste": ".0%",
    "waste in rows": ".0%", "forwards": "", "logits off by": ".0e", "KV off by": ".0e",
}  # fmt: skip


def batches(seed: int) -> dict[str, list[int]]:
    """Lengths of the prompts of each batch."""
    drawn = random.Random(seed)
    return {
        "of one length": [64] * 16,
        "even": [drawn.randint(1, 128) for _ in range(16)],
        "skewed": [drawn.randint(8, 48) for _ in range(28)] + [512] * 4,
    }


def kept(sequence: Sequence) -> list[Tensor]:
    """Keys and values of every layer."""
    found = [group.near.read() for _, group in sequence.groups()]
    return [t for entries in found if entries is not None for t in (entries.key, entries.value)]


def off(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max())


@check(COLUMNS)
def prepack(dtype: str = "float32", seed: int = 0) -> Iterator[Found]:
    """Logits and all keys and values of prompts read together, against those of each alone."""
    model = load(dtype)
    text = reference(model)
    for name, lengths in batches(seed).items():
        starts = [97 * n for n in range(len(lengths))]
        prompts = [text[a : a + n] for a, n in zip(starts, lengths, strict=True)]
        pairs = [(Sequence(model.adapted, expected=len(p)), p) for p in prompts]
        forwards = bins(pairs)
        logits, stored = 0.0, 0.0
        for each in forwards:
            read_together([pairs[n] for n in each])
        for sequence, prompt in pairs:
            alone = Sequence(model.adapted, expected=len(prompt))
            right = loop.prefill(alone, prompt)
            assert sequence.last_logits is not None
            logits = max(logits, off(sequence.last_logits, right))
            both = zip(kept(sequence), kept(alone), strict=True)
            stored = max(stored, *(off(ours, theirs) for ours, theirs in both))
        longest = max(lengths)
        rows = len(pack(dict(enumerate(lengths)), longest))
        yield {
            "batch": name, "prompts": len(lengths), "longest": longest, "tokens": sum(lengths),
            "padded": len(lengths) * longest, "waste": waste(lengths),
            "waste in rows": 1 - sum(lengths) / (rows * longest), "forwards": len(forwards),
            "logits off by": logits, "KV off by": stored,
        }  # fmt: skip
