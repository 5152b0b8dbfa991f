"""What is measured once on a model and loaded ever after: calibration artefacts.

An artefact is a small JSON file in the user's cache, named by what was measured, a fingerprint of
the model, its dtype and the rotary frequencies it was measured under. The one here are the scores
that find retrieval heads. On random tokens that repeat, some heads look back to the same token
(echo) or to the one after it (induction). Those can only be reading the far past.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from rich.console import Console
from torch import Tensor, nn

from lengthwise._utils.cache_folder import cache_dir
from lengthwise._utils.files import write_text
from lengthwise.engine.attention.attend import Part, attend
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.obstacles import at_hand

# Random tokens that are repeated, and how often they stand. Two repeats at the paper's distance and
# not four: more and nearer repeats bring up other heads, and hide the one echo head without which
# the default model copies nothing from afar (docs/reproduction/razor.md).
LENGTH = 2500
REPEATS = 2
CHUNK = 512
# Models up to this many parameters are calibrated on first use: some seconds on two cores.
SMALL = 300_000_000
# Facts of a configuration that say nothing about what the model computes.
INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
SAMPLE = 64

_fingerprints: WeakKeyDictionary[AdaptedModel, str] = WeakKeyDictionary()


def fingerprint(model: AdaptedModel) -> str:
    """16 hex digits of a model's configuration and of a sample of each of its weights."""
    if model not in _fingerprints:
        _fingerprints[model] = fingerprint_now(model)
    return _fingerprints[model]


def fingerprint_now(model: AdaptedModel) -> str:
    """`fingerprint` of the weights as they are at this moment."""
    config = model.model.config.get_text_config().to_dict()
    facts = {k: v for k, v in config.items() if k not in INCIDENTAL}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    modules = dict(model.model.named_modules())
    for name, held in sorted(model.model.state_dict().items()):
        inside, _, own = name.rpartition(".")
        weight = at_hand(modules[inside], own, held) if inside in modules else held
        digest.update(name.encode() + _sample(weight).float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _sample(weight: Tensor) -> Tensor:
    """The first numbers of a weight: of one that is no plain tensor (torchao), as it computes."""
    if type(weight) not in (Tensor, nn.Parameter):
        weight = weight[:1].dequantize() if weight.dim() else weight.dequantize()
    row = weight[(0,) * (weight.dim() - 1)] if weight.dim() else weight[None]
    return row[:SAMPLE]


def artefact_path(kind: str, model: AdaptedModel, rule: str = "") -> Path:
    """Where an artefact lies. rule: text of the positions method it was measured under, or none."""
    parts = [kind, fingerprint(model), str(model.dtype).removeprefix("torch.")]
    if rule:
        parts.append(hashlib.sha256(rule.encode()).hexdigest()[:8])
    return cache_dir() / "calibration" / ("-".join(parts) + ".json")


def save(kind: str, model: AdaptedModel, data: dict[str, Any], rule: str = "") -> Path:
    """Stores an artefact (JSON values only), written aside and renamed; returns where it lies."""
    path = artefact_path(kind, model, rule)
    try:
        write_text(path, json.dumps({"family": model.family, "rule": rule, **data}))
    except OSError as error:
        raise LengthwiseError(
            f"{path.parent}: the cache cannot be written ({error}); set LENGTHWISE_CACHE to a "
            "folder that can"
        ) from error
    return path


def find(
    kind: str, model: AdaptedModel, rule: str = "", command: str = ""
) -> dict[str, Any] | None:
    """A stored artefact, or None; raises LengthwiseError where the file is damaged. See `load`."""
    path = artefact_path(kind, model, rule)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LengthwiseError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise LengthwiseError(
            f"{path}: this calibration is damaged ({error}); `lengthwise calibrate "
            f"{command or kind}` makes it anew"
        ) from error
    return found


def load(kind: str, model: AdaptedModel, rule: str = "", command: str = "") -> dict[str, Any]:
    """A stored artefact; raises Refused, naming the command that makes it, where there is none.

    Args:
        kind: what was measured.
        model: on which.
        rule: as for `artefact_path`.
        command: what `lengthwise calibrate` is given; empty is the kind.
    """
    found = find(kind, model, rule, command)
    if found is None:
        raise Refused(
            f"{kind} needs to be calibrated once on this {model.family!r} model",
            f"run `lengthwise calibrate {command or kind}` with the same model and dtype",
        )
    return found


def retrieval_heads(model: AdaptedModel) -> dict[str, Any]:
    """Scores as `calibrate_retrieval_heads` gives them: stored ones, or measured now if quick.

    A model of at most SMALL parameters is measured at once, which is said in one line on standard
    error; a larger one raises Refused with the command.
    """
    found = find("razor", model)
    if found is None and model.model.num_parameters() <= SMALL:
        Console(markup=False, stderr=True).print(
            "razor: looking for this model's retrieval heads, once", soft_wrap=True
        )
        found = calibrate_retrieval_heads(model)
        save("razor", model, found)
    return found if found is not None else load("razor", model)


@torch.no_grad()
def calibrate_retrieval_heads(
    model: AdaptedModel,
    progress: Callable[[int, int], None] | None = None,
    length: int = LENGTH,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, Any]:
    """Echo and induction scores of every key head, on random tokens that stand `repeats` times.

    "echo" and "induction" are `[layers][kv_heads]`. They are the probability that a later token
    gives to earlier occurrences of itself, or to the tokens after them. It is averaged over later
    tokens, and of query heads that share a key head the largest counts. Layers with a window of the
    model's own score 0. progress is given tokens done and in all. `length` is shortened where that
    many random tokens, `repeats` times, would exceed what the model was trained for. Memory is
    O(chunk x keys).
    """
    length = max(2, min(length, (model.trained_length - 1) // repeats))
    generator = torch.Generator().manual_seed(seed)
    first = model.model.config.get_text_config().bos_token_id
    start = [first] if isinstance(first, int) else []
    drawn = torch.randint(0, model.vocab_size, (length,), generator=generator)
    ids = torch.cat([torch.tensor(start, dtype=torch.long), drawn.repeat(repeats)])
    ids = ids.to(model.device)
    watch = _Watch(model, len(ids), length, len(start))
    last = torch.zeros(1, dtype=torch.long, device=model.device)
    for begin in range(0, len(ids), CHUNK):
        block = ids[begin : begin + CHUNK]
        watch.index = torch.arange(begin, begin + len(block), device=model.device)
        model.forward(block, watch.index, watch, last)
        if progress is not None:
            progress(begin + len(block), len(ids))
    later = (repeats - 1) * length
    return {
        "length": length,
        "repeats": repeats,
        "echo": [(row.amax(1) / later).tolist() for row in watch.echo],
        "induction": [(row.amax(1) / later).tolist() for row in watch.induction],
    }


class _Watch:
    """Attention of one sequence, over a cache of its own, that notes what certain keys receive.

    index int64 `[n]`: birth ids of the tokens under way. echo, induction: by layer
    `[kv_heads, group]`, sums over the queries. period: distance of equal tokens, the first of which
    stands at `first`.
    """

    def __init__(self, model: AdaptedModel, total: int, period: int, first: int) -> None:
        self.model, self.total, self.period, self.first = model, total, period, first
        self.index = torch.empty(0, dtype=torch.long)
        self.echo = [_zeros(facts) for facts in model.layers]
        self.induction = [_zeros(facts) for facts in model.layers]
        self.cache: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts, rope, index = self.model.layers[layer], self.model.rope, self.index.to(query.device)
        if facts.layout is not None and rope is not None:
            angles = rope.angles(facts.layout, facts.rotary_type, index)
            query, key = (facts.layout.rotate(x, angles) for x in (query, key))
        keys, values = self._store(layer, key, value)
        distance = index[:, None] - torch.arange(keys.shape[1], device=index.device)
        mask = distance >= 0
        if facts.window is not None:
            mask &= distance < facts.window
        part = Part(query, keys, values, mask)
        out, lse = attend([part], facts.scaling, facts.softcap, facts.sinks, need_lse=True)
        assert lse is not None
        if facts.window is None:
            for back in range(self.period, self.total - self.first, self.period):
                self.echo[layer] += self._received(facts, query, keys, lse, back)
                self.induction[layer] += self._received(facts, query, keys, lse, back - 1, 1)
        return out

    def _store(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if layer not in self.cache:
            held_keys = key.new_empty(key.shape[0], self.total, key.shape[2])
            held_values = value.new_empty(value.shape[0], self.total, value.shape[2])
            self.cache[layer] = held_keys, held_values
        stop = int(self.index[-1]) + 1
        for held, new in zip(self.cache[layer], (key, value), strict=True):
            held[:, stop - new.shape[1] : stop] = new
        keys, values = self.cache[layer]
        return keys[:, :stop], values[:, :stop]

    def _received(
        self, facts: LayerFacts, query: Tensor, keys: Tensor, lse: Tensor, back: int, after: int = 0
    ) -> Tensor:
        """Probability of the key `back` tokens ago, summed over the queries that have one there.

        after: the key follows the earlier occurrence by this many tokens. Returns
        `[kv_heads, group]`, a number for each query head.
        """
        index = self.index.to(query.device)
        rows = (index - back - after >= self.first).nonzero()[:, 0]
        groups = facts.num_heads // facts.num_kv_heads
        chosen = keys[:, index[rows] - back].repeat_interleave(groups, 0)
        score = (query[:, rows].float() * chosen.float()).sum(-1) * facts.scaling
        if facts.softcap is not None:
            score = torch.tanh(score / facts.softcap) * facts.softcap
        total: Tensor = torch.exp(score - lse[:, rows]).sum(-1)
        return total.reshape(facts.num_kv_heads, groups).cpu()


def _zeros(facts: LayerFacts) -> Tensor:
    return torch.zeros(facts.num_kv_heads, facts.num_heads // facts.num_kv_heads)


__all__ = [
    "artefact_path", "calibrate_retrieval_heads", "find", "fingerprint", "load", "retrieval_heads",
    "save",
]  # fmt: skip
