"""Hidden state optimisation: what a prompt left is moved a step towards the text that followed it.

Yoshida and Gimpel, "Reconsidering the Past: Optimizing Hidden States in Language Models", Findings
of EMNLP 2021, arXiv:2112.08653; chapter 4 of the thesis in `conditional_beam`.

    h' = h - Adam step of size lr along d/dh sum_t -log p(x_t | h, x_<t),    t in the last `window`

h are the keys and values of all tokens before the last `window` of the prompt. The tokens that tell
the loss have been read already, so nothing that is to be said is known. The window itself is then
read again behind h'. Weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from lengthwise.engine import loop
from lengthwise.engine.given import entries_of, put_entries
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.frozen import frozen


def optimise(sequence: Sequence, window: int, lr: float) -> Tensor:
    """Moves what a sequence holds of its prompt, one step.

    Args:
        sequence: that read and ended its prompt, and holds all of it plain.
        window: last tokens of the prompt, by which the others are judged.
        lr: size of the step.

    Returns:
        The logits `[vocab]` behind the prompt, anew; as they were for a prompt within the window.
    """
    tokens, count = sequence.tokens_from(0), len(sequence) - window
    assert sequence.last_logits is not None
    if count < 1 or not lr:
        return sequence.last_logits
    before = [entries.slice(0, count) for entries in entries_of(sequence)]
    moved = _step(sequence.model, before, tokens[count:], lr)
    new = sequence.empty()
    put_entries(new, tokens[:count], moved)
    logits = loop.prefill(new, tokens[count:])
    new.end_prefill()
    sequence.become(new)
    return logits


def _step(
    model: AdaptedModel, before: Seq[KVEntries], window: Seq[int], lr: float
) -> list[KVEntries]:
    """The entries, one step of Adam on."""
    with torch.inference_mode(False), torch.enable_grad(), frozen(model.model):
        held = [
            tensor.float().clone().requires_grad_()
            for entries in before
            for tensor in (entries.key, entries.value)
        ]
        cache = DynamicCache(config=model.model.config.get_text_config())
        for layer in range(len(before)):
            key, value = held[2 * layer : 2 * layer + 2]
            cache.update(key.to(model.dtype)[None], value.to(model.dtype)[None], layer)
        ids = torch.tensor([list(window)], device=model.device)
        first = len(before[0])
        positions = torch.arange(first, first + len(window), device=model.device)[None]
        logits = model.model(
            input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits[0]
        loss = F.cross_entropy(logits[:-1].float(), ids[0, 1:], reduction="sum")
        optimiser = torch.optim.Adam(held, lr=lr)
        loss.backward()
        optimiser.step()
    pairs = zip(held[::2], held[1::2], before, strict=True)
    return [KVEntries(key.detach(), value.detach(), old.index) for key, value, old in pairs]


__all__ = ["optimise"]
