"""Which modules would draw random numbers while they are in training mode."""

from __future__ import annotations

from torch import nn

# Settings of modules of transformers that act in training mode alone, by parts of their names:
# attention_dropout, resid_pdrop, layerdrop, router_jitter_noise, input_jitter_noise.
_NAMES = ("drop", "jitter")


def dropping(module: nn.Module) -> str | None:
    """What would be random in this module in training mode, as `name=value`; None if nothing."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return f"dropout={module.p:g}" if module.p > 0 else None
    for name, value in vars(module).items():
        if type(value) is float and value > 0 and any(part in name for part in _NAMES):
            return f"{name}={value:g}"
    return None
