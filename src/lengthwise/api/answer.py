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
from lengthwise.api.text_model import LocalText
from lengthwise.documents.document import Document
from lengthwise.documents.folders import document_from
from lengthwise.engine import loop
from lengthwise.errors import LengthwiseError
from lengthwise.methods.base import Method
from lengthwise.methods.prompts import PromptText, whole
from lengthwise.recipes import RecipeLike


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt as a recipe wants it: what is read, and what it took to find it.

    text: passages and question. ids: the prompt's. tokens_read, seconds: of what ran before.
    """

    text: PromptText
    ids: DocumentPrompt
    tokens_read: int
    seconds: float

    def sources(self, documents: Seq[Document]) -> tuple[Source, ...]:
        """The passages, by the names of the files in which they stand."""
        found: list[Source] = []
        for each in self.text.passages:
            if each.document is None:
                found.append(Source("", each.text))
            else:
                places = documents[each.document].places(each.start, each.stop)
                found += [Source(*place) for place in places]
        return tuple(found)


@shown_as(Model.generate, without=("special",))
def answer(
    model: Model,
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
        model: of `lengthwise.load` or `lengthwise.wrap`, with a tokenizer.
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
    rest = parsed.after_prompting
    # What is wrong with the recipe is said before anything is read.
    recipes.resolve(parsed, model.adapted)
    written = write_prompt(model, parsed.prompting, given, question, options.get("chunk"))
    ids = [*written.ids.prefix, *written.ids.suffixes[0]]
    found = model.generate(ids, rest, stream=stream, **options)
    found.metrics.ttft_s += written.seconds
    found.metrics.tokens_read = len(ids) + written.tokens_read
    return replace(found, sources=written.sources(given))


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
    texts = [document.text for document in documents]
    reader = LocalText(model, chunk=chunk)
    begin = time.perf_counter()
    text = PromptText(whole(texts), question)
    if method is not None:
        text = method.write_prompt(texts, question, reader)
    loop.synchronize(model.adapted.device)
    seconds = time.perf_counter() - begin
    ids = build_prompt(model, model.encode(text.text, special="text"), [text.question])
    return Written(text, ids, reader.tokens_read, seconds)


__all__ = ["Written", "answer", "write_prompt"]
