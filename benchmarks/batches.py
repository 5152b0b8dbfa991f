"""Reading a batch of prompts of very unequal lengths: together, in turn, padded, and packed."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

import lengthwise
from benchmarks.figures import Table, text_ids, timed
from lengthwise.api.model import Model
from lengthwise.engine.packed_prefill import pack, waste
from lengthwise.models.load import load_pretrained

# Many short prompts and few long ones, as chats beside documents.
SHORT, LONG = (28, 8, 48), (4, 512)


def skewed(model: Model) -> list[list[int]]:
    """Prompts of a skewed batch, the long ones among the short."""
    drawn, text = random.Random(0), text_ids(model, 8192)
    count, low, high = SHORT
    lengths = [drawn.randint(low, high) for _ in range(count)] + [LONG[1]] * LONG[0]
    drawn.shuffle(lengths)
    starts = [drawn.randrange(len(text) - LONG[1]) for _ in lengths]
    return [text[start : start + length] for start, length in zip(starts, lengths, strict=True)]


class Stock:
    """transformers' ways to read a batch; each gives the first token of every prompt."""

    def __init__(self, model: Any, prompts: list[list[int]]) -> None:
        self.model, self.prompts = model, prompts
        self.longest = max(map(len, prompts))

    @torch.no_grad()
    def padded(self) -> list[int]:
        """Padded on the left, with a mask."""
        rows = [[0] * (self.longest - len(p)) + p for p in self.prompts]
        mask = torch.tensor([[0] * (self.longest - len(p)) + [1] * len(p) for p in self.prompts])
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        out = self.model(
            torch.tensor(rows), attention_mask=mask, position_ids=positions, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        return [int(token) for token in out.logits[:, -1].argmax(-1)]

    @torch.no_grad()
    def in_turn(self) -> list[int]:
        return [
            int(self.model(torch.tensor([p]), use_cache=True, logits_to_keep=1).logits[0, -1]
                .argmax())
            for p in self.prompts
        ]  # fmt: skip

    @torch.no_grad()
    def packed(self) -> list[int]:
        """The paper's way: rows as long as the longest prompt, a mask of blocks, positions that
        begin again. What it keeps is not taken apart here."""
        rows = pack({n: len(p) for n, p in enumerate(self.prompts)}, self.longest)
        shape = len(rows), self.longest
        ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        owner = torch.full(shape, -1)
        last = [(0, 0)] * len(self.prompts)
        for row, numbers in enumerate(rows):
            start = 0
            for n in numbers:
                stop = start + len(self.prompts[n])
                ids[row, start:stop] = torch.tensor(self.prompts[n])
                positions[row, start:stop] = torch.arange(stop - start)
                owner[row, start:stop] = n
                start, last[n] = stop, (row, stop - 1)
        causal = torch.ones(self.longest, self.longest, dtype=torch.bool).tril()
        mask = ((owner[:, :, None] == owner[:, None]) & causal)[:, None]
        out = self.model.model(ids, attention_mask=mask, position_ids=positions, use_cache=True)
        ends = torch.stack([out.last_hidden_state[r, at] for r, at in last])
        return [int(token) for token in self.model.lm_head(ends).argmax(-1)]


def prepack(rounds: int) -> Table:
    """A skewed batch up to its first tokens, every way in turn."""
    model, (stock, _, _) = lengthwise.load(), load_pretrained()
    prompts = skewed(model)
    lengths = [len(prompt) for prompt in prompts]
    theirs = Stock(stock, prompts)
    asked: dict[str, Any] = {"max_new_tokens": 1, "stop_ids": []}
    rows = len(pack(dict(enumerate(lengths)), max(lengths)))
    ways: dict[str, tuple[Callable[[], list[int]], int]] = {
        "transformers, padded left": (theirs.padded, len(lengths) * max(lengths)),
        "transformers, one after another": (theirs.in_turn, sum(lengths)),
        "transformers, packed rows": (theirs.packed, rows * max(lengths)),
        "ours, one after another": (
            lambda: [model.generate(p, **asked).token_ids[0] for p in prompts], sum(lengths)
        ),
        "ours, together": (
            lambda: [g.token_ids[0] for g in model.generate_batch(prompts, **asked)], sum(lengths)
        ),
    }  # fmt: skip
    table = Table(
        "prepack", "A batch of unequal prompts, seconds to all first tokens (bf16)",
        f"{SHORT[0]} prompts of {SHORT[1]} to {SHORT[2]} tokens and {LONG[0]} of {LONG[1]}: "
        f"{sum(lengths):,} tokens, padded {len(lengths) * max(lengths):,}, of which "
        f"{waste(lengths):.0%} are padding. Medians of rounds in turn. `same` are prompts whose "
        "first token is the one that transformers gives alone.",
    )  # fmt: skip
    first = {name: way() for name, (way, _) in ways.items()}  # also a warm-up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, _) in ways.items():
            seconds[name].append(timed(way))
    padded = median(seconds["transformers, padded left"])
    right = first["transformers, one after another"]
    for name, (_, computed) in ways.items():
        took = median(seconds[name])
        same = sum(a == b for a, b in zip(first[name], right, strict=True))
        table.rows.append({
            "way": name, "tokens computed": computed, "seconds": took,
            "times as fast as padded": padded / took, "same": f"{same}/{len(right)}",
        })  # fmt: skip
    return table
