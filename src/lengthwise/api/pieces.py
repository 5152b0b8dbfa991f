"""Stored pieces of text that are found anywhere in a new document (KVShare, CacheBlend).

"KVShare: An LLM Service System with Efficient and Effective Multi-Tenant KV Cache Reuse", 2025;
Yao and others, "CacheBlend: Fast Large Language Model Serving for RAG with Cached Knowledge
Fusion", 2024. A piece keeps what it was read with before it, so reading with pieces is lossy.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from lengthwise import recipes
from lengthwise.api.asking import require_one
from lengthwise.api.given import require_count
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prefixes import bytes_of
from lengthwise.api.prompts import Prompt
from lengthwise.api.session import Session, read_session
from lengthwise.api.session_editing import Stale
from lengthwise.api.session_reading import fresh_sequence, require_session_room
from lengthwise.api.session_source import source_of
from lengthwise.engine import loop
from lengthwise.engine.blending import CHOICES, Blended, Borrowed, Choice, blend
from lengthwise.engine.kv_cache.editing import why_not_movable
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.refreshing import refreshed
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import RecipeLike
from lengthwise.retrieval.common_runs import RunIndex

CACHE_BYTES = "1GiB"
LEAST = 16
RECOMPUTE = "15%"
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class _Piece:
    sequence: Sequence
    nbytes: int


class Pieces:
    """Texts that were read, whose entries are reused wherever a new document repeats them.

    `len` is the pieces held. What was used longest ago leaves when `cache_bytes` are reached. How
    fast a document is read, and what is said of it, tells that a piece was there: share one store
    only among those who may know each other's texts.
    """

    def __init__(
        self, model: HeldModel, recipe: RecipeLike = "full", *,
        cache_bytes: int | str = CACHE_BYTES, least: int = LEAST,
    ) -> None:  # fmt: skip
        """
        Args:
            model: that reads.
            recipe: positions and drafting; one that chooses, drops or encodes is refused.
            cache_bytes: KV bytes held at most, as a number or as text such as "2GiB".
            least: tokens that a run has at least in common with a piece.

        Raises:
            RecipeError: for a recipe that cannot be parsed or cannot run here.
            LengthwiseError: for other arguments.
        """
        require_one(recipe)
        require_count("least", least)
        self.model, self.cache_bytes = model, bytes_of("cache_bytes", cache_bytes)
        self._recipe = recipes.recipe_of(recipe)
        self._plan = model.plan(self._recipe)
        self._index = RunIndex(least)
        self._pieces: OrderedDict[int, _Piece] = OrderedDict()
        self._next = 0
        self._mark = fingerprint_now(model.adapted)

    def __len__(self) -> int:
        return len(self._pieces)

    def __repr__(self) -> str:
        return (
            f"<Pieces: {len(self):,} of {self.nbytes / 1e6:.1f} MB under {self._recipe}, "
            f"on {self.model.name}>"
        )

    @property
    def nbytes(self) -> int:
        """KV bytes held."""
        return sum(piece.nbytes for piece in self._pieces.values())

    def add(self, piece: Session | Prompt) -> None:
        """Stores a piece: reads it, or copies what a session has read.

        Args:
            piece: a text or Document, ids, messages, or an open session of this model and recipe.

        Raises:
            Refused: where entries cannot be moved, under this recipe or on this model.
            LengthwiseError: for a lossy or trained session, one of another model or recipe, and a
                piece larger than the store.
            SessionError: where the model has changed since.
        """
        self._require_same_model()
        session = piece if isinstance(piece, Session) else self._read(piece)
        session.require_same_model()
        if session.model.adapted is not self.model.adapted or session.recipe != str(self._recipe):
            raise LengthwiseError(
                f"a session of {session.recipe} on {session.model.name}: this store takes those of "
                f"{self._recipe} on {self.model.name}"
            )
        if session.lossy:
            raise LengthwiseError(
                "a lossy session: what was edited or put together of pieces is no piece itself; "
                "read its text"
            )
        if session.source.trained is not None:
            raise LengthwiseError(
                f"a session of {session.source.what}: its entries are not those of its token ids, "
                "so no other text has them; add the text itself"
            )
        held = session.held.branch() if session is piece else session.held
        self._refuse(held)
        stored = _Piece(held, held.nbytes())
        if stored.nbytes > self.cache_bytes:
            raise LengthwiseError(
                f"a piece of {stored.nbytes:,} bytes in a store of {self.cache_bytes:,}; give more "
                "cache_bytes, or a shorter text"
            )
        self._pieces[self._next] = stored
        self._index.add(self._next, list(held.tokens))
        self._next += 1
        while self.nbytes > self.cache_bytes:
            oldest, _ = self._pieces.popitem(last=False)
            self._index.remove(oldest)

    @no_autocast()
    def read(
        self, prompt: Prompt, *, recompute: str = RECOMPUTE, choose: str = "gradual",
        check: int = 1, refresh: int = 0, every: int = 16, seed: int = 0,
        special: str | None = None, chunk: int | None = None,
        progress: loop.Progress | None = None,
    ) -> Session:  # fmt: skip
        """`Model.read`, which takes from stored pieces what it finds in them.

        Args:
            prompt: as for `Model.read`.
            recompute: the share of tokens from pieces that are computed again, such as "15%". With
                "100%" the session is what `Model.read` gives.
            choose: which those are. "deviating": the values that deviate most, and "gradual": the
                same looked at layer by layer (CacheBlend). "attended": the same times the attention
                of new tokens in all layers, which are read twice for it (KVShare). "random": any.
            check: the layer where deviation is seen; those before it are computed for all tokens.
            refresh: stage two: stale tokens that are computed again with each question and every so
                many tokens written; 0 is none.
            every: tokens written between two refreshes.
            seed: of `random`.
            special: see `Model.encode`.
            chunk: tokens of a forward; None leaves it to the device.
            progress: called with tokens read, where nothing was found in pieces.

        Returns:
            The session. Its notes say what was found; `lossy` is empty where all of it is exact.

        Raises:
            LengthwiseError: for what is no prompt, and for arguments out of range.
            Refused: where the recipe cannot serve as many tokens.
            SessionError: where the model has changed since.
        """
        self._require_same_model()
        choice = self._choice(recompute, choose, check, seed)
        for name, given, low in (("refresh", refresh, 0), ("every", every, 1)):
            if isinstance(given, bool) or not isinstance(given, int) or given < low:
                raise LengthwiseError(f"{name}={given!r}: give a whole number, {low} at least")
        if refresh and any(layer.window is not None for layer in self.model.adapted.layers):
            raise Refused(
                f"refresh={refresh} computes entries again while writing, and layers of this model "
                "have a window which they leave meanwhile",
                "give refresh=0",
            )
        source = source_of(self.model, prompt, special)
        tokens, stable = source.prefix(self.model)
        require_session_room(self.model, self._plan, len(tokens))
        found = self._found(tokens[:stable], len(tokens))
        if not found:
            return self._read(prompt, special, chunk, progress)
        empty = fresh_sequence(self.model, self._plan, len(tokens))
        blended = blend(empty, tokens[:stable], found, choice, chunk)
        stale = bool(len(blended.stale))
        sequence = refreshed(blended, refresh, every) if refresh and stale else blended.sequence
        why = f"{_said(blended)}: this is not what one call gives; recompute='100%' is"
        lossy = Stale(why, int(blended.stale[0])) if stale else None
        session = Session(self.model, self._recipe, source, sequence, tokens, chunk, lossy)
        session.notes.append(_said(blended))
        return session

    def _read(
        self, prompt: Prompt, special: str | None = None, chunk: int | None = None,
        progress: loop.Progress | None = None,
    ) -> Session:  # fmt: skip
        return read_session(self.model, prompt, self._recipe, special, chunk, progress)

    def _found(self, tokens: list[int], length: int) -> list[Borrowed]:
        """What is known of a text; pieces that serve are used last."""
        found = []
        for run in self._index.find(tokens):
            assert isinstance(run.key, int)
            held = self._pieces[run.key].sequence
            if why_not_movable(held, length) is None:
                self._pieces.move_to_end(run.key)
                found.append(Borrowed(held, run.source, run.start, run.length))
        return found

    def _choice(self, recompute: Any, choose: str, check: int, seed: int) -> Choice:
        match = _SHARE.fullmatch(recompute.strip()) if isinstance(recompute, str) else None
        if match is None or float(match[1]) > 100:
            raise LengthwiseError(f"recompute={recompute!r}: give a share of 0% to 100%, as '15%'")
        if choose not in CHOICES:
            raise LengthwiseError(f"choose={choose!r}: allowed are {', '.join(CHOICES)}")
        layers = len(self.model.adapted.layers)
        if isinstance(check, bool) or not isinstance(check, int) or not 1 <= check < layers:
            raise LengthwiseError(f"check={check!r}: give a layer from 1 to {layers - 1}")
        return Choice(float(match[1]) / 100, choose, check, seed)

    def _refuse(self, held: Sequence) -> None:
        reason = why_not_movable(held, len(held))
        if reason is not None:
            raise Refused(
                f"what {self._recipe} holds of a text is no piece: {reason}",
                "give a recipe of positions and drafting alone, or model.read each document",
            )

    def _require_same_model(self) -> None:
        if fingerprint_now(self.model.adapted) != self._mark:
            raise SessionError(
                f"the weights of {self.model.name} have changed since this store was made: what it "
                "holds is another model's; make a new one"
            )


def _said(blended: Blended) -> str:
    exact = f"{blended.exact:,} tokens are another text's beginning too, " if blended.exact else ""
    return (
        f"{exact}{blended.reused:,} of {len(blended.sequence):,} tokens were found in pieces, "
        f"{len(blended.chosen):,} of them computed again"
    )


__all__ = ["Pieces"]
