"""The pattern of every head, searched once on a model and kept as a calibration artefact.

The sample is the paper's task: a long object of pairs of random names, of which some are asked for.
It is read in full. In every eighth block of queries, from token 2,500 on, each pattern of the space
is filled in as it would be while reading. What counts is the probability that falls on the keys it
reads (the paper's recovered attention), and the share of the keys before a query that these are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence as Seq
from typing import Any
from weakref import WeakKeyDictionary

import torch
from rich.console import Console
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods.calibration import SMALL, find, load, save
from lengthwise.methods.selection.patterns import Estimate, Grid, Pattern, chosen_keys
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

KIND = "minference"
# Raised when what is stored, or what it means, changes.
VERSION = 1
# Tokens of the sample at most, and those before the first query that counts (the authors').
LENGTH, FROM = 8192, 2500
CHUNK, BLOCK, EVERY = 1024, 64, 8
# One block of keys in so many, of block-sparse (the authors').
SHARE = 8
SPACE = (
    Pattern("a_shape", 100, 800),
    Pattern("vertical_slash", 30, 800),
    Pattern("vertical_slash", 100, 750),
    Pattern("vertical_slash", 500, 700),
    Pattern("vertical_slash", 3500, 100),
    Pattern("block_sparse"),
    # Ours: columns without scattered distances, and a short band.
    Pattern("a_shape", 100, 300),
    Pattern("vertical_slash", 300, 100),
    Pattern("vertical_slash", 1000, 100),
    Pattern("vertical_slash", 2000, 100),
)
# How many of SPACE are the authors', by the option `space`.
SPACES = {"paper": 6, "wide": len(SPACE)}

# By layer: "mass" and "read", `[heads][patterns of SPACE]`.
Scores = dict[str, list[list[float]]]
_FOUND: WeakKeyDictionary[LayerFacts, Scores] = WeakKeyDictionary()


def search_once(model: AdaptedModel) -> None:
    """Makes the patterns of a model known to `chosen_patterns`: stored ones, or searched now.

    A model of at most SMALL parameters is searched at once, which is said in one line on standard
    error.

    Args:
        model: the adapted model.

    Raises:
        Refused: with the command, for a larger one; or for one without a tokenizer.
    """
    if all(layer in _FOUND for layer in model.layers):
        return
    found = find(KIND, model)
    if found is not None and found.get("version") != VERSION:
        found = None
    if found is None and model.model.num_parameters() <= SMALL:
        Console(markup=False, stderr=True).print(
            "minference: searching this model's patterns, once", soft_wrap=True
        )
        found = search_patterns(model)
        save(KIND, model, found)
    remember(model, found if found is not None else load(KIND, model))


def remember(model: AdaptedModel, found: dict[str, Any]) -> None:
    """Takes scores as `search_patterns` gives them for those of a model."""
    for layer, scores in zip(model.layers, found["layers"], strict=True):
        _FOUND[layer] = scores


def chosen_patterns(
    layer: LayerFacts, slack: float, blocks: int, space: str = "paper"
) -> list[Pattern]:
    """The pattern of every query head of a layer.

    Args:
        layer: of a model that `search_once` was asked of.
        slack: probability that may be lost to read fewer keys.
        blocks: how many blocks of keys a block-sparse head reads.
        space: of SPACES.
    """
    if layer not in _FOUND:
        raise LengthwiseError("minference: the patterns of this model were not searched: resolve "
                              "the recipe first (lengthwise.recipes.resolve)")  # fmt: skip
    scores, found = _FOUND[layer], []
    for mass, read in zip(scores["mass"], scores["read"], strict=True):
        count = SPACES[space]
        best = SPACE[best_of(mass[:count], read[:count], slack)]
        found.append(Pattern(best.kind, best.columns, best.distances, blocks))
    return found


def best_of(mass: Seq[float], read: Seq[float], slack: float) -> int:
    """Which pattern of SPACE a head takes: the one with most mass or, with slack, the one that
    reads least of those that lose no more than that.

    Args:
        mass: what each pattern holds.
        read: the share of keys that each reads.
        slack: as in `chosen_patterns`.
    """
    if not slack:
        return max(range(len(mass)), key=mass.__getitem__)
    good = [number for number, each in enumerate(mass) if each >= max(mass) - slack]
    return min(good, key=read.__getitem__)


@torch.no_grad()
def search_patterns(
    model: AdaptedModel,
    progress: Callable[[int, int], None] | None = None,
    ids: list[int] | None = None,
) -> dict[str, Any]:
    """What every pattern of SPACE holds and reads, by head.

    Args:
        model: the adapted model.
        progress: is given tokens done and in all.
        ids: another sample than the paper's.

    Returns:
        "layers": of each the `Scores`; numbers are means over the queries that were looked at.

    Raises:
        Refused: where the model came without a tokenizer and no sample is given.
    """
    ids = sample(model) if ids is None else ids
    first = min(FROM, len(ids) // 2)
    watch = _Search(model, len(ids), first)
    tokens = torch.tensor(ids, device=model.device)
    last = torch.zeros(1, dtype=torch.long, device=model.device)
    for begin in range(0, len(ids), CHUNK):
        block = tokens[begin : begin + CHUNK]
        watch.start = begin
        index = torch.arange(begin, begin + len(block), device=model.device)
        model.forward(block, index, watch, last)
        if progress is not None:
            progress(begin + len(block), len(ids))
    return {"version": VERSION, "length": len(ids), "layers": watch.scores()}


def sample(model: AdaptedModel, seed: int = 0) -> list[int]:
    """Ids of pairs of random names, of which the last are asked for; at most LENGTH, and no more
    than the model was trained for."""
    if model.tokenizer is None:
        raise Refused(
            "minference searches patterns on a text, and this model came without a tokenizer",
            "give minference(pattern=vertical_slash), or load the model with its tokenizer",
        )
    draw = random.Random(seed)
    names = [f"{draw.getrandbits(64):016x}" for _ in range(LENGTH // 8)]
    pairs = list(zip(names[::2], names[1::2], strict=True))
    text = "".join(f'"{key}": "{value}",\n' for key, value in pairs)
    asked = "".join(f'\nThe value of "{key}" is "{value}".' for key, value in pairs[8:72:8])
    ids, end = (model.tokenizer.encode(t, add_special_tokens=False) for t in (text, asked))
    length = max(2 * BLOCK, min(LENGTH, model.trained_length - 1))
    return [*ids[: length - len(end)], *end][-length:]


class _Search:
    """Attention over a cache of its own, that scores patterns. start: token of the forward."""

    def __init__(self, model: AdaptedModel, total: int, first: int) -> None:
        self.model, self.total, self.first, self.start = model, total, first, 0
        self.cache: dict[int, tuple[Tensor, Tensor]] = {}
        shape = (len(SPACE), 2)
        self.sums = [torch.zeros(facts.num_heads, *shape) for facts in model.layers]
        self.counts = [0] * len(model.layers)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope = self.model.layers[layer], self.model.rope
        index = torch.arange(self.start, self.start + query.shape[1], device=query.device)
        if facts.layout is not None and rope is not None:
            angles = rope.angles(facts.layout, facts.rotary_type, index)
            query, key = (facts.layout.rotate(x, angles) for x in (query, key))
        keys, values = self._store(layer, key, value)
        mask = None
        if facts.window is not None:
            distance = index[:, None] - torch.arange(keys.shape[1], device=index.device)
            mask = (distance >= 0) & (distance < facts.window)
        elif self.start + len(index) > self.first:
            self._score(layer, facts, query, keys)
        part = Part(query, keys, values, mask, causal=mask is None)
        return attend([part], facts.scaling, facts.softcap, facts.sinks)[0]

    def _store(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self.cache:
            keys, values = (x.new_empty(len(x), self.total, x.shape[2]) for x in (key, value))
            self.cache[layer] = keys, values
        keys, values = self.cache[layer]
        stop = self.start + key.shape[1]
        keys[:, self.start : stop], values[:, self.start : stop] = key, value
        return keys[:, :stop], values[:, :stop]

    def _score(self, layer: int, facts: LayerFacts, query: Tensor, keys: Tensor) -> None:
        """Adds the mass and the share of keys of every pattern, over the blocks looked at."""
        group = facts.num_heads // facts.num_kv_heads
        grid = Grid(self.start, -(-query.shape[1] // BLOCK), BLOCK)
        seen = [b for b in range(EVERY - 1, grid.count, EVERY)
                if self.start + b * BLOCK >= self.first]  # fmt: skip
        estimate = Estimate(facts.scaling, facts.softcap)
        blocks = max(1, keys.shape[1] // BLOCK // SHARE)
        self.counts[layer] += len(seen)
        for head in range(facts.num_kv_heads if seen else 0):
            rows = slice(head * group, (head + 1) * group)
            asked = [query[rows, b * BLOCK : (b + 1) * BLOCK] for b in seen]
            mass = [_column_sums(q, keys[head], self.start + b * BLOCK, estimate)
                    for q, b in zip(asked, seen, strict=True)]  # fmt: skip
            probs = estimate.of(query[rows], keys[head])
            for number, pattern in enumerate(SPACE):
                each = [Pattern(pattern.kind, pattern.columns, pattern.distances, blocks)] * group
                chosen = chosen_keys(each, query[rows], keys[head], grid, estimate, probs)
                for b, received in zip(seen, mass, strict=True):
                    before = self.start + b * BLOCK
                    read = chosen[:, b, :before]
                    held = (received[:, :before] * read).sum(1) + received[:, before:].sum(1)
                    total = torch.stack([held, read.float().mean(1)], 1)
                    self.sums[layer][rows, number] += total.cpu()

    def scores(self) -> list[Scores]:
        found = []
        for sums, count in zip(self.sums, self.counts, strict=True):
            mean = (sums / max(1, count)).double()
            found.append({"mass": mean[..., 0].tolist(), "read": mean[..., 1].tolist()})
        return found


def _column_sums(query: Tensor, key: Tensor, start: int, estimate: Estimate) -> Tensor:
    """What keys receive from a block of queries, on average a query: `[heads, start + queries]`."""
    count = query.shape[1]
    scores = (query @ key[: start + count].T).float() * estimate.scaling
    if estimate.softcap is not None:
        scores = (scores / estimate.softcap).tanh() * estimate.softcap
    later = torch.ones(count, count, dtype=torch.bool, device=key.device).triu(1)
    scores[:, :, start:].masked_fill_(later, -torch.inf)
    return scores.softmax(-1).mean(1)


__all__ = [
    "KIND", "SPACE", "SPACES", "Scores", "best_of", "chosen_patterns", "remember", "sample",
    "search_once", "search_patterns",
]  # fmt: skip
