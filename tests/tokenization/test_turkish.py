"""Turkish forms: harmony, hardening, softening."""

from __future__ import annotations

import pytest

from lengthwise.tokenization.turkish import (
    SUFFIXES,
    capitalised,
    chosen,
    forms,
    lowered,
    root_forms,
)


def test_an_archetype_has_the_forms_that_harmony_makes() -> None:
    assert forms("lAr") == ("lar", "ler")
    assert set(forms("DIr")) == {"dır", "dir", "dur", "dür", "tır", "tir", "tur", "tür"}
    assert forms("lArI") == ("ları", "leri")
    assert set(forms("ImIz")) == {"ımız", "imiz", "umuz", "ümüz"}
    assert set(forms("AcAK")) == {"acak", "acağ", "ecek", "eceğ"}
    assert len(SUFFIXES) == len(set(SUFFIXES))


def test_roots_soften_and_lose_vowels() -> None:
    assert root_forms("kitap") == ("kitap", "kitab") and root_forms("at") == ("at",)
    assert root_forms("renk") == ("renk", "reng")
    assert root_forms("bisiklet", frozenset({"NoVoicing"})) == ("bisiklet",)
    assert root_forms("burun", frozenset({"LastVowelDrop"})) == ("burun", "burn")


@pytest.mark.parametrize(
    ("archetype", "before", "after", "form"),
    [
        ("lAr", "ev", "", "ler"), ("lAr", "at", "", "lar"), ("lAr", "göz", "", "ler"),
        ("DA", "kitap", "", "ta"), ("DA", "ev", "", "de"), ("ImIz", "göz", "", "ümüz"),
        ("lIK", "göz", "ü", "lüğ"), ("lIK", "göz", "", "lük"), ("DI", "oku", "", "du"),
        ("mIş", "gel", "", "miş"), ("CI", "balık", "", "çı"), ("AcAK", "gel", "", "ecek"),
    ],
)  # fmt: skip
def test_a_front_and_a_back_root_take_the_forms_of_one_suffix(
    archetype: str, before: str, after: str, form: str
) -> None:
    assert chosen(forms(archetype), before, after) == form


def test_a_root_is_chosen_by_what_follows() -> None:
    assert chosen(("kitap", "kitab"), "", "ı") == "kitab"
    assert chosen(("kitap", "kitab"), "", "lar") == "kitap"
    assert chosen(("burun", "burn"), "", "un") == "burn"
    assert chosen(("burun", "burn"), "", "da") == "burun"
    assert chosen(("la", "yla"), "kapı", "") == "yla" and chosen(("la", "yla"), "at", "") == "la"


def test_dotted_and_dotless_i_stay_apart() -> None:
    assert lowered("IĞDIR İL") == "ığdır il" and capitalised("ilk") == "İlk"
    assert capitalised("ılık") == "Ilık"
