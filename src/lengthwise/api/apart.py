"""Several documents read apart, once each, and sessions of such documents joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq

from lengthwise import recipes
from lengthwise.api.given import require_count
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt, ends, given_ids
from lengthwise.api.session import Session
from lengthwise.api.session_prompt import ApartSource, encode_piece
from lengthwise.api.session_reading import (
    fresh_sequence,
    read_to,
    refuse_by_length,
    require_session_room,
)
from lengthwise.documents.document import Document
from lengthwise.engine import apart, loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import Recipe, RecipeLike
from lengthwise.tokenization.templates import around_message

# Stands behind each document, as between document and question in one text.
BETWEEN = "\n\n"


def read_documents(
    model: HeldModel, documents: Seq[Prompt], recipe: Recipe, prefix: Prompt | None,
    special: str | None, chunk: int | None = None, progress: loop.Progress | None = None,
) -> Session:  # fmt: skip
    """Reads documents apart into one new session: see `Model.read_apart`.

    Args:
        model: that reads.
        documents: all of them texts, or all of them ids.
        recipe: under which.
        prefix: what all of them stand behind.
        special: see `Model.encode`.
        chunk: tokens of a forward; None leaves it to the device.
        progress: called with tokens read.

    Raises:
        LengthwiseError: for what are no documents, and an empty one.
        Refused: where the recipe cannot serve this model, or as many tokens.
    """
    if chunk is not None:
        require_count("chunk", chunk)
    plan = model.plan(recipe)
    _require_weights(plan)
    refuse_by_length(recipe)
    texts = _are_texts(documents)
    pieces = [_document(model, each, number, special) for number, each in enumerate(documents, 1)]
    head = _prefix(model, prefix, texts, special)
    with no_autocast():
        start = fresh_sequence(model, plan, len(head))
        read_to(start, head, len(head), chunk, progress)
        read = [apart.read_apart(start, piece, chunk, progress) for piece in pieces]
        return _session(model, recipe, plan, texts, special, read, chunk)


def join(sessions: Seq[Session], recipe: RecipeLike | None = None) -> Session:
    """One session over the documents of several, which are not read again.

    Args:
        sessions: of documents that one model read apart behind the same prefix, with nothing read
            behind them. They stay as they were.
        recipe: of the new session, which may differ in all but the positions of what was read:
            None is that of all of them.

    Returns:
        The session; its documents stand in the order given, which changes no answer.

    Raises:
        LengthwiseError: for no sessions, and for those of other recipes where none is given.
        SessionError: where they do not go together, or the model has changed since.
        Refused: where the recipe cannot serve this model, or as many tokens.
    """
    given = list(sessions) if isinstance(sessions, Seq) else []
    if not given or not all(isinstance(each, Session) for each in given):
        raise LengthwiseError("join takes a list of sessions, one at least")
    first = given[0]
    chosen = first.parsed if recipe is None else recipes.recipe_of(recipe)
    for number, each in enumerate(given, 1):
        _require_alike(first, each, number, chosen, recipe is not None)
    model, source = first.model, first.source
    assert isinstance(source, ApartSource)
    plan = model.plan(chosen)
    _require_weights(plan)
    refuse_by_length(chosen)
    held = [each.held for each in given]
    with no_autocast():
        return _session(model, chosen, plan, source.texts, source.special, held, first.chunk)


def _session(
    model: HeldModel, recipe: Recipe, plan: Plan, texts: bool, special: str | None,
    read: Seq[Sequence], chunk: int | None,
) -> Session:  # fmt: skip
    joined = apart.join(read, plan)
    require_session_room(model, plan, len(joined), joined)
    tokens = list(joined.tokens)
    return Session(model, recipe, ApartSource(tuple(tokens), texts, special), joined, tokens, chunk)


def _require_weights(plan: Plan) -> None:
    if plan.contexts is None:
        raise Refused(
            f"{plan.text} does not say what documents weigh that were read apart",
            "add ape, as in 'ape' or 'ape(temperature=0.8) + lookup', or give one text to "
            "Model.read",
        )


def _require_alike(first: Session, each: Session, number: int, recipe: Recipe, given: bool) -> None:
    """Raises where a session is none of documents behind the prefix of the first."""
    if not apart.joinable(each.held):
        raise SessionError(
            f"session {number} holds more, or other things, than documents read apart: join what "
            "Model.read_apart gives, before anything is appended to it or compressed"
        )
    if each.model is not first.model and (
        fingerprint_now(each.model.adapted) != fingerprint_now(first.model.adapted)
    ):
        raise SessionError(f"session {number} is of another model than the first")
    each.require_same_model()
    if not given and each.recipe != first.recipe:
        raise LengthwiseError(
            f"session {number} was read under {each.recipe!r} and the first under "
            f"{first.recipe!r}; give join the recipe that is to hold"
        )
    if _positions(each.parsed) != _positions(recipe):
        raise SessionError(
            f"session {number} was read under {each.recipe!r}, whose positions are not those of "
            f"{str(recipe)!r}; read its documents again"
        )
    mine, theirs = first.held.apart, each.held.apart
    assert mine is not None and theirs is not None
    if first.tokens[: mine.prefix] != each.tokens[: theirs.prefix]:
        raise SessionError(
            f"session {number} was read behind another prefix than the first; read its documents "
            "again, behind the same"
        )


def _positions(recipe: Recipe) -> list[str]:
    """What decides where tokens stand, but for what documents weigh."""
    return [
        str(each) for each in recipe.methods if each.question == "positions" and each.name != "ape"
    ]


# Pieces as ids.


def _are_texts(documents: Seq[Prompt]) -> bool:
    """Whether all documents are texts; raises for what is no list of documents of one kind."""
    if isinstance(documents, (str, Document, Mapping)) or not hasattr(documents, "__len__"):
        raise LengthwiseError(
            f"documents of type {type(documents).__name__}: give a list of them; one text is for "
            "Model.read"
        )
    if not len(documents):
        raise LengthwiseError("there are no documents; give one at least")
    texts = [isinstance(each, (str, Document)) for each in documents]
    if any(texts) and not all(texts):
        raise LengthwiseError("some documents are texts and some are ids; give one kind")
    return all(texts)


def _document(model: HeldModel, given: Prompt, number: int, special: str | None) -> list[int]:
    if not isinstance(given, (str, Document)):
        ids = given_ids(given)
    elif model.tokenizer is None:
        raise LengthwiseError("this model was wrapped without a tokenizer; give token ids")
    elif str(given).strip():
        ids = encode_piece(model.tokenizer, "", str(given).strip("\n") + BETWEEN, special)
    else:
        ids = []
    if not ids:
        raise LengthwiseError(f"document {number} is empty: there is nothing to read in it")
    return model.encode(ids)


def _prefix(model: HeldModel, prefix: Prompt | None, texts: bool, special: str | None) -> list[int]:
    """Ids that all documents stand behind; the beginning token where there would be none."""
    tokenizer, ids = model.tokenizer, []
    if not texts:
        ids = [] if prefix is None else given_ids(prefix)
    else:
        if not isinstance(prefix, (str, type(None))):
            raise LengthwiseError("the prefix of texts is a text; of ids, ids")
        assert tokenizer is not None
        template = around_message(tokenizer)[0]
        begun = [] if template else ends(tokenizer)[0]
        ids = [*begun, *encode_piece(tokenizer, template, prefix or "", special)]
    if not ids:
        first = getattr(tokenizer, "bos_token_id", None)
        if first is None:
            first = model.adapted.model.generation_config.bos_token_id
        if not isinstance(first, int):
            raise LengthwiseError(
                "documents read apart need a prefix, and this model has no token that begins a "
                "text; give Model.read_apart a prefix= that all of them stand behind"
            )
        ids = [first]
    return model.encode(ids)


__all__ = ["join", "read_documents"]
