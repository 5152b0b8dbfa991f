"""Codebooks of un-rotated keys, measured once on a model: query-aware vector quantisation.

For each key head H = sum of q q^T over the queries that read it, rotated to one fixed position.
With its Cholesky factor L, a code c that stands for a key k makes logits wrong by |k L - c|^2.
So keys are clustered after a product with L, and c L^-1 stands for them in a logit.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lengthwise._utils.kmeans import kmeans, means, nearest
from lengthwise.engine.chunks import CHUNK
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.loop import prefill
from lengthwise.errors import LengthwiseError
from lengthwise.methods import calibration
from lengthwise.methods.selection._shared.calibration_text import calibration_text
from lengthwise.models.adapted_model import AdaptedModel

KIND = "a2ats"
# Tokens that are read, a fifth of them random, and most rounds of k-means.
TOKENS, ROUNDS = 8192, 10
EPSILON = 1e-6
# Products of keys with centres up to which a model is measured at once: tiny ones alone.
QUICK = 1_000_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Codebook:
    """Of one layer; all sequences of a model hold one object.

    metric: L, `[kv_heads, head_dim, head_dim]`. centres: codes in its space, `[kv_heads, codes,
    head_dim]`. keys: what stands for a key, c L^-1, of the same shape.
    """

    metric: Tensor
    centres: Tensor
    keys: Tensor

    @classmethod
    def of(cls, metric: Tensor, centres: Tensor) -> Codebook:
        """From what is stored."""
        keys = torch.linalg.solve_triangular(metric, centres, upper=False, left=False)
        return cls(metric, centres, keys)

    def on(self, device: torch.device) -> Codebook:
        """The same where a layer attends."""
        return Codebook(self.metric.to(device), self.centres.to(device), self.keys.to(device))

    def encode(self, key: Tensor) -> Tensor:
        """The code of each un-rotated key: `[kv_heads, n, head_dim]` -> int64 `[kv_heads, n]`."""
        return nearest(torch.bmm(key.float(), self.metric), self.centres)[0]


# Of each model, by what was measured: read once, however many sequences begin.
_BOOKS: WeakKeyDictionary[AdaptedModel, dict[str, dict[int, Codebook]]] = WeakKeyDictionary()


def codebooks(model: AdaptedModel, codes: int, position: int) -> dict[int, Codebook]:
    """By layer: read before, stored, or measured now where that is a moment's work.

    Args:
        model: the adapted model the recipe runs on.
        codes: of each key head.
        position: at which queries are scored.

    Raises:
        Refused: for a model that was not calibrated with as many codes, or at this position, with
            the command.
        LengthwiseError: for a damaged file.
    """
    rule, known = rule_of(codes, position), _BOOKS.setdefault(model, {})
    if rule not in known:
        known[rule] = _read(model, codes, position)
    return known[rule]


def _read(model: AdaptedModel, codes: int, position: int) -> dict[int, Codebook]:
    """`codebooks` from the file."""
    rule, command = rule_of(codes, position), f"{KIND} --codes {codes} --position {position}"
    found = calibration.find(KIND, model, rule, command)
    if found is None and _work(model, codes) <= QUICK:
        calibrate_codebooks(model, codes, position)
    if found is None:
        found = calibration.load(KIND, model, rule, command)
    try:
        held = {f: found["layers"][str(f.index)] for f in model.layers if f.window is None}
        books = {
            f: Codebook.of(_unpack(each["metric"]), _unpack(each["centres"]))
            for f, each in held.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        path = calibration.artefact_path(KIND, model, rule)
        raise LengthwiseError(
            f"{path}: these codebooks are damaged; `lengthwise calibrate {command}` makes them anew"
        ) from error
    return {f.index: book.on(f.device) for f, book in books.items()}


def rule_of(codes: int, position: int) -> str:
    """What tells apart codebooks of a model."""
    return f"codes={codes}, position={position}"


def calibrate_codebooks(
    model: AdaptedModel, codes: int, position: int, progress: Progress | None = None
) -> Path:
    """Measures codebooks and keeps them; returns where they lie. See `measure_codebooks`."""
    rule = rule_of(codes, position)
    found = measure_codebooks(model, codes, position, progress=progress)
    path = calibration.save(KIND, model, found, rule)
    _BOOKS.get(model, {}).pop(rule, None)
    return path


def _work(model: AdaptedModel, codes: int) -> int:
    tokens = min(TOKENS, 8 * model.trained_length)
    return sum(each.num_kv_heads * each.head_dim for each in model.layers) * tokens * codes


@torch.no_grad()
def measure_codebooks(
    model: AdaptedModel, codes: int, position: int, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Codebooks of all layers without a window of their own, as JSON holds them.

    Args:
        model: to be measured.
        codes: of each key head; as many as keys were read where that is fewer.
        position: at which queries are scored.
        seed: of the random tokens, and of the first centres.
        progress: called with layers done and in all.
    """
    reader = KeyReader(model, position)
    count = min(TOKENS, 8 * model.trained_length)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, model.vocab_size, (count // 5,), generator=generator)
    for ids in (calibration_text(model, count - count // 5, seed), drawn.tolist()):
        for start in range(0, len(ids), model.trained_length):
            reader.read(ids[start : start + model.trained_length])
    layers = sorted(reader.keys)
    found: dict[str, Any] = {}
    for at, layer in enumerate(layers):
        metric = metric_of(reader.moments[layer])
        keys = torch.cat(reader.keys.pop(layer), 1).float()
        centres = centres_of(torch.bmm(keys, metric), codes, seed)
        found[str(layer)] = {"metric": _pack(metric), "centres": _pack(centres)}
        if progress is not None:
            progress(at + 1, len(layers))
    return {"codes": codes, "position": position, "layers": found}


def metric_of(moment: Tensor) -> Tensor:
    """L of H: the Cholesky factor, H having a root mean square of 1. `[kv_heads, d, d]`."""
    wide = moment.double()
    wide = wide / wide.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-30)
    eye = torch.eye(wide.shape[-1], dtype=wide.dtype, device=wide.device)
    found: Tensor = torch.linalg.cholesky(wide + EPSILON * eye)
    return found.float()


def centres_of(points: Tensor, codes: int, seed: int) -> Tensor:
    """Centres of points `[kv_heads, n, d]`, at most n: `[kv_heads, codes, d]`."""
    count = min(codes, points.shape[1])
    return means(points, kmeans(points, count, seed, ROUNDS), count)[0]


class KeyReader(Sequence):
    """Reads texts and notes un-rotated keys, and the second moments of queries.

    keys: by layer, of each forward. moments: by layer, H `[kv_heads, d, d]`.
    """

    def __init__(self, model: AdaptedModel, position: int) -> None:
        super().__init__(model)
        self.position = position
        self.keys: dict[int, list[Tensor]] = {}
        self.moments: dict[int, Tensor] = {}

    def read(self, ids: list[int]) -> None:
        """A text that nothing precedes."""
        fresh = KeyReader(self.model, self.position)
        fresh.keys, fresh.moments = self.keys, self.moments
        prefill(fresh, ids, CHUNK)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, metadata: StepMetadata
    ) -> Tensor:
        facts, rope = self.model.layers[layer], self.model.rope
        if facts.window is None:
            self.keys.setdefault(layer, []).append(key.clone())
            turned = query
            if facts.layout is not None and rope is not None:
                where = torch.tensor([self.position], device=query.device)
                turned = facts.layout.rotate(
                    query, rope.angles(facts.layout, facts.rotary_type, where)
                )
            rows = turned.reshape(len(key), -1, query.shape[-1]).float()
            moment = torch.bmm(rows.mT, rows)
            self.moments[layer] = self.moments.get(layer, 0.0) + moment
        return super().attend(layer, query, key, value, metadata)


def _pack(x: Tensor) -> dict[str, Any]:
    """JSON of a tensor, in 16 bits of its largest number."""
    scale = float(x.abs().amax().clamp_min(1e-30))
    data = (x / scale).half().cpu().numpy().tobytes()
    return {"shape": list(x.shape), "scale": scale, "data": base64.b64encode(data).decode()}


def _unpack(held: dict[str, Any]) -> Tensor:
    data = bytearray(base64.b64decode(held["data"], validate=True))
    flat = torch.frombuffer(data, dtype=torch.float16).float()
    return flat.view(held["shape"]) * float(held["scale"])


__all__ = [
    "Codebook", "KeyReader", "calibrate_codebooks", "centres_of", "codebooks", "measure_codebooks",
    "metric_of", "rule_of",
]  # fmt: skip
