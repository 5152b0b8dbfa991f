"""The laws of prompting methods: what is read is the user's own text, and no more than was asked.

They run on a tiny random model that reads letters, one a token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from lengthwise.api.model import Model
from lengthwise.api.text_model import LocalText
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.options import options
from lengthwise.methods.prompts import PromptText, joined, whole
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.load import Provenance
from lengthwise.testing.laws import fail
from lengthwise.testing.tiny import tiny_model

DOCUMENTS = (
    "The harbour of Aldby has two piers. Dr. Ames counts ships there, e.g. the Heron. It left on "
    "Monday!\n\nNobody saw it again. Was it the fog? The keeper says so.",
    "# Cranes\n\nCranes lift 3.5 tons each.\n\nTwo of them are red; one stands by the Heron's "
    "berth. Its driver is called Bo.",
)
QUESTION = "Where did the Heron lie?"
OTHER = "Who drives the red crane?"
BUDGETS = (Budget(5), Budget(40), Budget(100), Budget(10, "%"), Budget(60, "%"))


@lru_cache(maxsize=1)
def letters() -> Model:
    """A tiny random model whose tokens are letters; shared, not to be changed."""
    signs = "\n\t" + "".join(map(chr, range(32, 127)))
    vocab = {sign: number for number, sign in enumerate(("<pad>", "<s>", "</s>", "<unk>", *signs))}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    adapted = adapt(tiny_model("llama", max_position_embeddings=4096), tokenizer=wrapped)
    name = Provenance("letters", adapted.dtype, adapted.device, "wrapped", 4096)
    return Model(adapted, wrapped, name)


def check_prompt_identity(cls: type[Method], model: AdaptedModel) -> None:
    """At its identity a method reads all of the documents, and asks the question as it was asked.

    Args:
        cls: the method, at `cls.identity`; one without an identity is not asked.
        model: for the messages alone.

    Raises:
        ConformanceError: where the text differs.
    """
    text = joined(whole(DOCUMENTS))
    method = cls.identity(len(text))
    if method is None:
        return
    found = method.write_prompt(DOCUMENTS, QUESTION, LocalText(letters()))
    if found.text != text or found.question != QUESTION:
        fail(cls, model, f"{method} does not read the documents as they are")


def check_prompt_budget(cls: type[Method], model: AdaptedModel) -> None:
    """What is read of the documents fits the budget, and is not nothing; bytes are refused.

    Args:
        cls: the method, at budgets of tokens and shares.
        model: for the messages alone.

    Raises:
        ConformanceError: where it is more, or empty.
    """
    for method, budget in _budgets(cls):
        reader = LocalText(letters())
        most = budget.tokens(reader.count(joined(whole(DOCUMENTS))), 1)
        count = reader.count(_written(method).text)
        if not 0 < count <= most:
            fail(cls, model, f"{method} reads {count} tokens of documents, allowed are 1 to {most}")
        try:
            _written(_at(method, Budget(1, "KB")))
        except RecipeError:
            continue
        fail(cls, model, f"{method} takes a budget in bytes, which text has none of")


def check_prompt_sources(cls: type[Method], model: AdaptedModel) -> None:
    """Every passage that is said to stand in a document stands there.

    Args:
        cls: the method, at its example and at several budgets.
        model: for the messages alone.

    Raises:
        ConformanceError: where a document has another text there.
    """
    for method in (cls.example(), *(each for each, _ in _budgets(cls))):
        for each in _written(method).passages:
            if each.document is None:
                continue
            there = DOCUMENTS[each.document][each.start : each.stop]
            if there != each.text or not each.text:
                fail(cls, model, f"{method} says {each.text!r} stands where {there!r} does")


def check_prompt_repeats(cls: type[Method], model: AdaptedModel) -> None:
    """The same documents and question give the same prompt, whatever was asked between.

    Args:
        cls: the method, at its example.
        model: for the messages alone.

    Raises:
        ConformanceError: where it changes.
    """
    method = cls.example()
    first = _written(method)
    method.write_prompt(DOCUMENTS[::-1], OTHER, LocalText(letters()))
    if _written(method) != first or _written(cls.example()) != first:
        fail(cls, model, f"{method} writes another prompt the second time")


class _TextAlone:
    """A model that gives text alone."""

    def __init__(self, inner: LocalText) -> None:
        self.name, self.trained_length = "letters", inner.trained_length
        self.spans, self.count, self.write = inner.spans, inner.count, inner.write


def check_prompt_text_alone(cls: type[Method], model: AdaptedModel) -> None:
    """Before a model that gives text alone a method runs, or is refused with a way out.

    Args:
        cls: the method, at its example.
        model: for the messages alone.

    Raises:
        ConformanceError: where it ends otherwise.
    """
    method = cls.example()
    try:
        method.write_prompt(DOCUMENTS, QUESTION, _TextAlone(LocalText(letters())))
    except Refused as refusal:
        if not refusal.remedy:
            fail(cls, model, f"is refused without a way out: {refusal}")
    except LengthwiseError as error:
        fail(cls, model, f"{method} before a model of text alone: {error}")


def _budgets(cls: type[Method]) -> Iterator[tuple[Method, Budget]]:
    """The example at several budgets, where it has one."""
    if any(each.name == "budget" and each.type is Budget for each in options(cls)):
        for budget in BUDGETS:
            yield _at(cls.example(), budget), budget


def _at(method: Method, budget: Budget) -> Method:
    values: dict[str, Any] = {"budget": budget}
    return dataclasses.replace(method, **values)


def _written(method: Method) -> PromptText:
    return method.write_prompt(DOCUMENTS, QUESTION, LocalText(letters()))


__all__ = [
    "check_prompt_budget", "check_prompt_identity", "check_prompt_repeats",
    "check_prompt_sources", "check_prompt_text_alone", "letters",
]  # fmt: skip
