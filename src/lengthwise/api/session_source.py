"""The source of a session: of what is given to be read, and of what a file says was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from typing import Any

from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt
from lengthwise.api.session_prompt import (
    ApartSource,
    ChatSource,
    IdsSource,
    Source,
    TextSource,
    TrainedSource,
)
from lengthwise.documents.document import Document
from lengthwise.errors import LengthwiseError


def source_of(model: HeldModel, prompt: Prompt, special: str | None = None) -> Source:
    """What was given to be read.

    Args:
        model: that will read it.
        prompt: see `Model.encode`.
        special: see `Model.encode`.

    Raises:
        LengthwiseError: for what is no prompt, and for an empty one.
    """
    if isinstance(prompt, (str, Document)):
        if not str(prompt).strip():
            raise LengthwiseError("the document is empty: there is nothing to read in it")
        if model.tokenizer is None:
            raise LengthwiseError("this model was wrapped without a tokenizer; give token ids")
        return TextSource(str(prompt), special)
    if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], Mapping):
        return ChatSource(tuple(prompt), special)
    return IdsSource(tuple(model.encode(prompt, special)))


def source_from(data: Mapping[str, Any], tokens: Seq[int]) -> Source:
    """The source that `Source.data` was taken of.

    Args:
        data: plain data out of a file.
        tokens: those that were read.

    Raises:
        ValueError: for data that no source gave.
    """
    special = data.get("special")
    if "trained" in data:
        said, count = tuple(dict(each) for each in data["messages"]), int(data["count"])
        if not 0 < count <= len(tokens) or (not said and count != len(tokens)):
            raise ValueError(f"{count} of {len(tokens)} tokens cannot be a cartridge")
        return TrainedSource(tuple(tokens[:count]), dict(data["trained"]), said, special)
    if "text" in data:
        return TextSource(str(data["text"]), special)
    if "texts" in data:
        soft = dict(data["soft"]) if "soft" in data else None
        return ApartSource(tuple(tokens), bool(data["texts"]), special, soft)
    if "messages" in data:
        return ChatSource(tuple(dict(each) for each in data["messages"]), special)
    return IdsSource(tuple(tokens))


__all__ = ["source_from", "source_of"]
