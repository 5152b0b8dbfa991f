"""Soft contexts as sessions: a document is encoded, and the model reads the embeddings.

The encoders stand in `soft_contexts/`, and `lengthwise soft train` trains one. A session of soft
embeddings holds an entry for each of them and not for each token, and is asked, saved and opened
like any other. Their positions count embeddings. What a recipe says of entries holds for theirs,
for the model has read them; what asks for the tokens of a text is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from torch import Tensor

from lengthwise.api.given import require_count
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt, ends
from lengthwise.api.session import Session
from lengthwise.api.session_prompt import ApartSource, behind, encode_piece
from lengthwise.api.session_reading import (
    fresh_sequence,
    read_to,
    refuse_by_length,
    require_session_room,
)
from lengthwise.documents.document import Document
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.retention import AskingRetention
from lengthwise.engine.kv_cache.rollback import roll_back
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import Recipe, RecipeLike, recipe_of
from lengthwise.soft_contexts.base import Encoder, SoftContext
from lengthwise.soft_contexts.files import load_encoder
from lengthwise.tokenization.templates import around_message

# Stands behind a document, as between document and question in one text.
_BETWEEN = "\n\n"


class ContextEncoder:
    """Reads documents for a model as soft embeddings. Made by `lengthwise.open_encoder`.

    model: whose sessions it makes. encoder: the module. how: the method. trained: how it was
    trained, as plain data.
    """

    def __init__(
        self, model: HeldModel, encoder: Encoder, how: SoftContext, trained: Mapping[str, Any]
    ) -> None:
        self.model, self.encoder, self.how, self.trained = model, encoder, how, dict(trained)

    def __repr__(self) -> str:
        count = sum(each.numel() for each in self.encoder.parameters())
        return f"<ContextEncoder {self.how}, {count / 1e6:.1f} M weights, of {self.model.name}>"

    def encode(self, document: Prompt, ratio: int | None = None) -> Tensor:
        """Embeddings `[m, hidden]` of a document, in the model's dtype.

        Args:
            document: a text, a Document, or ids.
            ratio: tokens an embedding, where the method has one chosen here; None is the least that
                was trained.

        Raises:
            LengthwiseError: for an empty document, and a ratio that there is not.
        """
        with no_autocast():
            return self.encoder.encode(self._ids(document, None), self.encoder.checked(ratio))

    @no_autocast()
    def read(
        self, document: Prompt, recipe: RecipeLike = "full", *, ratio: int | None = None,
        raw: int = 0, special: str | None = None, chunk: int | None = None,
        progress: loop.Progress | None = None,
    ) -> Session:  # fmt: skip
        """Reads a document as soft embeddings, to be asked many times.

        Args:
            document: a text or Document to ask about, or ids to go on from.
            recipe: as for `Model.generate`.
            ratio: as for `encode`.
            raw: last tokens of the document that are read as tokens.
            special: see `Model.encode`.
            chunk: tokens of a prefill forward; None leaves it to the device.
            progress: called with tokens encoded.

        Returns:
            The session: `session.ask("Who signed it?")`.

        Raises:
            LengthwiseError: for an empty document, and a ratio that there is not.
            Refused: where the recipe cannot serve this model, as many embeddings, or soft ones.
        """
        if raw:
            require_count("raw", raw)
        if chunk is not None:
            require_count("chunk", chunk)
        model, asked, texts = self.model, recipe_of(recipe), isinstance(document, (str, Document))
        used = self.encoder.checked(ratio)
        ids, head = self._ids(document, special), self._head(texts)
        past = ids[: max(0, len(ids) - raw)]
        stand_ins = self.encoder.stand_ins(past, used)
        rest = [*ids[len(past) :], *(self._piece(_BETWEEN) if texts else [])]
        tokens = [*head, *stand_ins, *rest]
        sequence = self._fresh(asked, len(tokens))
        soft = self.encoder.encode(past, used, progress) if past else None
        about = self._about(len(past), len(stand_ins), used)
        source = ApartSource(tuple(tokens), texts, special, about)
        read_to(sequence, tokens, len(head), chunk)
        _feed(sequence, stand_ins, soft, len(tokens), chunk)
        read_to(sequence, tokens, len(tokens), chunk)
        return Session(model, asked, source, sequence, tokens, chunk)

    @no_autocast()
    def compress_raw(self, session: Session, keep: int, *, ratio: int | None = None) -> Session:
        """Encodes what a session has read as tokens behind its embeddings, all but the last ones.

        So a session that grows by `append` stays within the model's window: embeddings that were
        read stay as they are, new ones stand behind them, and the last tokens are read again.

        Args:
            session: of this encoder's, under a recipe that keeps everything; it stays as it was.
            keep: last tokens that stay tokens.
            ratio: as for `encode`.

        Returns:
            The shorter session.

        Raises:
            SessionError: for a session of something else, and where nothing is to be encoded.
            Refused: for a recipe that has moved or left out what was read.
        """
        require_count("keep", keep)
        about, source = session.source.trained, session.source
        if not isinstance(source, ApartSource) or about is None or session.compressed:
            raise SessionError(f"{session!r} holds no soft embeddings that more could go behind")
        first, old = len(self._head(source.texts)) + int(about["entries"]), session.tokens
        past, kept = old[first : max(first, len(old) - keep)], old[max(first, len(old) - keep) :]
        if not past:
            raise SessionError(
                f"keep={keep}: {len(old) - first:,} tokens stand behind the embeddings, so none is "
                "left to encode"
            )
        used = self.encoder.checked(ratio)
        stand_ins = self.encoder.stand_ins(past, used)
        tokens = [*old[:first], *stand_ins, *kept]
        sequence = session.held.fork()
        if not roll_back(sequence, first):
            raise Refused(
                f"{session.recipe} has moved, summed or left out what was read, and here the last "
                "tokens are taken back",
                "read it under 'full', or with drafters",
            )
        _feed(sequence, stand_ins, self.encoder.encode(past, used), len(tokens), session.chunk)
        read_to(sequence, tokens, len(tokens), session.chunk)
        count = int(about["tokens"]) + len(past), int(about["entries"]) + len(stand_ins)
        new = ApartSource(tuple(tokens), source.texts, source.special, self._about(*count, used))
        return Session(self.model, session.parsed, new, sequence, tokens, session.chunk)

    def _about(self, tokens: int, entries: int, ratio: int | None) -> dict[str, Any]:
        return {
            "method": self.how.name, "encoder": str(self.how), "ratio": ratio, "tokens": tokens,
            "entries": entries, **self.trained,
        }  # fmt: skip

    def _ids(self, document: Prompt, special: str | None) -> list[int]:
        if isinstance(document, (str, Document)):
            if not str(document).strip():
                raise LengthwiseError("the document is empty: there is nothing to read in it")
            return self._piece(str(document).strip("\n"), special)
        return behind(self.model, document)

    def _piece(self, text: str, special: str | None = None) -> list[int]:
        if self.model.tokenizer is None:
            raise LengthwiseError("this model was wrapped without a tokenizer; give token ids")
        return encode_piece(self.model.tokenizer, "", text, special)

    def _head(self, texts: bool) -> list[int]:
        """What stands before a text: the template's beginning, else the beginning token."""
        tokenizer = self.model.tokenizer
        if not texts or tokenizer is None:
            return []
        template = around_message(tokenizer)[0]
        return encode_piece(tokenizer, template, "", None) if template else ends(tokenizer)[0]

    def _fresh(self, recipe: Recipe, tokens: int) -> Sequence:
        plan = self.model.plan(recipe)
        refuse_by_length(recipe)
        require_session_room(self.model, plan, tokens)
        sequence = fresh_sequence(self.model, plan, tokens)
        _refuse_by_tokens(sequence, recipe)
        sequence.given = True
        return sequence


def _feed(
    sequence: Sequence, ids: list[int], soft: Tensor | None, length: int, chunk: int | None
) -> None:
    """Reads embeddings behind what a sequence has read, knowing that `length` tokens will follow in
    all."""
    if soft is None:
        return
    sequence.reading = max(sequence.reading, length + 1)
    loop.prefill(sequence, ids, chunk, embeddings=soft)


def _refuse_by_tokens(sequence: Sequence, recipe: Recipe) -> None:
    """Raises Refused for what asks for the tokens of what was read, or reads it again."""
    switch, why = sequence.model.switch, None
    if switch is not None:
        raise Refused(
            f"{sequence.model.family} changes its rotary frequencies at {switch:,} tokens and then "
            "reads all again, which embeddings cannot be",
            "take a model whose frequencies do not follow the length",
        )
    if sequence.wants_token_nll:
        why = "asks how likely each token was that was read, and an embedding is none"
    elif isinstance(sequence.retention, AskingRetention):
        why = "has the model repeat the tokens that were read, and embeddings are none"
    elif any(layer.rule is not None and layer.rule.dynamic for layer in sequence.layers):
        why = "reads all tokens again when the text gets longer, and embeddings are no tokens"
    if why is not None:
        raise Refused(f"{recipe} {why}", "take another recipe, or Model.read the document")


def open_encoder(path: str | PathLike[str], model: HeldModel) -> ContextEncoder:
    """Opens an encoder that `lengthwise soft train` stored.

    Args:
        path: of the file.
        model: that it was trained for, in the same dtype.

    Returns:
        The encoder: `encoder.read(document, ratio=8)` gives a session.

    Raises:
        LengthwiseError: for a file that is missing, damaged or something else, and for one of
            another model, dtype or version.
    """
    return ContextEncoder(model, *load_encoder(path, model.adapted))


__all__ = ["ContextEncoder", "open_encoder"]
