"""lengthwise: one axis of language models, how long the sequence is.

Any published method for long inputs, alone or combined in a recipe, on stock transformers models,
measured side by side. See `load`, `wrap`, `check`, `compare` and `Model.generate`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lengthwise.api import Generation, Model, check, load, wrap
    from lengthwise.hf_generate import custom_generate
    from lengthwise.measure.compare import compare
    from lengthwise.methods.drafting.guessing_models import drafting_model

_WHERE = {
    "Generation": "lengthwise.api",
    "Model": "lengthwise.api",
    "check": "lengthwise.api",
    "compare": "lengthwise.measure.compare",
    "custom_generate": "lengthwise.hf_generate",
    "drafting_model": "lengthwise.methods.drafting.guessing_models",
    "load": "lengthwise.api",
    "wrap": "lengthwise.api",
}

__all__ = [
    "Generation",
    "Model",
    "check",
    "compare",
    "custom_generate",
    "drafting_model",
    "load",
    "wrap",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: nothing that can do without it should wait for it.
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
