"""What a chat template puts around a message."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from lengthwise.errors import LengthwiseError

# Stands for the message: a private character, which no template changes.
_MARK = "\ue0f1"


def around_message(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What a chat template puts before and behind the one message of the user's, as text.

    Args:
        tokenizer: the model's; two empty texts where it has no template.

    Raises:
        LengthwiseError: for a template that changes what it is given, or shows it twice.
    """
    if not getattr(tokenizer, "chat_template", None):
        return "", ""
    message = {"role": "user", "content": _MARK}
    rendered = str(
        tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    )
    found = rendered.split(_MARK)
    if len(found) != 2:
        raise LengthwiseError(
            "the chat template shows a message otherwise than as it was given, so it cannot be cut "
            "around it; give the documents and questions as token ids"
        )
    return found[0], found[1]


__all__ = ["around_message"]
