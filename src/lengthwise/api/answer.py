"""`lengthwise.answer`: documents, a question and a recipe; out come an answer and its sources."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, replace
from os import PathLike
from typing import Unpack

from lengthwise import recipes
from lengthwise.api.asking import require_one
from lengthwise.api.document_prompt import DocumentPrompt, build_prompt
from lengthwise.api.generation import Generation, Options, Source
from lengthwise.api.given import shown_as
from lengthwise.api.model import Model
from lengthwise.api.remote_model import RemoteModel, asked_as, prompting_alone
from lengthwise.api.text_model import LocalText
from lengthwise.documents.document import Document
from lengthwise.documents.folders import document_from
from lengthwise.engine import loop
from lengthwise.errors import LengthwiseError
from lengthwise.methods.base import Method
from lengthwise.methods.prompts import PromptText, TextModel, whole
from lengthwise.recipes import Recipe, RecipeLike


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt as a recipe wants it: what is read, and what it took to find it.

    text: passages and question. ids: the prompt's. tokens_read, seconds: of what ran before.
    """

    text: PromptText
    ids: DocumentPrompt
    tokens_read: int
    seconds: float


@shown_as(Model.generate, without=("special",))
def answer(
    model: Model | RemoteModel,
    document: str | PathLike[str] | Document | Seq[PathLike[str] | Document] | None,
    question: str,
    recipe: RecipeLike = "full",
    *,
    stream: Callable[[str], None] | None = None,
    **options: Unpack[Options],
) -> Generation:
    """Answers a question about a document.

    A prompting method of the recipe says what is read of it; without one all is.

    Args:
        model: of `lengthwise.load` or `lengthwise.wrap`, with a tokenizer; or of
            `lengthwise.connect`, for recipes that only choose what is read.
        document: a text, a pathlib.Path, what `lengthwise.read` made of one path or several, or a
            list of paths and documents. None: the Python language reference.
        question: what is asked of it.
        recipe: such as "bm25(budget=2048) + kivi(bits=4)".
        stream: called with each piece of the answer as it comes.
        **options: as in `Model.generate`.

    Returns:
        The answer, its `sources`, and its costs: `ttft_s` and `tokens_read` count all that was done
            to write the prompt.

    Raises:
        LengthwiseError: for what is no document or question, and as `Model.generate` does.
    """
    require_one(recipe)
    parsed = recipes.recipe_of(recipe)
    given = [document_from(document)]
    if not isinstance(question, str) or not question.strip():
        raise LengthwiseError(f"question={question!r}: give a text that is not empty")
    if isinstance(model, RemoteModel):
        return _asked_of(model, parsed, given, question, stream, options)
    rest = parsed.after_prompting
    # What is wrong with the recipe is said before anything is read.
    recipes.resolve(parsed, model.adapted)
    written = write_prompt(model, parsed.prompting, given, question, options.get("chunk"))
    ids = [*written.ids.prefix, *written.ids.suffixes[0]]
    found = model.generate(ids, rest, stream=stream, **options)
    found.metrics.ttft_s += written.seconds
    found.metrics.tokens_read = len(ids) + written.tokens_read
    found.metrics.notes += written.text.notes
    return replace(found, sources=sources_of(written.text, given))


def prompt_text(
    reader: TextModel, method: Method | None, documents: Seq[Document], question: str
) -> PromptText:
    """What a method reads of documents.

    Args:
        reader: the model that it may ask.
        method: of prompting/; None reads all.
        documents: at least one.
        question: what is asked.
    """
    texts = [document.text for document in documents]
    if method is None:
        return PromptText(whole(texts), question)
    return method.write_prompt(texts, question, reader)


def write_prompt(
    model: Model, method: Method | None, documents: Seq[Document], question: str,
    chunk: int | None = None,
) -> Written:  # fmt: skip
    """The prompt that a method makes of documents and a question.

    Args:
        model: that will read it.
        method: of prompting/; None reads all.
        documents: at least one.
        question: what is asked.
        chunk: tokens of a prefill forward; None leaves it to the device.

    Raises:
        Refused: as the method does.
    """
    reader = LocalText(model, chunk=chunk)
    begin = time.perf_counter()
    text = prompt_text(reader, method, documents, question)
    loop.synchronize(model.adapted.device)
    seconds = time.perf_counter() - begin
    ids = build_prompt(model, model.encode(text.text, special="text"), [text.question])
    return Written(text, ids, reader.tokens_read, seconds)


def sources_of(text: PromptText, documents: Seq[Document]) -> tuple[Source, ...]:
    """The passages of a prompt, by the names of the files in which they stand.

    Args:
        text: the prompt.
        documents: that it was made of.
    """
    found: list[Source] = []
    for each in text.passages:
        if each.document is None:
            found.append(Source("", each.text))
        else:
            places = documents[each.document].places(each.start, each.stop)
            found += [Source(*place) for place in places]
    return tuple(found)


def _asked_of(
    model: RemoteModel, recipe: Recipe, documents: Seq[Document], question: str,
    stream: Callable[[str], None] | None, options: Options,
) -> Generation:  # fmt: skip
    """The answer of a model behind a server, to a prompt that is written here."""
    method, asked = prompting_alone(model, recipe), asked_as(model, options)
    before, begin = model.tokens_read, time.perf_counter()
    text = prompt_text(model, method, documents, question)
    seconds = time.perf_counter() - begin
    found = model.ask(text.text, text.question, asked, stream)
    found.metrics.ttft_s += seconds
    found.metrics.tokens_read = model.tokens_read - before
    found.metrics.notes += [*text.notes, *model.notes]
    return replace(found, sources=sources_of(text, documents))


__all__ = ["Written", "answer", "prompt_text", "sources_of", "write_prompt"]
