"""Which row of the old vocabulary is which of the new, by bytes; and ids elsewhere in a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from lengthwise.tokenization.token_bytes import ByteVocabulary
from lengthwise.tokenization.transplant.dressing import ROLES

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Roles whose row is copied. A token with the row of another is written as often as that one. So
# padding and the unknown have no copy of an end, which is often their token, too.
_SHARED = ("eos_token", "bos_token")
_NAMED = ("_token_id", "_token_ids", "suppress_tokens")
_WORDS = ("bad_words_ids", "force_words_ids", "sequence_bias")


def matched(
    own: PreTrainedTokenizerBase, old: ByteVocabulary,
    made: PreTrainedTokenizerBase, new: ByteVocabulary, rows: int,
) -> dict[int, int]:  # fmt: skip
    """Of new tokens the old ones that they are: special ones by name, end and beginning also by
    their role, text by bytes.

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
    marks = {each.content for each in made.backend_tokenizer.get_added_tokens_decoder().values()}
    found = {}
    for word, token in words.items():
        data, known = new.spelled[token], theirs.get(word)
        # One of the two may say that it is special, and the other not.
        marked = word in marks and known is not None and old.spelled[known] is None
        if data is None or marked:
            if known is not None and known < rows:
                found[token] = known
        elif candidates := by_bytes.get(data):
            found[token] = min(
                candidates, key=lambda n: (spelt[n] != word, bool(_BYTE.fullmatch(spelt[n])), n)
            )
    for role in _SHARED:
        here, there = getattr(made, f"{role}_id"), getattr(own, f"{role}_id")
        if here is not None and there is not None and there < rows:
            found.setdefault(int(here), int(there))
    return found


@dataclass(frozen=True)
class Moves:
    """Where old tokens are now.

    ids: of an old token the new ones that have its row, that of the same name first. roles: of a
    role the old token and the new one that have it.
    """

    ids: Mapping[int, Seq[int]]
    roles: Mapping[str, tuple[int | None, int | None]]

    def of(self, token: int, role: str | None = None) -> list[int]:
        """The new tokens that an old one is now, none where it is gone.

        Args:
            token: the old one.
            role: that it is meant in; the new token of this role comes first.
        """
        before, now = self.roles[role] if role else (None, None)
        first = [] if now is None or before != token else [now]
        return list(dict.fromkeys((*first, *self.ids.get(token, ()))))

    def first(self, token: int | None, role: str | None = None) -> int | None:
        """The first of these, None where the token is gone or there was none.

        Args:
            token: the old one.
            role: as for `of`.
        """
        return None if token is None else next(iter(self.of(token, role)), None)


def moved(
    found: Mapping[int, int], own: PreTrainedTokenizerBase, made: PreTrainedTokenizerBase
) -> Moves:
    """Where old tokens are now.

    Args:
        found: of new tokens the old ones.
        own: the model's tokenizer.
        made: the new one.
    """
    ids: dict[int, list[int]] = {}
    for new, old in sorted(found.items()):
        ids.setdefault(old, []).append(new)
    for old, several in ids.items():
        if len(several) > 1:
            name = own.convert_ids_to_tokens(old)
            several.sort(key=lambda new: made.convert_ids_to_tokens(new) != name)
    roles = {role: (getattr(own, f"{role}_id"), getattr(made, f"{role}_id")) for role in ROLES}
    return Moves(ids, roles)


def renumber(config: Any, moves: Moves) -> dict[str, bool]:
    """Gives token ids of a configuration their new numbers, in place.

    Where no token of a role is left, the new tokenizer's token of that role is taken.

    Args:
        config: of a model or of generation.
        moves: where the tokens are now.

    Returns:
        Of each setting that lost tokens whether some are left. One without is None now.
    """
    lost = {}
    for name, value in list(vars(config).items()):
        plain = name.lstrip("_")
        if plain in _WORDS and value:
            new, whole = _words(value, moves)
        elif plain.endswith(_NAMED) and (numbers := _numbers(value)):
            new, whole = _tokens(numbers, plain, moves)
            if isinstance(value, int) and len(new) == 1:
                new = new[0]
        else:
            continue
        setattr(config, name, None if new in ([], {}) else new)
        if not whole:
            lost[plain] = new not in ([], {})
    return lost


def _numbers(value: Any) -> list[int]:
    """The tokens of a setting; none where it holds something else."""
    found = list(value) if isinstance(value, list | tuple) else [value]
    plain = all(isinstance(each, int) and not isinstance(each, bool) for each in found)
    return found if plain else []


def _tokens(numbers: Seq[int], setting: str, moves: Moves) -> tuple[Any, bool]:
    """The new numbers, and whether every old one is among them.

    A model writes what has the row of an end as often as the end: all of these are ends.
    """
    role = next((role for role in ROLES if setting.endswith(f"{role}_id")), None)
    each_now = [moves.of(each, role) for each in numbers]
    most = None if setting == "eos_token_id" else 1
    kept = list(dict.fromkeys(new for now in each_now for new in now[:most]))
    if not kept and role and (other := moves.roles[role][1]) is not None:
        return [other], True
    return kept, all(each_now)


def _words(value: Any, moves: Moves) -> tuple[Any, bool]:
    """The same of words, with a number each in `sequence_bias`; a word is kept whole or not."""
    if isinstance(value, dict):
        found = {tuple(_word(ids, moves)): bias for ids, bias in value.items()}
        found.pop((), None)
        return found, len(found) == len(value)
    kept = [new for each in value if (new := _word(each, moves))]
    return kept, len(kept) == len(value)


def _word(value: Any, moves: Moves) -> list[Any]:
    """A word's new ids, or those of several words; none where one is gone."""
    kept: list[Any] = []
    for each in value:
        if isinstance(each, list | tuple):
            kept += [new] if (new := _word(each, moves)) else []
            continue
        if isinstance(each, float):
            return [*kept, each] if kept else []
        if (now := moves.first(each)) is None:
            return []
        kept.append(now)
    return kept


__all__ = ["Moves", "matched", "moved", "renumber"]
