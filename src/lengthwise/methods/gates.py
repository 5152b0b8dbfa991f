"""Gates of key heads, trained once on a model: which heads need all tokens (DuoAttention).

Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming
Heads", ICLR 2025, arXiv:2410.10819. A gate a key head blends what it reads with what it would read
of its first and latest tokens. The model stays as it is.

    out  = a * full + (1 - a) * stream,   a in [0, 1], 1 at first
    loss = mean over the questions' and answers' tokens of |h_full - h_gated|^2 / hidden
           + 0.05 * mean |a|,             h: the last hidden states

As in the released code `full` is what the model itself reads there, without a gradient, and Adam's
rate rises over the first fifth of the steps and falls over the last.

Ours: the paper takes 2,000 steps of 1,000 to 32,000 tokens at a rate of 0.02. Here they are few and
short (`docs/reproduction/duo.md` says what that finds), so that a small model takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from lengthwise.documents.files import read_document
from lengthwise.engine.kv_cache.head_policy import HeadTable, sinks_and_recent, split
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods.calibration import SMALL, artefact_path, find, load, save
from lengthwise.methods.passkeys import Asking, Passkeys
from lengthwise.methods.retention.counting import full_layers
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.frozen import frozen
from lengthwise.models.layer_facts import LayerFacts

KIND = "duo"
# Queries that are attended to at once.
ROWS = 256


@dataclass(frozen=True)
class Training:
    """How gates are trained.

    length: tokens of a text. passkeys, words: what is planted in it. sinks, recent: tokens that a
    head sees where its gate is 0. rate: of Adam. penalty: of the mean gate.
    """

    steps: int = 30
    length: int = 768
    passkeys: int = 5
    words: int = 12
    sinks: int = 8
    recent: int = 64
    rate: float = 0.1
    penalty: float = 0.05
    seed: int = 0

    def within(self, length: int) -> Training:
        """The same for a model that reads no more than `length` tokens: all is as much shorter.

        Args:
            length: in tokens.
        """
        if length >= self.length:
            return self
        share = length / self.length
        return replace(self, length=length, passkeys=max(1, round(self.passkeys * share)),
                       words=max(2, round(self.words * share)))  # fmt: skip


def gates(model: AdaptedModel) -> list[list[float]]:
    """Gates `[layers][kv_heads]`: stored ones, or trained now if the model is small.

    A model of at most SMALL parameters is trained on at once, which is said in one line on standard
    error; a larger one raises Refused with the command.

    Args:
        model: whose heads they are.
    """
    found = find(KIND, model)
    if found is None and model.model.num_parameters() <= SMALL:
        Console(markup=False, stderr=True).print(
            "duo: training gates for this model's heads, once; it takes minutes", soft_wrap=True
        )
        found = train_gates(model)
        save(KIND, model, found)
    return _checked(found if found is not None else load(KIND, model), model)


def _checked(found: dict[str, Any], model: AdaptedModel) -> list[list[float]]:
    """The gates of an artefact; raises LengthwiseError where they are not this model's."""
    rows: Any = found.get("gates")
    counts = [layer.num_kv_heads for layer in model.layers]
    whole = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    if not whole or [len(row) for row in rows] != counts or not _numbers(rows):
        raise LengthwiseError(
            f"{artefact_path(KIND, model)}: this calibration is damaged (its gates are not one a "
            f"key head); `lengthwise calibrate {KIND}` makes it anew"
        )
    return [[float(gate) for gate in row] for row in rows]


def _numbers(rows: list[list[Any]]) -> bool:
    return all(type(gate) in (int, float) and 0 <= gate <= 1 for row in rows for gate in row)


def retrieval(
    rows: Seq[Seq[float]], layers: Seq[LayerFacts], share: float
) -> dict[int, list[bool]]:
    """Which key heads keep everything, by layer: `share` of all, those with the largest gates.

    Args:
        rows: gates `[layers][kv_heads]`.
        layers: those that count, whose heads are compared with each other.
        share: of their key heads.
    """
    flat = torch.tensor([gate for layer in layers for gate in rows[layer.index]])
    # A product such as 0.07 x 100 may come out a hair above the whole number it stands for.
    wanted = min(len(flat), max(0, round(len(flat) * share)))
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[flat.argsort(descending=True, stable=True)[:wanted]] = True
    parts = chosen.split([layer.num_kv_heads for layer in layers])
    return {layer.index: part.tolist() for layer, part in zip(layers, parts, strict=True)}


def streaming_table(model: AdaptedModel, share: float, sinks: int, recent: int) -> HeadTable:
    """A share of the key heads keeps everything, the others `sinks` + `recent` tokens.

    Args:
        model: whose gates say which. Where all heads do the same nobody asks for gates.
        share: of the key heads of layers without a window of their own.
        sinks: first tokens of the others.
        recent: latest tokens of the others.
    """
    layers, placement = full_layers(model), sinks_and_recent(sinks, recent)
    if 0.0 < share < 1.0:
        chosen = retrieval(gates(model), layers, share)
    else:
        chosen = {layer.index: [share == 1.0] * layer.num_kv_heads for layer in layers}
    return {layer.index: split(layer, chosen[layer.index], placement) for layer in layers}


def train_gates(
    model: AdaptedModel,
    training: Training | None = None,
    progress: Callable[[int, int], None] | None = None,
    filler: Seq[int] | None = None,
) -> dict[str, Any]:
    """Trains gates on a model, which stays as it is.

    Args:
        model: whose heads get one each. Layers with a window of the model's own keep theirs at 0.
        training: how; None is the setting that `duo` uses.
        progress: given steps done and in all.
        filler: token ids that passkeys are planted in; None is the Python language reference, or
            random tokens where the model has no tokenizer.

    Returns:
        "gates" `[layers][kv_heads]`, "distance" and "mean" (of the gates) by step, and how they
            were trained.
    """
    how = (training or Training()).within(model.trained_length)
    how, texts = _fitting(model, filler or _filler(model, how.length), how)
    trained = torch.ones(sum(layer.num_kv_heads for layer in model.layers), device=model.device)
    trained.requires_grad_(True)
    optimizer = torch.optim.Adam([trained], lr=how.rate)
    distances, means = [], []
    with torch.inference_mode(False), torch.enable_grad(), frozen(model.model):
        for step in range(how.steps):
            for group in optimizer.param_groups:
                group["lr"] = how.rate * _share(step, how.steps)
            distance = _distance(model, trained, texts.draw(how.length), how)
            penalty = trained[_counted(model)].mean()
            (distance + how.penalty * penalty).backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                trained.clamp_(0, 1)
            distances.append(float(distance.detach()))
            means.append(float(penalty.detach()))
            if progress is not None:
                progress(step + 1, how.steps)
    with torch.no_grad():
        trained[~_counted(model)] = 0.0
    rows = trained.detach().cpu().split([layer.num_kv_heads for layer in model.layers])
    return {
        **vars(how), "distance": distances, "mean": means,
        "gates": [row.tolist() for row in rows],
    }  # fmt: skip


def _fitting(model: AdaptedModel, filler: Seq[int], how: Training) -> tuple[Training, Passkeys]:
    """What is planted, with as much left out as a tokenizer of few bytes a token needs. Raises
    Refused where one word is too many."""
    while True:
        try:
            Passkeys(model, filler, how.passkeys, how.words, how.seed).draw(how.length)
        except Refused:
            if how.passkeys == how.words == 1:
                raise
            fewer = {"passkeys": how.passkeys - 1} if how.passkeys > 1 else {"words": how.words - 1}
            how = replace(how, **fewer)
        else:
            return how, Passkeys(model, filler, how.passkeys, how.words, how.seed)


def _share(step: int, steps: int) -> float:
    """Of the rate: it rises over the first fifth of the steps and falls over the last."""
    fifth = max(1, steps // 5)
    return min(1.0, max((step + 1) / fifth, 0.1), max((steps - step) / fifth, 0.1))


def _filler(model: AdaptedModel, length: int) -> list[int]:
    if model.tokenizer is not None:
        return list(model.tokenizer.encode(read_document().text, add_special_tokens=False))
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, model.vocab_size, (4 * length,), generator=chance).tolist()


def _counted(model: AdaptedModel) -> Tensor:
    """Bool `[kv_heads of all layers]`: those that have no window of the model's own."""
    found = [layer.window is None for layer in model.layers for _ in range(layer.num_kv_heads)]
    return torch.tensor(found, device=model.device)


def _distance(model: AdaptedModel, trained: Tensor, text: Asking, how: Training) -> Tensor:
    """Mean squared distance of the last hidden states, with gates from without."""
    ids = torch.tensor(text.ids, device=model.device)
    index = torch.arange(len(ids), device=model.device)
    keep = index[text.start :]
    full = _Full(model, index)
    with torch.no_grad():
        model.through_modules(ids, index, full, keep, full.states)
    gated = _Gated(full, trained.split([layer.num_kv_heads for layer in model.layers]), how)
    model.with_gradients(ids, index, gated, keep, gated.states)
    return (full.states[0].float() - gated.states[0].float()).square().mean()


class _Full:
    """The model's own attention over one text. outs: what each layer's gave."""

    def __init__(self, model: AdaptedModel, index: Tensor) -> None:
        self.model, self.index = model, index
        self.states: list[Tensor] = []
        self.outs: dict[int, Tensor] = {}

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts = self.model.layers[layer]
        query, key = self.rotated(facts, query, key)
        self.outs[layer] = attention(facts, query, key, value, 0, facts.window)
        return self.outs[layer]

    def rotated(self, facts: LayerFacts, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        rope = self.model.rope
        if facts.layout is None or rope is None:
            return query, key
        angles = rope.angles(facts.layout, facts.rotary_type, self.index.to(query.device))
        return facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)


class _Gated:
    """The same with gates: what each head gave there, and its first and latest tokens here."""

    def __init__(self, full: _Full, rows: Seq[Tensor], how: Training) -> None:
        self.full, self.rows, self.how = full, rows, how
        self.states: list[Tensor] = []

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, how = self.full.model.layers[layer], self.how
        query, key = self.full.rotated(facts, query, key)
        if facts.window is not None:
            return attention(facts, query, key, value, 0, facts.window)
        stream = attention(facts, query, key, value, how.sinks, how.recent)
        gate = self.rows[layer].to(stream.device)
        gate = gate.repeat_interleave(facts.num_heads // facts.num_kv_heads)[:, None, None]
        mixed = gate * self.full.outs[layer].float() + (1 - gate) * stream.float()
        return mixed.to(stream.dtype)


def attention(
    facts: LayerFacts, query: Tensor, key: Tensor, value: Tensor, sinks: int, recent: int | None
) -> Tensor:
    """Attention of one text to the first `sinks` and the latest `recent` tokens, with gradients.

    Args:
        facts: of the layer.
        query: rotated, `[heads, n, head_dim]`.
        key: rotated, `[kv_heads, n, head_dim]`.
        value: `[kv_heads, n, value_dim]`.
        sinks: first tokens that every query sees.
        recent: latest tokens that it sees, itself included; None is all.

    Returns:
        `[heads, n, value_dim]`.
    """
    group, length = facts.num_heads // facts.num_kv_heads, query.shape[1]
    key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)
    index, outs = torch.arange(length, device=query.device), []
    for begin in range(0, length, ROWS):
        stop = min(begin + ROWS, length)
        first = 0 if recent is None else max(0, begin - recent + 1)
        seen = torch.cat([index[: min(sinks, first)], index[first:stop]])
        distance = index[begin:stop, None] - seen
        mask = distance >= 0
        if recent is not None:
            mask &= (distance < recent) | (seen < sinks)
        outs.append(_attend(facts, query[:, begin:stop], key[:, seen], value[:, seen], mask))
    return torch.cat(outs, 1)


def _attend(facts: LayerFacts, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    if facts.softcap is None and facts.sinks is None:
        out: Tensor = F.scaled_dot_product_attention(
            query[None], key[None], value[None], mask, scale=facts.scaling
        )[0]
        return out
    logits = torch.matmul(query.float(), key.float().mT) * facts.scaling
    if facts.softcap is not None:
        logits = facts.softcap * (logits / facts.softcap).tanh()
    logits = logits.masked_fill(~mask, float("-inf"))
    if facts.sinks is not None:
        own = facts.sinks.float()[:, None, None].expand(-1, logits.shape[1], 1)
        logits = torch.cat([logits, own], -1)
    weights = logits.softmax(-1)[..., : key.shape[1]]
    return torch.matmul(weights, value.float()).to(value.dtype)


__all__ = [
    "KIND", "Training", "attention", "gates", "retrieval", "streaming_table", "train_gates",
]  # fmt: skip
