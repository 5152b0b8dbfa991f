"""Decoding behind 16,384 tokens with selections, against full attention.

python -m benchmarks.run selected
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq
from dataclasses import replace
from statistics import median

import torch

import lengthwise
from benchmarks.figures import Ours, Table, text_ids, timed
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling

LENGTH, ROOM, CHUNK = 16_384, 256, 1024
CODES = 256
GIVEN = (
    "tidal", "tidal(votes=all)", "act_qkv", "act_qkv(budget=1024, window=256)",
    f"a2ats(codes={CODES})", f"a2ats(codes={CODES}, share=0.01)", "quest", "infllm",
)  # fmt: skip
# Heads that keep different tokens have no entries to be given: these read the text themselves.
READING = ("lserve", "lserve(budget=1024)")
RECIPES = (*GIVEN, *READING)
# The prompt's last queries that are kept for plans that look at them.
REMEMBER = 128
# Steps of a round, and before the first.
STEPS, WARM = 4, 3


def selected(rounds: int) -> Table:
    """Tokens per second of one text under each recipe, in turn with full attention."""
    table = Table(
        "selected", f"Selections: decoding behind {LENGTH:,} tokens",
        f"Medians over {rounds} rounds of {STEPS} steps, each recipe in turn. The text is read "
        "once, by full attention; the others are given its entries, but for lserve.",
    )  # fmt: skip
    model = lengthwise.load()
    ids = text_ids(model, LENGTH)
    whole = Sequence(model.adapted, model.plan("full"), LENGTH + ROOM, remember=REMEMBER)
    logits = loop.prefill(whole, ids)
    requests = {name: begun(given(whole, model.plan(name)), logits) for name in GIVEN}
    requests |= {name: Ours(model, ids, name).request for name in READING}
    requests["full"] = begun(whole, logits)
    seconds: dict[str, list[float]] = {name: [] for name in requests}
    for turn in range(-1, rounds):
        for name, request in requests.items():
            steps = WARM if turn < 0 else STEPS
            took = [timed(lambda one=request: loop.step([one])) for _ in range(steps)]
            if turn >= 0:
                seconds[name] += took
    full = median(seconds["full"])
    for name in ("full", *RECIPES):
        each = median(seconds[name])
        table.rows.append({
            "recipe": name, "tokens_s": 1 / each, "full_tokens_s": 1 / full,
            "ratio": full / each, "held_mb": requests[name].sequence.nbytes() / 1e6,
        })  # fmt: skip
    return table


def begun(sequence: Sequence, logits: torch.Tensor) -> Request:
    request = loop.begin(sequence, Sampling(), 10**9, [])
    loop.start(request, logits)
    return request


def given(whole: Sequence, plan: Plan) -> Sequence:
    """A sequence under a plan that is given the entries of one that has read everything.

    What entries received while they were near is not known of them, and drawn at random.
    """
    sequence = Sequence(whole.model, plan, whole.expected)
    sequence.reading = len(whole)
    generator = torch.Generator().manual_seed(0)
    observation = sequence._observation
    # There are no queries to observe: what they would have given is drawn below.
    stride, observation.stride = observation.stride, 0
    for start, tokens in _chunks(whole):
        metadata = sequence.next_step(len(tokens))
        for layer, old in zip(sequence.layers, whole.layers, strict=True):
            tail = old.groups[0].near.tail
            assert tail is not None
            entries = tail.slice(start, start + len(tokens))
            entries = KVEntries(entries.key, entries.value, entries.index)
            if stride:
                mass = torch.rand(entries.key.shape[:2], generator=generator)
                entries = replace(entries, attention_mass=mass)
            layer.pending = entries
        sequence.commit(metadata, tokens)
    observation.stride = stride
    for layer, old in zip(sequence.layers, whole.layers, strict=True):
        queries = old.last_queries()
        if queries is not None and sequence.remembered:
            layer._remember(queries)
    return sequence


def _chunks(whole: Sequence) -> Iterator[tuple[int, Seq[int]]]:
    for start in range(0, len(whole), CHUNK):
        yield start, list(whole.tokens[start : start + CHUNK])


__all__ = ["selected"]
