"""lengthwise: one axis of language models, how long the sequence is.

Any published method for long inputs, alone or combined in a recipe, on stock transformers models,
measured side by side.

    model = lengthwise.load()                   # the embedded model, a folder, a GGUF file, a name
    model = lengthwise.wrap(model, tokenizer)   # one that you hold already
    document = lengthwise.read("report.pdf")    # also Word, HTML, text, code; folders; several

    model.generate(f"{document}\\n\\nWho signed it?", recipe="snapkv(budget=25%) + lookup").text
    for piece in model.stream("Once upon a time"):
        print(piece, end="")
    session = model.read(document)              # once, and then session.ask(...) many times
    lengthwise.answer(model, document, "Who signed it?", "bm25(budget=2048)")
    lengthwise.compare(model, document, "Who signed it?", ["snapkv", "kivi", "lookup"])
    lengthwise.evaluate(model, ["ruler", "needle"], ["full", "snapkv"], lengths=[4096])
    lengthwise.write(model, "A guide to growing vegetables.", words=5000)
    lengthwise.label(model, texts, "Is it a complaint?", ["yes", "no"])

`load`, `wrap`, `check`, `machine` and `drafting_model` take models, `connect` opens one behind a
server; `read` takes files.
`Model.generate`, `generate_batch`, `stream`, `astream`, `score` and `rank` run recipes; `answer`
also runs those that choose what is read of a document; `compare` measures them, `evaluate` scores
them on benchmarks. `write` plans a long text and writes it part by part; `label` asks about many
items a prompt and votes. `custom_generate` is the
way in from `generate` of transformers. `Model.read`, `Model.read_apart` and `Model.chat` keep what
was read; `open_session` opens what was saved of it, `stream_session` loads it over a link in time.
`Pieces` finds it again in other documents, `join` puts together what was read apart, and `compose`
what `lengthwise cartridge train` trained. `open_encoder` opens what `lengthwise soft train` trained
to read documents. `Model.bytes` gives laws of the next byte, `ByteEnsemble` the mean of several
models'. Whatever a user can get wrong is a `LengthwiseError` of one line.
"""

from __future__ import annotations

from lengthwise._utils.version import __version__ as __version__

# typing and importlib would be most of what `import lengthwise` costs; checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lengthwise.api.answer import answer
    from lengthwise.api.apart import join
    from lengthwise.api.byte_ensemble import ByteEnsemble
    from lengthwise.api.cartridge import compose
    from lengthwise.api.chat import Chat
    from lengthwise.api.connecting import connect
    from lengthwise.api.generation import Generation
    from lengthwise.api.hf_generate import custom_generate
    from lengthwise.api.labelling import Labels, label
    from lengthwise.api.loading import check, load, wrap
    from lengthwise.api.machine import machine
    from lengthwise.api.model import Model
    from lengthwise.api.pieces import Pieces
    from lengthwise.api.session import Session
    from lengthwise.api.session_file import open_session
    from lengthwise.api.session_stream import stream_session
    from lengthwise.api.soft_context import ContextEncoder, open_encoder
    from lengthwise.api.streams import AsyncStream, Stream
    from lengthwise.api.writing import LongText, write
    from lengthwise.documents.document import Document
    from lengthwise.documents.folders import read
    from lengthwise.engine.speculative.loading import drafting_model
    from lengthwise.errors import LengthwiseError
    from lengthwise.evaluation.compare.comparison import compare
    from lengthwise.evaluation.compare.results import Comparison
    from lengthwise.evaluation.runs.evaluate import Evaluation, evaluate
    from lengthwise.recipes import Recipe

_WHERE = {
    "AsyncStream": "lengthwise.api.streams",
    "ByteEnsemble": "lengthwise.api.byte_ensemble",
    "Chat": "lengthwise.api.chat",
    "Comparison": "lengthwise.evaluation.compare.results",
    "ContextEncoder": "lengthwise.api.soft_context",
    "Document": "lengthwise.documents.document",
    "Evaluation": "lengthwise.evaluation.runs.evaluate",
    "Generation": "lengthwise.api.generation",
    "Labels": "lengthwise.api.labelling",
    "LengthwiseError": "lengthwise.errors",
    "LongText": "lengthwise.api.writing",
    "Model": "lengthwise.api.model",
    "Pieces": "lengthwise.api.pieces",
    "Recipe": "lengthwise.recipes",
    "Session": "lengthwise.api.session",
    "Stream": "lengthwise.api.streams",
    "answer": "lengthwise.api.answer",
    "check": "lengthwise.api.loading",
    "compare": "lengthwise.evaluation.compare.comparison",
    "compose": "lengthwise.api.cartridge",
    "connect": "lengthwise.api.connecting",
    "custom_generate": "lengthwise.api.hf_generate",
    "drafting_model": "lengthwise.engine.speculative.loading",
    "evaluate": "lengthwise.evaluation.runs.evaluate",
    "join": "lengthwise.api.apart",
    "label": "lengthwise.api.labelling",
    "load": "lengthwise.api.loading",
    "machine": "lengthwise.api.machine",
    "open_encoder": "lengthwise.api.soft_context",
    "open_session": "lengthwise.api.session_file",
    "read": "lengthwise.documents.folders",
    "stream_session": "lengthwise.api.session_stream",
    "wrap": "lengthwise.api.loading",
    "write": "lengthwise.api.writing",
}

__all__ = [
    "AsyncStream",
    "ByteEnsemble",
    "Chat",
    "Comparison",
    "ContextEncoder",
    "Document",
    "Evaluation",
    "Generation",
    "Labels",
    "LengthwiseError",
    "LongText",
    "Model",
    "Pieces",
    "Recipe",
    "Session",
    "Stream",
    "answer",
    "check",
    "compare",
    "compose",
    "connect",
    "custom_generate",
    "drafting_model",
    "evaluate",
    "join",
    "label",
    "load",
    "machine",
    "open_encoder",
    "open_session",
    "read",
    "stream_session",
    "wrap",
    "write",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: nothing that can do without it should wait for it.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What there is, imported or not: `help` and editors list it."""
    return sorted({*globals(), *__all__})
