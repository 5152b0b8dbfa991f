"""What the tokens behind a text attend to in it, in one layer, without a square of scores.

The text is read as ever, in chunks by the fastest kernel. The tokens behind it are read aside, and
their probabilities alone are made, from the queries and keys of one layer.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from torch import Tensor

from lengthwise.engine.attention.scores import head_sums
from lengthwise.engine.kernels.part import Part
from lengthwise.engine.kv_cache.aside import read_aside
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import Refused
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts


def regard(sequence: Sequence, tokens: Seq[int]) -> Tensor:
    """Probability that tokens behind a text give to it and to each other, mean over heads.

    It is that of the last layer whose queries see the whole text. The sequence is left as it was.

    Args:
        sequence: that has read the text, under the full plan.
        tokens: ids, at least one, which stand behind it.

    Returns:
        float32 `[tokens, text + tokens]`, on the CPU. A row is the softmax of one token; where the
            model has sinks, less than 1 in sum.

    Raises:
        Refused: where no layer sees the whole text.
    """
    wanted = last_that_sees(sequence.model, len(sequence) + len(tokens))
    found: list[Tensor] = []

    def watch(layer: LayerFacts, query: Tensor, held: Tensor, new: Tensor) -> None:
        if layer.index != wanted.index:
            return
        # Values are not looked at.
        parts = [Part(query, held, held), Part(query, new, new, causal=True)]
        found.append(head_sums(parts, layer.scaling, layer.softcap, layer.sinks))

    read_aside(sequence, tokens, watch, windows=True)
    (sums,) = found
    return (sums / wanted.num_heads).cpu()


def last_that_sees(model: AdaptedModel, tokens: int) -> LayerFacts:
    """The last layer whose queries see all of a text.

    Args:
        model: whose layers are looked at.
        tokens: of the text.

    Raises:
        Refused: where there is none.
    """
    windows = [layer.window for layer in model.layers]
    for layer in reversed(model.layers):
        if layer.window is None or layer.window >= tokens:
            return layer
    raise Refused(
        f"no layer of {model.family} sees a text of {tokens:,} tokens: the widest window has "
        f"{max(window or 0 for window in windows):,}",
        "give a shorter text, such as a smaller chunk and budget; or take bm25, which compares "
        "words",
    )


__all__ = ["last_that_sees", "regard"]
