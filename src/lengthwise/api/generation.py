"""What came out of a request, and what may be asked of one: the options that all verbs share."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, TypedDict

from transformers import PreTrainedTokenizerBase

from lengthwise.api.batch import Row, Written
from lengthwise.engine import loop
from lengthwise.engine.request import Failure, Request
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.errors import Refused
from lengthwise.tokenization.detokenise import TextStream

# Tokens of an answer, at most, where nothing is said.
NEW_TOKENS = 256


class BatchOptions(TypedDict, total=False):
    """The keywords that `Model.generate_batch` shares with `Model.generate`, which says what they
    mean."""

    max_new_tokens: int
    stop: str | Seq[str]
    stop_ids: Seq[int] | None
    chunk: int | None
    progress: loop.Progress | None
    special: str | None
    assistant_model: Any
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float


class Options(BatchOptions, total=False):
    """The keywords of `Model.generate`; `stream` and `astream` take the same ones."""

    seed: int


@dataclass(frozen=True)
class Draft:
    """One of several texts of a request. score: mean log score of its tokens, higher is better."""

    text: str
    token_ids: list[int]
    score: float


@dataclass(frozen=True, slots=True)
class Source:
    """A run of text that was read, and where it stands.

    name: of its document; "" where a model wrote it. start, stop: characters of that document.
    """

    name: str
    text: str
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Generation:
    """What came out of one request: its text, its token ids (stop tokens left out), its costs.

    drafts: the texts of a recipe that writes several, best first, no two alike; `text` is the first
    of them. Empty for all other recipes. refused: why the recipe cannot serve this row of a batch,
    which was then not read at all; None where it can. failed: why this row of a batch ended without
    a next token, the model's logits being no numbers, memory having run out or a constraint leaving
    nothing; its text is what was said before. None where it did not. sources: what was read of the
    documents, by `lengthwise.answer`.
    """

    text: str
    token_ids: list[int]
    metrics: RequestMetrics
    drafts: tuple[Draft, ...] = ()
    refused: Refused | None = None
    failed: Failure | None = None
    sources: tuple[Source, ...] = ()

    @property
    def alternatives(self) -> list[str]:
        """The texts of drafts."""
        return [draft.text for draft in self.drafts]

    def require(self) -> Generation:
        """This generation; raises what kept it from being whole."""
        if error := self.refused or self.failed:
            raise error
        return self


def generation_of(
    row: Row, done: Written | Refused, tokenizer: PreTrainedTokenizerBase | None, stop: Seq[str]
) -> Generation:
    """What came out of a row of a batch."""
    if isinstance(done, Refused):
        metrics = RequestMetrics(prompt_tokens=len(row.tokens), finish_reason="refused")
        return Generation("", [], metrics, refused=done)
    request = done.request
    drafts = _drafts(request, tokenizer, stop)
    return Generation(done.text, request.output, request.metrics, drafts, failed=request.failed)


def _drafts(
    request: Request, tokenizer: PreTrainedTokenizerBase | None, stop: Seq[str]
) -> tuple[Draft, ...]:
    """The texts of a request that wrote several, up to a stop string, those alike left out."""
    found: dict[object, Draft] = {}
    if request.mode is None or not request.mode.done:
        return ()
    for each in request.mode.alternatives():
        text = TextStream(tokenizer, stop)
        text.add(each.tokens, RequestMetrics())
        draft = Draft(text.finish(), each.tokens, each.score)
        alike = tuple(each.tokens) if tokenizer is None else draft.text
        found.setdefault(alike, draft)
    return tuple(found.values())
