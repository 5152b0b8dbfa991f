"""What a session holds: its tokens, its recipe, its cache, and what has to be said of them."""

from __future__ import annotations

from lengthwise.api.held_model import HeldModel
from lengthwise.api.session_editing import Stale
from lengthwise.api.session_prompt import Source
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.opening import lossy_note
from lengthwise.errors import SessionError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.recipes import Recipe


class SessionState:
    """See `Session`."""

    def __init__(
        self, model: HeldModel, recipe: Recipe, source: Source, sequence: Sequence,
        tokens: list[int], chunk: int | None = None, stale: Stale | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.notes: list[str] = []
        self._recipe, self._source, self._chunk = recipe, source, chunk
        self._sequence, self._tokens = sequence, tokens
        sequence.given |= source.trained is not None
        self._stale, self._broken = stale, False
        self._mark = fingerprint_now(model.adapted)
        if sequence.lossy:
            self.notes.append(lossy_note(sequence))

    def __len__(self) -> int:
        return len(self._tokens)

    def __repr__(self) -> str:
        state = "compressed" if self.compressed else "open"
        if self._sequence.lossy:
            state += f", lossy ({self._sequence.lossy})"
        elif self._stale is not None:
            state += ", lossy"
        return (
            f"<Session of {len(self):,} tokens under {self.recipe}, {state}, "
            f"{self.nbytes / 1e6:.1f} MB of KV, on {self.model.name}>"
        )

    @property
    def recipe(self) -> str:
        """The recipe it was read under, as text."""
        return str(self._recipe)

    @property
    def tokens(self) -> list[int]:
        """Ids of what was read, those of the chat template before it included."""
        return list(self._tokens)

    @property
    def nbytes(self) -> int:
        """KV bytes held now, and those of keys as they were before an edit moved them."""
        return self._sequence.nbytes() + (0 if self._stale is None else self._stale.nbytes)

    @property
    def source(self) -> Source:
        """What was read, as it was given."""
        return self._source

    @property
    def parsed(self) -> Recipe:
        """The recipe it was read under."""
        return self._recipe

    @property
    def held(self) -> Sequence:
        """The engine's sequence behind it; not to be changed."""
        return self._sequence

    @property
    def chunk(self) -> int | None:
        """Tokens of a forward; None leaves it to the device."""
        return self._chunk

    @property
    def compressed(self) -> bool:
        """Whether the recipe has dropped and encoded already what it drops and encodes."""
        return self._sequence.prompt_length is not None

    @property
    def lossy(self) -> str:
        """Why its answers are not those of one call; empty where they are."""
        return "; ".join(filter(None, [self.stale_note, self._sequence.lossy]))

    @property
    def stale_note(self) -> str:
        """What answers have to say of entries that did not see all before them; empty for none."""
        return "" if self._stale is None else self._stale.why

    @property
    def _may_be_cut(self) -> bool:
        """Whether it is known how far trained entries reach, which are not to be cut: what was read
        still makes the tokens that are held."""
        return self._source.trained is None or self._source.prefix(self.model)[0] == self._tokens

    def require_same_model(self) -> None:
        """Raises SessionError where the model has changed since this was read, and where what is
        held is of no use any more."""
        if self._broken:
            raise SessionError(
                "compress was broken off in this session, and what it holds is neither open nor "
                "compressed; read the document again"
            )
        if fingerprint_now(self.model.adapted) != self._mark:
            raise SessionError(
                f"the weights of {self.model.name} have changed since this session was read: "
                "what it holds is another model's; read the document again"
            )


__all__ = ["SessionState"]
