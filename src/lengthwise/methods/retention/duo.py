"""DuoAttention: heads with large gates keep everything, the others first and latest tokens.

Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming
Heads", ICLR 2025, arXiv:2410.10819.

Gates are trained once for a model (`lengthwise calibrate duo`, see `methods/gates.py`). The key
heads with the largest ones, a share over all layers, are retrieval heads and keep every token.
The others are streaming heads, from the first token on:

    query i sees   j < sinks,  and i - recent < j <= i,   all where they were born

So what streaming heads hold, and what reading a prompt costs them, does not grow with the text.

Ours: a query sees just its `recent` tokens in a prompt, too, whatever the chunks. In the released
code all of a chunk and what is held before it are seen, so that chunks decide what is read. Ties of
gates go to the earlier head, and there to chance.

Defaults are those of the released code: half of the heads, which the paper gives to models whose
query heads share key heads (a quarter to others), and 64 + 256 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from lengthwise.engine.kv_cache.head_policy import HeadTable
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.gates import streaming_table
from lengthwise.methods.retention.counting import full_layers, needs_full_layers
from lengthwise.methods.shares import whole_and_rest

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Duo(Method):
    """Retrieval heads keep everything, streaming heads `sinks` + `recent` tokens."""

    name: ClassVar[str] = "duo"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads",
        "Xiao et al.",
        2025,
        arxiv="2410.10819",
        venue="ICLR",
        code="https://github.com/mit-han-lab/duo-attention",
    )

    heads: float = option(0.5, "share of key heads that keep everything", low=0.0, high=1.0)
    sinks: int = option(64, "first tokens that the other heads keep", low=0)
    recent: int = option(256, "latest tokens that they keep", low=1)

    @classmethod
    def identity(cls, length: int) -> Duo:
        return cls(heads=1.0)

    @classmethod
    def example(cls) -> Duo:
        return cls(sinks=2, recent=8)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Duo:
        # Streaming heads keep what they keep by default, or a quarter of the share.
        count = sum(layer.num_kv_heads for layer in full_layers(model))
        usual = min(self.sinks + self.recent, share * length / 4)
        whole, kept = whole_and_rest(count, share, length, usual)
        sinks = min(self.sinks, kept // 5)
        return replace(self, heads=whole / count, sinks=sinks, recent=max(1, kept - sinks))

    def check(self, model: AdaptedModel) -> None:
        needs_full_layers(self.name, model)
        self.head_table(model)

    def head_table(self, model: AdaptedModel) -> HeadTable:
        return streaming_table(model, self.heads, self.sinks, self.recent)


__all__ = ["Duo"]
