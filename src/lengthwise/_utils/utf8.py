"""The bytes of a text, where it has any."""

from __future__ import annotations

from lengthwise.errors import TokenizerError


def utf8(text: str) -> bytes:
    """The bytes of a text.

    Raises:
        TokenizerError: for half a surrogate pair, which has none.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} is half of a surrogate pair (U+{ord(text[error.start]):04X}) "
            "and has no UTF-8: give the bytes themselves, or mend the text"
        ) from error


__all__ = ["utf8"]
