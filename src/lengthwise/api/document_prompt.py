"""Prompts for questions about one document: a prefix that all of them share, then each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Shield
from lengthwise.errors import LengthwiseError

_MARK = "\u241e"


@dataclass(frozen=True)
class DocumentPrompt:
    """prefix: token ids before the question (the document among them); suffixes: one a question."""

    prefix: tuple[int, ...]
    questions: tuple[str, ...]
    suffixes: tuple[tuple[int, ...], ...]


def build_prompt(
    model: HeldModel, document: Sequence[int], questions: Sequence[str]
) -> DocumentPrompt:
    """The document's token ids between the head and tail of the model's chat template.

    Where the tokenizer has no template, document, question and "Answer:" follow one another. A
    blank line stands between a document and a question.

    Args:
        model: whose tokenizer and template are used.
        document: token ids; none for a question alone.
        questions: at least one.

    Returns:
        One prefix and a suffix a question.

    Raises:
        LengthwiseError: for an empty question, or one longer than the model's trained length.
    """
    found = template_prompt(model._tokenizer(), document, questions)
    for ids in found.suffixes:
        if len(ids) > model.trained_length:
            raise LengthwiseError(
                f"a question has {len(ids):,} tokens and {model.name} was trained to read "
                f"{model.trained_length:,}; put long text into the document"
            )
    return found


def template_prompt(
    tokenizer: Any, document: Sequence[int], questions: Sequence[str]
) -> DocumentPrompt:
    """What `build_prompt` writes, for a tokenizer alone.

    Args:
        tokenizer: of transformers.
        document: token ids.
        questions: at least one, of any length.

    Raises:
        LengthwiseError: for an empty question.
    """
    head, tail = "", "\n\n{question}\nAnswer:"
    if getattr(tokenizer, "chat_template", None):
        rendered = str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": f"{_MARK}\n\n{{question}}"}],
                add_generation_prompt=True, tokenize=False,
            )
        )  # fmt: skip
        head, tail = rendered.split(_MARK)
    if len(document) == 0:
        tail = tail.removeprefix("\n\n")
    suffixes = []
    for question in questions:
        if not question.strip():
            raise LengthwiseError("a question is empty; write what you want to know after -q")
        shield = Shield(tokenizer)
        suffixes.append(tuple(shield.encode(tail.replace("{question}", shield.text(question)))))
    before = tokenizer.encode(head, add_special_tokens=False) if head else []
    body = list(document)
    if before and body[:1] == [tokenizer.bos_token_id]:
        # The template has begun the text already, where it begins texts at all.
        del body[0]
    return DocumentPrompt((*before, *body), tuple(questions), tuple(suffixes))
