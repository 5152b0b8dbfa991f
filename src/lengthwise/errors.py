"""What a user can get wrong, as exceptions whose text is the one line the user is shown.

Every one is a `ValueError`, so that a caller who knows nothing of this package catches them too.
"""

from __future__ import annotations


class LengthwiseError(ValueError):
    """Base of every error that is the user's to mend."""


class ModelError(LengthwiseError):
    """A model cannot be found, read, fetched or stored."""


class UnsupportedModel(ModelError):
    """A model family that cannot be adapted, named with the reason."""

    def __init__(self, family: str, reason: str) -> None:
        super().__init__(family, reason)
        self.family = family
        self.reason = reason

    def __str__(self) -> str:
        return f"models of family {self.family!r} are not supported: {self.reason}"


class UnsuitableModel(UnsupportedModel):
    """A model that cannot be adapted in the state or wrapping it is in: why not, and what to do."""

    def __init__(self, family: str, reason: str, remedy: str) -> None:
        super().__init__(family, f"{reason}; {remedy}")

    def __str__(self) -> str:
        return f"this {self.family!r} model cannot be run as it is: {self.reason}"


class RecipeError(LengthwiseError):
    """A recipe cannot be parsed, or names a method or option that does not exist."""


class Refused(RecipeError):
    """A recipe that reads well but cannot run here: why not, and the nearest thing that works."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


class TokenizerError(LengthwiseError):
    """A tokenizer cannot be read, trained, saved or put in the place of another."""


class DocumentError(LengthwiseError):
    """A document is empty, binary, unreadable or too short for what was asked of it."""


class SessionError(LengthwiseError):
    """A session cannot be stored, opened or gone on with: why, and what to do."""


class NotFinite(LengthwiseError):
    """There is no token to choose, or no loss to give: what the model gave is not finite.

    position: of the token, counted from 0 at the start of the prompt. row: which prompt of how
    many. dtype: the model's. forbidden: the model's logits are finite, and what was asked of them
    leaves no token.
    """

    def __init__(
        self, position: int, row: tuple[int, int] = (0, 1), dtype: str = "", forbidden: bool = False
    ) -> None:
        super().__init__(position, row, dtype, forbidden)
        self.position, self.row, self.dtype, self.forbidden = position, row, dtype, forbidden

    def __str__(self) -> str:
        number, count = self.row
        whose = f" of prompt {number + 1} of {count}" if count > 1 else ""
        if self.forbidden:
            return (
                f"no token is allowed at position {self.position}{whose}: processors, or "
                "suppressed tokens, forbid all of them; allow one"
            )
        wide = "float32" if self.dtype == "bfloat16" else "bfloat16 or float32"
        narrow = self.dtype in ("float16", "bfloat16")
        remedy = f"load the model with dtype {wide}" if narrow else "its weights hold such numbers"
        return (
            f"the model's logits for the token at position {self.position}{whose} are not finite "
            f"(NaN, or infinite) in {self.dtype}; {remedy}"
        )


class ConstraintError(LengthwiseError):
    """A text cannot go on under what its recipe demands of it: what that is, where, and why."""


class OutOfMemory(LengthwiseError):
    """Memory ran out in the middle of a request, which ended; the model stays usable.

    tokens: that it held. kept: bytes of their keys and values. device: whose memory.
    """

    def __init__(self, tokens: int, kept: int, device: str, cause: BaseException | str) -> None:
        super().__init__(tokens, kept, device, str(cause))
        self.tokens, self.kept, self.device = tokens, kept, device

    def __str__(self) -> str:
        return (
            f"out of memory on {self.device} behind {self.tokens:,} tokens, whose keys and values "
            f"took {self.kept / 1e6:,.0f} MB; give a shorter prompt, fewer rows at once, a smaller "
            "chunk, or a recipe that keeps less, such as 'snapkv(budget=25%)' or 'kivi'"
        )
