"""What one recipe replies to samples of a task, and what each reply cost.

Samples of one context that stand behind each other share its reading: it is read once, and each
asks a copy. A prompting method chooses for every question anew, so there nothing is shared. A model
with a prefix cache shares what recipes read alike, too; then no time to the first token is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

from lengthwise import recipes
from lengthwise._utils.messages import ran_out
from lengthwise.api.answer import prompt_text
from lengthwise.api.document_prompt import build_prompt
from lengthwise.api.generation import Generation
from lengthwise.api.model import Model
from lengthwise.api.remote_model import Asked, RemoteModel, prompting_alone
from lengthwise.api.server_errors import ServerError
from lengthwise.api.text_model import LocalText
from lengthwise.documents.document import Document
from lengthwise.errors import ConstraintError, NotFinite, OutOfMemory, Refused
from lengthwise.evaluation.runs.laws import forced_laws
from lengthwise.evaluation.scorers.replies import behind
from lengthwise.evaluation.tasks.benchmark import Law, Sample
from lengthwise.methods.prompts import TextModel


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said, or why nothing was.

    read: tokens read to write the prompt, beside those of the prompt. ttft_s: with the seconds of
    writing the prompt; None where more than a twentieth of the prompt had been read for another.
    seconds: that were spent for it, in the model and in what chooses. laws: those of a task that
    asks for them; what is said is then the likeliest of each.
    """

    said: str = ""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    read: int = 0
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    kv_bytes: int | None = None
    refused: str | None = None
    seconds: float = 0.0
    laws: tuple[Law, ...] = ()


class Replies(Protocol):
    """A recipe on a model. recipe: as it prints."""

    recipe: str

    def of(self, samples: Seq[Sample]) -> Iterator[Reply]:
        """The reply to each sample, in their order."""
        ...

    def laws(self, samples: Seq[Sample]) -> Iterator[Reply]:
        """The laws of each sample's forced pieces, in their order.

        Raises:
            Refused: for a model behind a server.
        """
        ...


def replies_of(model: Model | RemoteModel, recipe: str) -> Replies:
    """What a recipe replies.

    Args:
        model: that runs here, or behind a server.
        recipe: its text.

    Raises:
        RecipeError: where it cannot be parsed.
        Refused: where it cannot run on this model.
    """
    parsed = recipes.recipe_of(recipe)
    if isinstance(model, RemoteModel):
        return _Remote(model, parsed)
    recipes.resolve(parsed, model.adapted)
    return _Local(model, parsed)


class _Local:
    def __init__(self, model: Model, recipe: recipes.Recipe) -> None:
        self.model, self.parsed, self.recipe = model, recipe, str(recipe)
        self._method, self._rest = recipe.prompting, recipe.after_prompting

    def of(self, samples: Seq[Sample]) -> Iterator[Reply]:
        for (context, _), group in groupby(samples, lambda each: (each.context, each.chat)):
            alike = list(group)
            shares = self._method is None and len(alike) > 1 and context
            yield from self._shared(context, alike) if shares else map(self._alone, alike)

    def laws(self, samples: Seq[Sample]) -> Iterator[Reply]:
        for sample in samples:
            assert sample.forced is not None
            begin, reader = time.perf_counter(), LocalText(self.model)
            try:
                prefix, suffix = _prompt(self.model, *_chosen(self._method, sample, reader), sample)
                context = [*prefix, *suffix]
                found = forced_laws(self.model, context, sample.forced, self._rest)
            except Exception as error:
                yield self._lost(error, begin)
                continue
            likeliest = [max(law, key=lambda each, law=law: law[each]) for law in found]  # type: ignore[misc]
            yield Reply(
                "".join(likeliest), len(context), len(found), reader.tokens_read,
                seconds=time.perf_counter() - begin, laws=tuple(found),
            )  # fmt: skip

    def _alone(self, sample: Sample) -> Reply:
        begin = time.perf_counter()
        reader = LocalText(self.model)
        try:
            asked = _chosen(self._method, sample, reader)
            chosen_s = time.perf_counter() - begin
            prefix, suffix = _prompt(self.model, *asked, sample)
            found = self.model.generate([*prefix, *suffix], self._rest, **_options(sample))
        except Exception as error:
            return self._lost(error, begin)
        metrics = found.metrics
        waited = chosen_s if _told(metrics.reused_tokens, metrics.prompt_tokens) else None
        return _reply(found, reader.tokens_read, waited, time.perf_counter() - begin)

    def _shared(self, context: str, samples: Seq[Sample]) -> Iterator[Reply]:
        begin = time.perf_counter()
        prefix, _ = _prompt(self.model, context, samples[0].question, samples[0])
        before = self._reused()
        try:
            session = self.model.read(list(prefix), self._rest)
        except Refused:
            # A session does not know the questions; alone each prompt is known as a whole.
            yield from map(self._alone, samples)
            return
        except Exception as error:
            lost = self._lost(error, begin, len(prefix))
            yield from (lost, *(replace(lost, seconds=0.0) for _ in samples[1:]))
            return
        first = time.perf_counter() - begin
        waited = first if _told(self._reused() - before, len(prefix)) else None
        for sample in samples:
            begin = time.perf_counter()
            _, suffix = _prompt(self.model, context, sample.question, sample)
            try:
                found = session.ask(list(suffix), **_options(sample))
            except Exception as error:
                yield self._lost(error, begin, len(prefix))
                continue
            # Each is charged the reading that it would have waited for; it took that time once.
            spent = time.perf_counter() - begin
            yield _reply(found, 0, waited, spent + (first if sample is samples[0] else 0.0))

    def _lost(self, error: Exception, begin: float, tokens: int = 0) -> Reply:
        """Why a sample has no reply. Raises again what ends a run. tokens: that were held."""
        if ran_out(error):
            error = OutOfMemory(tokens, 0, str(self.model.adapted.device), error)
        if not isinstance(error, Refused | OutOfMemory | NotFinite | ConstraintError):
            raise error
        return Reply(refused=str(error), seconds=time.perf_counter() - begin)

    def _reused(self) -> int:
        """Tokens that were found in the model's prefix cache so far."""
        cache = self.model.prefix_cache
        return 0 if cache is None else cache.stats.reused


class _Remote:
    def __init__(self, model: RemoteModel, recipe: recipes.Recipe) -> None:
        self.model, self.recipe = model, str(recipe)
        self._method = prompting_alone(model, recipe)

    def of(self, samples: Seq[Sample]) -> Iterator[Reply]:
        for sample in samples:
            begin, before = time.perf_counter(), self.model.tokens_read
            try:
                text, question = _chosen(self._method, sample, self.model)
                chosen_s = time.perf_counter() - begin
                found = self._asked(text, question, sample)
            except (Refused, ServerError) as error:
                if isinstance(error, ServerError) and not error.of_prompt:
                    raise
                yield Reply(refused=str(error), seconds=time.perf_counter() - begin)
                continue
            read = self.model.tokens_read - before - found.metrics.prompt_tokens
            reply = _reply(found, max(0, read), chosen_s, time.perf_counter() - begin)
            yield replace(reply, said=behind(reply.said, sample.begin))

    def _asked(self, text: str, question: str, sample: Sample) -> Generation:
        """A server writes replies from their beginning: what they begin with is a hint, for which
        there is room in a reply that says it again."""
        asked = Asked(**_options(sample))
        if sample.begin:
            question = f"{question}\n{sample.begin}"
            room = self.model.count(sample.begin)
            asked = replace(asked, max_new_tokens=asked.max_new_tokens + room)
        return self.model.ask(text, question, asked)

    def laws(self, samples: Seq[Sample]) -> Iterator[Reply]:
        raise Refused(*no_laws(self.model))


def no_laws(model: RemoteModel) -> tuple[str, str]:
    """Why a model behind a server cannot be asked for laws, and what can be done.

    Args:
        model: behind the server.
    """
    return (
        f"{model.name} is behind a server, which does not tell the law of the next token among "
        "given ones",
        "load the model here (--model FOLDER), or take a task that scores replies",
    )


def _told(reused: int, tokens: int) -> bool:
    """Whether seconds of reading a prompt are those it takes: what chat templates begin with is
    shared by all."""
    return 20 * reused <= tokens


def _chosen(method: Any, sample: Sample, reader: TextModel) -> tuple[str, str]:
    """Text and question as a prompting method has them; as they are without one or without text."""
    if method is None or not sample.context:
        return sample.context, sample.question
    found = prompt_text(reader, method, [Document("context", sample.context)], sample.question)
    return found.text, found.question


def _prompt(
    model: Model, context: str, question: str, sample: Sample
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of what comes before the question, and of the question with what a reply begins with."""
    tokenizer: Any = model._tokenizer()
    ids = model.encode(context, special="text") if context else []
    if sample.chat:
        found = build_prompt(model, ids, [question])
        prefix, suffix = found.prefix, found.suffixes[0]
    else:
        more = f"\n\n{question}" if context and question else question
        prefix = tuple(ids)
        # What comes first begins as every text of this model does.
        first = not context and bool(more)
        suffix = tuple(
            model.encode(more, special="text")
            if first
            else tokenizer.encode(more, add_special_tokens=False)
        )
    if sample.begin:
        templated = sample.chat and getattr(tokenizer, "chat_template", None)
        begun = sample.begin if templated else f" {sample.begin}"
        suffix += tuple(tokenizer.encode(begun, add_special_tokens=False))
    return prefix, suffix


def _options(sample: Sample) -> dict[str, Any]:
    options: dict[str, Any] = {"max_new_tokens": sample.most, "stop": sample.stop}
    if sample.temperature:
        options |= {"temperature": sample.temperature, "seed": sample.seed}
    return options


def _reply(found: Generation, read: int, more_s: float | None, seconds: float) -> Reply:
    """more_s: waited beside the model's time to the first token; None where that is not told."""
    metrics = found.metrics
    ttft_s = None if more_s is None else metrics.ttft_s + more_s
    return Reply(
        found.text, metrics.prompt_tokens, len(found.token_ids) or metrics.decoded, read,
        ttft_s, metrics.tokens_per_s or None, metrics.kv_bytes or None,
        seconds=seconds,
    )  # fmt: skip


__all__ = ["Replies", "Reply", "no_laws", "replies_of"]
