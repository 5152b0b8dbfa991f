"""Turns of a conversation, each encoded as it stands behind the others.

A chat template is asked for whole conversations. What it makes of a system message, and of what
follows one, is found by encoding both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from os.path import commonprefix
from typing import Any

from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Shield, encode_messages
from lengthwise.errors import LengthwiseError

# What stands between a text and a question where there is no chat template.
_BETWEEN = "\n\n"


def has_template(model: HeldModel) -> bool:
    """Whether the model's tokenizer has a chat template."""
    return bool(getattr(model.tokenizer, "chat_template", None))


def system_turn(model: HeldModel, text: str) -> list[int]:
    """Ids of a text in the system's turn, without what comes behind; the text alone where there is
    no chat template.

    Args:
        model: whose tokenizer and template are used.
        text: special tokens written out in it stay text.

    Raises:
        LengthwiseError: without a tokenizer, and for a template that takes no system message.
    """
    if not has_template(model):
        return model.encode(text, "text")
    assert model.tokenizer is not None
    said = [{"role": "system", "content": text}]
    return encode_messages(model.tokenizer, said, generation=False)


def turns_behind(
    model: HeldModel, messages: Seq[Mapping[str, Any]], special: str | None = None
) -> list[int]:
    """Ids of messages as they stand behind a system's turn, up to where the answer begins.

    Args:
        model: whose tokenizer and template are used; without a template, texts follow each other.
        messages: at least one, with `role` and `content`.
        special: see `Model.encode`.

    Raises:
        LengthwiseError: for a template that takes no system message before these.
    """
    if not has_template(model):
        if model.tokenizer is None:
            raise LengthwiseError("this model was wrapped without a tokenizer; give token ids")
        shield = Shield(model.tokenizer)
        text = "".join(f"{_BETWEEN}{each['content']}" for each in messages)
        return shield.encode(text if special == "tokens" else shield.text(text))
    system = {"role": "system", "content": "x"}
    before = system_turn(model, "x")
    whole = model.encode([system, *messages], special)
    if whole[: len(before)] != before:
        raise LengthwiseError(
            "the chat template puts no system message before the others, where a cartridge "
            "stands; take a model whose template does"
        )
    return whole[len(before) :]


def shortened(model: HeldModel, turn: Seq[int], tokens: int) -> list[int]:
    """The first tokens of a system's turn, ended as the template ends it.

    Args:
        model: whose template it is.
        turn: as `system_turn` gave it.
        tokens: how many are kept, at most.

    Raises:
        LengthwiseError: where these are too few for the turn's own beginning and end.
    """
    if len(turn) <= tokens:
        return list(turn)
    if not has_template(model):
        return list(turn[:tokens])
    one, other = (system_turn(model, text)[::-1] for text in ("x", "1"))
    end = list(commonprefix([one, other]))[::-1]
    if tokens <= len(one) - 1:
        raise LengthwiseError(
            f"{tokens} tokens: the system's turn of this chat template takes {len(one) - 1} of "
            f"them for itself; give at least {len(one)}"
        )
    return [*turn[: tokens - len(end)], *end]


__all__ = ["has_template", "shortened", "system_turn", "turns_behind"]
