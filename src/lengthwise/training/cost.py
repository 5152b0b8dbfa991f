"""What a step costs: FLOPs from the model's sizes, and seconds from a law fitted to measured steps.

FLOPs are those of the forward and backward pass that the data asks for. They are 6 a weight in a
matrix and token, and 12 a layer, channel and pair of a token with one that it may see. A kernel
that computes masked pairs too does more, and experts that a token skips are counted.

Seconds follow t = a tokens + b tokens length + c rows: weights, attention, and what each row costs
whatever its length. All three are sums over steps, so records of one step and of many fit alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lengthwise.training.config import TrainingError
from lengthwise.training.data import Work


@dataclass(frozen=True)
class Sizes:
    """parameters: all weights. body: those outside of embeddings and head, the N of scaling laws.
    matrices: those that each token is multiplied by, the head included. layers: with attention
    over pairs of tokens, of which state-space and linear-attention layers have none. width:
    channels of all query heads together."""

    parameters: int
    body: int
    matrices: int
    layers: int
    width: int

    def parameter_flops(self, work: Work) -> int:
        """FLOPs of all matrices, forward and backward."""
        return 6 * self.matrices * work.tokens

    def attention_flops(self, work: Work) -> int:
        """FLOPs of queries with keys and of weights with values, forward and backward."""
        return 12 * self.layers * self.width * work.pairs


def sizes_of(model: nn.Module) -> Sizes:
    """The sizes of a transformers model that is not sharded."""
    config: Any = model.config
    weights = {id(each): each.numel() for each in model.parameters()}
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    head = {id(output.weight)} if output is not None else set()
    body = sum(count for key, count in weights.items() if key not in embeddings | head)
    heads = config.num_attention_heads if attends(config) else 0
    head_dim = heads and (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return Sizes(
        sum(weights.values()), body, body + sum(weights[key] for key in head),
        _attention_layers(config) if heads else 0, heads * head_dim,
    )  # fmt: skip


def attends(config: Any) -> bool:
    """Whether any layer attends: state-space families have no heads, or only of their states."""
    return bool(getattr(config, "num_attention_heads", None)) and _attention_layers(config) > 0


def _attention_layers(config: Any) -> int:
    """Layers in which tokens attend to one another, by the names that transformers has for them."""
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    if not kinds:
        return int(config.num_hidden_layers)
    return sum(
        kind == "hybrid" or ("attention" in kind and "linear" not in kind)
        for kind in map(str, kinds)
    )


@dataclass(frozen=True)
class Measured:
    """Seconds that work took. The lengths in it need not be equal."""

    work: Work
    seconds: float


@dataclass(frozen=True)
class CostModel:
    """a, b, c of the law, in seconds; 0 where a term was found to cost nothing.

    error: mean over lengths of |predicted - measured| / measured, where measured is the median of
    steps that the law was not fitted to. worst: the largest of them. unseen: the same mean where
    each length was left out of its own fit; None with fewer than four lengths.
    """

    a: float
    b: float
    c: float
    error: float
    worst: float
    unseen: float | None

    def seconds(self, work: Work) -> float:
        """Predicted seconds."""
        return self.a * work.tokens + self.b * work.token_lengths + self.c * work.rows

    def per_token(self, length: int) -> float:
        """Predicted seconds a token in rows of `length`."""
        return self.a + self.b * length + self.c / length

    def __str__(self) -> str:
        unseen = "" if self.unseen is None else f", {self.unseen:.1%} at lengths left out"
        return (
            f"t = {self.a:.3g} tokens + {self.b:.3g} tokens length + {self.c:.3g} rows seconds; "
            f"off by {self.error:.1%} on average, {self.worst:.1%} at worst{unseen}"
        )


def fit(steps: Sequence[Measured]) -> CostModel:
    """The law that predicts `steps` with the least relative error.

    Steps of equal mean length count as one, by their median time a token: a step that something
    else slowed down does not count. Of each length every second step is kept for the error, if
    there are two. Raises TrainingError with fewer than two different lengths.
    """
    groups: dict[float, list[Measured]] = {}
    for step in steps:
        if step.seconds > 0 and step.work.tokens:
            mean_length = round(step.work.token_lengths / step.work.tokens, 1)
            groups.setdefault(mean_length, []).append(step)
    if len(groups) < 2:
        raise TrainingError(
            f"a cost model needs measured steps of at least 2 lengths, here are {len(groups)}"
        )
    # Per token: [1, length, rows a token], and seconds.
    terms = np.array([
        np.mean([_terms(each.work) for each in group], axis=0) for group in groups.values()
    ])  # fmt: skip
    seconds = np.array([_median(group[::2]) for group in groups.values()])
    kept = np.array([_median(group[1::2] or group) for group in groups.values()])
    found = _solve(terms, seconds)
    errors = np.abs(terms @ found - kept) / kept
    unseen = None
    if len(groups) >= 4:
        every = np.arange(len(groups))
        left = [
            abs(terms[i] @ _solve(terms[every != i], seconds[every != i]) - kept[i]) / kept[i]
            for i in every
        ]
        unseen = float(np.mean(left))
    a, b, c = map(float, found)
    return CostModel(a, b, c, float(errors.mean()), float(errors.max()), unseen)


def _median(steps: Sequence[Measured]) -> float:
    """Median seconds a token."""
    return float(np.median([each.seconds / each.work.tokens for each in steps]))


def _terms(work: Work) -> tuple[float, float, float]:
    return 1.0, work.token_lengths / work.tokens, work.rows / work.tokens


def _solve(terms: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.optimize import nnls

    # Columns of one size, or the solver would stop at the largest.
    scale = np.abs(terms / seconds[:, None]).max(axis=0)
    found, _ = nnls(terms / seconds[:, None] / scale, np.ones(len(seconds)))
    return np.asarray(found / scale)
