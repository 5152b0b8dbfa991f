"""Turkish letters: capitals, vowel harmony, and the forms that a suffix or a root may have.

A suffix is written as an archetype, whose capitals stand for letters that its neighbours decide:

    A  a e            by the last vowel: back or front
    I  ı i u ü        by the last vowel: back or front, unrounded or rounded
    D  d t, C  c ç    t and ç behind a voiceless consonant
    K  k ğ            ğ before a vowel

`chosen` decides among the forms of one id, by what stands before and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from itertools import product

BACK, FRONT = "aıouâû", "eiöüî"
VOWELS = BACK + FRONT
_ROUNDED = "oöuüû"
_VOICELESS = "çfhkpsşt"
_LETTERS = {"A": "ae", "I": "ıiuü", "D": "dt", "C": "cç", "K": "kğ"}
_VOICED = {"p": "b", "ç": "c", "t": "d", "k": "ğ"}

_ARCHETYPES = """
lAr lArI DA DAn DAki In nIn sI Im ImIz InIz mIz nIz yI yA yIm yIz sIn sInIz lI lIK sIz CI CIK CA
CAsI ncI IncI şAr lA ylA ki DIr ydI ymIş ysA DI mIş Iyor yor AcAK yAcAK Ir Ar mAz mAlI sA mA mAK
mAktA Abil yAbil ArAk yArAk Ip yIp IncA yIncA ken DIkçA An yAn DIK Il Iş yIş lAş lAn DAş t sAl msI
ImtrAk gil Alım yAlım AyIm yAyIm sInlAr nDA nDAn nI nA ndAki I A
"""
SUFFIXES: tuple[str, ...] = tuple(_ARCHETYPES.split())
"""Archetypes of Turkish suffixes."""


def forms(archetype: str) -> tuple[str, ...]:
    """The forms of a suffix, without those that mix front and back vowels.

    Args:
        archetype: as the docstring of this file says.
    """
    found = product(*(_LETTERS.get(letter, letter) for letter in archetype))
    words = ("".join(letters) for letters in found)
    return tuple(dict.fromkeys(word for word in words if _harmonic(archetype, word)))


def _harmonic(archetype: str, word: str) -> bool:
    """Whether each free vowel of a form follows the one before it."""
    free = [letter for kind, letter in zip(archetype, word, strict=True) if kind in "AI"]
    return all(_agrees(after, before) for before, after in zip(free, free[1:], strict=False))


def lowered(word: str) -> str:
    """A word in small letters, dotted and dotless i apart.

    Args:
        word: any.
    """
    return word.replace("I", "ı").replace("İ", "i").lower()


def capitalised(word: str) -> str:
    """A word with its first letter a capital, dotted and dotless i apart.

    Args:
        word: any.
    """
    first = {"i": "İ", "ı": "I"}.get(word[:1], word[:1].upper())
    return first + word[1:]


def syllables(word: str) -> int:
    """How many vowels a word has.

    Args:
        word: in small letters.
    """
    return sum(letter in VOWELS for letter in word)


def root_forms(word: str, marks: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The forms of a root: as it stands, softened before a vowel, and without its last vowel.

    Args:
        word: in small letters.
        marks: Voicing, NoVoicing and LastVowelDrop, as lexicons name them. Without one, roots of
            several syllables are softened.
    """
    found = [word]
    often = syllables(word) > 1 or word.endswith("nk")
    soft = "Voicing" in marks or (often and "NoVoicing" not in marks)
    if soft and word[-1] in _VOICED:
        voiced = "g" if word.endswith("nk") else _VOICED[word[-1]]
        found.append(word[:-1] + voiced)
    if "LastVowelDrop" in marks and len(word) > 2 and word[-2] in VOWELS:
        found.append(word[:-2] + word[-1])
    return tuple(found)


def chosen(of: Seq[str], before: str, after: str) -> str:
    """The form that stands between two texts.

    Args:
        of: forms of one suffix or root, the plain one first.
        before: what was written so far; its last word counts.
        after: how the next token begins; empty at the end of a word.
    """
    word = lowered(before)
    vowel = next((letter for letter in reversed(word) if letter in VOWELS), "")
    voiceless = word[-1:] in _VOICELESS and bool(word)
    vowel_next = lowered(after[:1]) in VOWELS and bool(after)
    buffered = any(form[1:] in of for form in of)
    tests: tuple[Callable[[str], bool], ...] = (
        lambda form: _agrees(lowered(form), vowel),
        # With a letter between two vowels: -la, -yla.
        lambda form: not buffered or (form[1:] in of) == (bool(word) and word[-1] in VOWELS),
        lambda form: form[:1] not in "dtcç" or (form[:1] in "tç") == voiceless,
        lambda form: _softened(form, of) == vowel_next,
    )
    left = list(of)
    for test in tests:
        left = [form for form in left if test(form)] or left
    return left[0]


def _agrees(form: str, vowel: str) -> bool:
    """Whether the first vowel of a form follows a vowel."""
    own = next((letter for letter in form if letter in VOWELS), "")
    if not own or not vowel:
        return True
    if (own in BACK) != (vowel in BACK):
        return False
    return own not in "ıiuü" or (own in "uü") == (vowel in _ROUNDED)


def _softened(form: str, of: Seq[str]) -> bool:
    """Whether a form is one that stands before a vowel alone."""
    hard = {"b": "p", "c": "ç", "d": "t", "ğ": "k", "g": "k"}.get(form[-1])
    dropped = any(form == each[:-2] + each[-1] and each[-2] in VOWELS for each in of if each[1:])
    return dropped or (hard is not None and form[:-1] + hard in of)


__all__ = [
    "BACK", "FRONT", "SUFFIXES", "VOWELS", "capitalised", "chosen", "forms", "lowered",
    "root_forms", "syllables",
]  # fmt: skip
