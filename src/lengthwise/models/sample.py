"""The tokens that a model is compared with itself on."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.quantised import numbers

TOKENS = 32
# Tokens behind the edge of a window, or of a switch.
BEHIND = 16
# Tokens times parameters that a comparison may cost more than TOKENS for, to reach past a window.
AFFORDABLE = 2e11

TEXT = """The keeper of the lighthouse wrote down every ship that passed: its name, its flag, the
hour, and the weather. On 14 March he counted nine ships; on 15 March only two, for the fog had
come. "Nobody reads these books," said his daughter. "Then nobody will know what we saw," he
answered, and wrote: two ships, fog, wind from the north."""


def count_of(adapted: AdaptedModel) -> int:
    """Tokens to compare: past every window of the model's own that is affordable."""
    size = numbers(adapted.model)
    most = AFFORDABLE / max(size, 1)
    wanted = [layer.window + BEHIND for layer in adapted.layers if layer.window is not None]
    found = max([TOKENS, *(count for count in wanted if count <= min(most, 2048))])
    return min(found, adapted.trained_length)


def sample_ids(adapted: AdaptedModel, count: int) -> Tensor:
    """Tokens int64 `[count]` as texts have them: of TEXT where there is a tokenizer, else common
    ids of which some follow others again and again."""
    if adapted.tokenizer is not None:
        found = list(adapted.tokenizer.encode(TEXT))
        if found and max(found) < adapted.vocab_size:
            ids = (found * (count // len(found) + 1))[:count]
            return torch.tensor(ids, device=adapted.device)
    generator = torch.Generator().manual_seed(1)
    first = min(3, adapted.vocab_size - 1)
    known = max(1, min(adapted.vocab_size, 2000) - first)
    # Zipf's law over ids, and every third token what followed its predecessor before.
    drawn = torch.rand(count, generator=generator)
    ids = (known**drawn - 1).long().clamp(max=known - 1).add(first).tolist()
    after: dict[int, int] = {}
    for at in range(1, count):
        if at % 3 == 0:
            ids[at] = after.get(ids[at - 1], ids[at])
        after[ids[at - 1]] = ids[at]
    return torch.tensor(ids, device=adapted.device)
