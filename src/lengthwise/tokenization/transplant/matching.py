"""Which row of the old vocabulary is which of the new, by bytes; and ids elsewhere in a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from lengthwise.tokenization.token_bytes import ByteVocabulary
from lengthwise.tokenization.transplant.dressing import ROLES

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def matched(
    own: PreTrainedTokenizerBase, old: ByteVocabulary,
    made: PreTrainedTokenizerBase, new: ByteVocabulary, rows: int,
) -> dict[int, int]:  # fmt: skip
    """Of new tokens the old ones that they are: special ones by name, then by role; text by bytes.

    Of several old tokens of the same bytes, the one written alike is taken, or else the one that is
    no byte of a fallback.

    Args:
        own: the model's tokenizer.
        old: its bytes.
        made: the new one.
        new: its bytes.
        rows: of the old matrix; tokens beyond have none.
    """
    words, theirs = made.get_vocab(), own.get_vocab()
    spelt = {token: word for word, token in theirs.items()}
    by_bytes: dict[bytes, list[int]] = {}
    for token, data in enumerate(old.spelled[:rows]):
        if data:
            by_bytes.setdefault(data, []).append(token)
    found = {}
    for word, token in words.items():
        data = new.spelled[token]
        if data is None:
            known = theirs.get(word)
            if known is not None and known < rows:
                found[token] = known
        elif candidates := by_bytes.get(data):
            found[token] = min(
                candidates, key=lambda n: (spelt[n] != word, bool(_BYTE.fullmatch(spelt[n])), n)
            )
    for role in ROLES:
        here, there = getattr(made, f"{role}_id"), getattr(own, f"{role}_id")
        if here is not None and there is not None and there < rows:
            found.setdefault(int(here), int(there))
    return found


def moved(found: Mapping[int, int]) -> dict[int, int]:
    """Of old tokens the new ones that they are now; of several the first.

    Args:
        found: of new tokens the old ones.
    """
    made: dict[int, int] = {}
    for new, old in sorted(found.items()):
        made.setdefault(old, new)
    return made


def renumber(config: Any, ids: Mapping[int, int]) -> list[str]:
    """Gives token ids of a configuration their new numbers, in place.

    Args:
        config: of a model or of generation.
        ids: of old tokens the new ones.

    Returns:
        The names of settings whose tokens are gone; they are None now.
    """
    gone = []
    for name, value in list(vars(config).items()):
        plain = name.lstrip("_")
        if not plain.endswith(("_token_id", "_token_ids", "suppress_tokens")):
            continue
        if isinstance(value, bool) or not isinstance(value, int | list | tuple):
            continue
        numbers = [value] if isinstance(value, int) else list(value)
        if not all(isinstance(each, int) for each in numbers):
            continue
        kept = [ids[each] for each in numbers if each in ids]
        if len(kept) < len(numbers):
            gone.append(plain)
        if isinstance(value, int):
            setattr(config, name, kept[0] if kept else None)
        else:
            setattr(config, name, kept or None)
    return gone


__all__ = ["matched", "moved", "renumber"]
