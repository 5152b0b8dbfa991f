"""What the tokens behind a text attend to in it, in one layer, without a square of scores.

Text and tokens are read in one forward by the fastest kernel. It ends in the layer that is looked
at: of its queries and keys the probabilities are made, and deeper layers are never run. Nothing is
kept, so what is held is that of one layer, whatever the depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from contextlib import suppress

import torch
from torch import Tensor

from lengthwise.engine.attention.scores import head_sums
from lengthwise.engine.kernels.part import Part
from lengthwise.engine.kv_cache.query_scale import scaled
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.loop import extend
from lengthwise.errors import Refused
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

# Lengths of long texts are multiples of it.
STEP = 64


@torch.no_grad()
def regard(model: AdaptedModel, text: Seq[int], behind: Seq[int], depth: float = 1.0) -> Tensor:
    """Probability that tokens behind a text give to it and to each other, mean over heads.

    Args:
        model: that reads it by full attention.
        text: ids, at least one.
        behind: ids, at least one, which stand behind it.
        depth: as in `layer_that_sees`.

    Returns:
        float32 `[behind, text + behind]`, on the CPU. A row is the softmax of one token; where the
            model has sinks, less than 1 in sum.

    Raises:
        Refused: where no layer sees the whole text, or the model has no positions for it.
    """
    layer = layer_that_sees(model, len(text) + len(behind), depth)
    read = _Read(model, layer.index)
    total = len(text) + len(behind)
    with suppress(_Enough):
        extend([(read, [*text, *behind, *_filler(model, total, behind[-1])], None)], "none")
    query, key = read.seen
    # All that was read, fillers too, so that scores have the same few lengths.
    sees = torch.ones(len(behind), key.shape[1], dtype=torch.bool, device=key.device)
    # Values are not looked at.
    part = Part(query[:, len(text) : total], key, key, mask=sees.tril_(len(text)))
    sums = head_sums([part], layer.scaling, layer.softcap, layer.sinks)
    return (sums[:, :total] / layer.num_heads).cpu()


def _filler(model: AdaptedModel, total: int, token: int) -> list[int]:
    """Tokens that nothing before them sees, which make texts of many lengths a few lengths: what
    kernels hold for each shape would grow with every new one."""
    more = -total % STEP if total >= 4 * STEP else 0
    return [token] * more if total + more <= model.trained_length else []


class _Enough(Exception):
    """The layer that is looked at was reached."""


class _Read(Sequence):
    """What is read in one forward that ends in a layer. seen: queries and keys of that layer."""

    def __init__(self, model: AdaptedModel, wanted: int) -> None:
        super().__init__(model)
        self.wanted = wanted
        self.seen: tuple[Tensor, Tensor]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, metadata: StepMetadata
    ) -> Tensor:
        """Ends the forward in the layer that is looked at; what others are given is forgotten."""
        cache = self.layers[layer]
        if layer == self.wanted:
            here = metadata.on(query.device)
            query = scaled(cache.query_scale, query, here.index)
            inputs = cache._inputs(query, key, value, here)
            self.seen = inputs.near_query, inputs.near_key
            raise _Enough
        out = super().attend(layer, query, key, value, metadata)
        cache.discard()
        return out


def layer_that_sees(model: AdaptedModel, tokens: int, depth: float = 1.0) -> LayerFacts:
    """The deepest layer within a share of the model whose queries see all of a text.

    Args:
        model: whose layers are looked at.
        tokens: of the text.
        depth: share of the layers, from the first on, that are asked; 1 is all.

    Raises:
        Refused: where there is none.
    """
    asked = model.layers[: max(1, math.ceil(depth * len(model.layers)))]
    for layer in reversed(asked):
        if layer.window is None or layer.window >= tokens:
            return layer
    raise Refused(
        f"no layer of {model.family} that may be looked at sees a text of {tokens:,} tokens: the "
        f"widest window has {max(layer.window or 0 for layer in asked):,}",
        "give a shorter text, such as a smaller chunk and budget; or take bm25, which compares "
        "words",
    )


__all__ = ["layer_that_sees", "regard"]
