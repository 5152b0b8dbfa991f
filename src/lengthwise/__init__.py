"""lengthwise: one axis of language models, how long the sequence is.

Any published method for long inputs, alone or combined in a recipe, on stock transformers models,
measured side by side.

    model = lengthwise.load()                   # the embedded model, a folder, a GGUF file, a name
    model = lengthwise.wrap(model, tokenizer)   # one that you hold already
    document = lengthwise.read("report.pdf")    # also Word, HTML, text, code; folders; several

    model.generate(f"{document}\\n\\nWho signed it?", recipe="snapkv(budget=25%) + lookup").text
    for piece in model.stream("Once upon a time"):
        print(piece, end="")
    lengthwise.compare(model, document, "Who signed it?", ["snapkv", "kivi", "lookup"])

`load`, `wrap`, `check` and `drafting_model` take models; `read` takes files; `Model.generate`,
`generate_batch`, `stream`, `astream` and `score` run recipes; `compare` measures them;
`custom_generate` is the way in from `generate` of transformers. Whatever a user can get wrong is a
`LengthwiseError` of one line.
"""

from __future__ import annotations

# typing and importlib would be most of what `import lengthwise` costs; checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lengthwise.api import Model, check, load, wrap
    from lengthwise.document import Document
    from lengthwise.engine.speculative.loading import drafting_model
    from lengthwise.errors import LengthwiseError
    from lengthwise.evaluation.compare.comparison import compare
    from lengthwise.evaluation.compare.results import Comparison
    from lengthwise.evaluation.documents.folders import read
    from lengthwise.generation import Generation
    from lengthwise.hf_generate import custom_generate
    from lengthwise.recipes import Recipe
    from lengthwise.streams import AsyncStream, Stream

_WHERE = {
    "AsyncStream": "lengthwise.streams",
    "Comparison": "lengthwise.evaluation.compare.results",
    "Document": "lengthwise.document",
    "Generation": "lengthwise.generation",
    "LengthwiseError": "lengthwise.errors",
    "Model": "lengthwise.api",
    "Recipe": "lengthwise.recipes",
    "Stream": "lengthwise.streams",
    "check": "lengthwise.api",
    "compare": "lengthwise.evaluation.compare.comparison",
    "custom_generate": "lengthwise.hf_generate",
    "drafting_model": "lengthwise.engine.speculative.loading",
    "load": "lengthwise.api",
    "read": "lengthwise.evaluation.documents.folders",
    "wrap": "lengthwise.api",
}

__all__ = [
    "AsyncStream",
    "Comparison",
    "Document",
    "Generation",
    "LengthwiseError",
    "Model",
    "Recipe",
    "Stream",
    "check",
    "compare",
    "custom_generate",
    "drafting_model",
    "load",
    "read",
    "wrap",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: nothing that can do without it should wait for it.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What there is, imported or not: `help` and editors list it."""
    return sorted({*globals(), *__all__})
