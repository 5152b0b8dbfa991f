"""Options of methods, by the name under which methods know them; see `_utils/options.py`.

They are declared below every room, for kinds of tokenizers have options too.
"""

from lengthwise._utils.options import (
    KINDS,
    NO_BYTES,
    TYPES,
    WORDS,
    Needs,
    Option,
    check_options,
    option,
    options,
    show,
    way_of,
    written,
)

__all__ = [
    "KINDS", "NO_BYTES", "TYPES", "WORDS", "Needs", "Option", "check_options", "option", "options",
    "show", "way_of", "written",
]  # fmt: skip
