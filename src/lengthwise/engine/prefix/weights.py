"""Whether a model's weights are still those that prefixes were read with, asked of every request.

Torch counts the writes to a tensor, but none through its `.data` (as adapters are merged), so the
first numbers of each weight are looked at too: in one copy from its device, and not one a weight.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn

# Numbers of a weight that are looked at.
SAMPLE = 64


@torch.no_grad()
def state_of(model: nn.Module) -> Hashable:
    """What is another where a weight was put in place of another, or written to.

    Args:
        model: its parameters and buffers are looked at.
    """
    # What `parameters` does to leave out those that are tied takes longer than all the rest.
    tables = [table for part in model.modules() for table in (part._parameters, part._buffers)]
    held = [tensor for table in tables for tensor in table.values() if tensor is not None]
    plain: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in held:
        # Of those that are quantised or lie elsewhere there are no numbers to read.
        if type(tensor) in (Tensor, nn.Parameter) and tensor.device.type != "meta":
            first = tensor if tensor.is_contiguous() else tensor[:1]
            plain.setdefault((tensor.device, tensor.dtype), []).append(first.flatten()[:SAMPLE])
    bits = [torch.cat(each).view(torch.uint8).cpu().numpy().tobytes() for each in plain.values()]
    # Tensors of inference mode are not counted.
    counts = [(id(each), 0 if each.is_inference() else each._version) for each in held]
    return (*counts, *bits)


__all__ = ["state_of"]
