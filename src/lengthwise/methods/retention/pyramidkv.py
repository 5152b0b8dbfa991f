"""PyramidKV: SnapKV's choice, with larger budgets in lower layers.

Cai et al., "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling",
2024, arXiv:2406.02069.

Lower layers spread their attention, and higher ones gather it in few tokens. So at the same total
the lower layers keep more. With cap a layer's mean budget, w the window, n the prompt, N layers:

    min = (cap - w) / beta,  max = 2 (cap - w) - min        (if max > n - w: max = n - w and
    b_l = max - l (max - min) / (N - 1),  plus the window    min = 2 (cap - w) - max)

Within a layer tokens are chosen as SnapKV chooses them. As in the released code a prompt within cap
is left whole, and one below 2 (cap - w) is cut to cap in all layers.

Ours: fractions of tokens are carried from layer to layer, so that the budgets sum to N cap and
never exceed it. Layers with a sliding window of the model's own are left out of the pyramid. A
share of the prompt is never fewer tokens than w + `floor`.

Defaults are those of the released code's LongBench script: w = 8, max pooling over 7, beta = 20,
512 tokens. (The paper reports 64 to 2,048 tokens.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.methods.base import Budget, Paper, Question, option
from lengthwise.methods.retention.counting import floor_option, full_layers, layer_tokens
from lengthwise.methods.retention.votes import VotingMethod

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class PyramidKV(VotingMethod):
    """SnapKV with more entries in lower layers and fewer in higher ones."""

    name: ClassVar[str] = "pyramidkv"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling",
        "Cai et al.",
        2024,
        arxiv="2406.02069",
        code="https://github.com/Zefan-Cai/KVCache-Factory",
    )
    best_known: ClassVar[str] = "pyramidkv(kernel=31)"

    budget: Budget = option(Budget(512), "what layers keep of the prompt, on average")
    window: int = option(8, "last prompt tokens that vote, and are always kept", low=1)
    kernel: int = option(7, "neighbours a vote is spread over; odd", low=1)
    pooling: str = option("max", "how it is spread", choices=("avg", "max"))
    beta: float = option(20.0, "the top layer keeps 1/beta of the mean; 1 is SnapKV", low=1.0)
    floor: int = floor_option()

    @classmethod
    def example(cls) -> PyramidKV:
        return cls(budget=Budget(50, "%"), floor=8)

    @classmethod
    def identity(cls, length: int) -> PyramidKV:
        return cls(budget=Budget(length), window=min(8, length))

    def tokens(self, model: AdaptedModel, layer: LayerFacts, length: int, taken: int) -> int:
        order = [each.index for each in full_layers(model)]
        # Beyond a recipe's near window the pyramid stands on what every layer holds of it.
        base = taken or self.window
        cap = layer_tokens(self.budget, model, length, base + self.floor)
        budgets = pyramid(cap, length, base, len(order), self.beta)
        return budgets[order.index(layer.index)]


def pyramid(cap: int, length: int, window: int, layers: int, beta: float) -> list[int]:
    """Tokens each layer holds, lowest layer first; they sum to `layers * cap` at most.

    cap: mean tokens of a layer; one that is below the window or above the length is given to all.
    """
    spare = cap - window
    if spare <= 0 or length < max(cap, 2 * spare) or length == cap or layers == 1:
        return [cap] * layers
    low = spare / beta
    high = 2 * spare - low
    if high > length - window:
        high = length - window
        low = 2 * spare - high
    found, exact, given = [], 0.0, 0
    for layer in range(layers):
        exact += high - layer * (high - low) / (layers - 1)
        # A hair above, because the exact sum is a whole number that floats may just miss.
        tokens = int(exact + 1e-6) - given
        given += tokens
        found.append(tokens + window)
    return found


__all__ = ["PyramidKV", "pyramid"]
