"""%TR and %Pure: the paper's figures again, and the rules on made-up tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from lengthwise.tokenization.report.turkish import (
    Lexicon,
    figures_of,
    lower_turkish,
    percent,
    read_lexicon,
)

# The paper's table: %TR, %Pure and the model's accuracy.
PUBLISHED = {
    "gemma-2": (48.63, 37.05, 72.10), "llama-3.1": (45.80, 30.91, 70.42),
    "EuroLLM": (47.01, 35.17, 51.29), "qwen-2.5": (40.33, 30.15, 61.68),
    "aya-expanse": (50.67, 32.96, 70.66), "mistral": (45.27, 36.08, 46.89),
    "phi-3.5": (43.93, 34.42, 29.37), "gpt-4o": (42.14, 28.68, 84.84),
}  # fmt: skip


def test_published_shares() -> None:
    assert round(percent(3104, 6383), 2) == 48.63 == PUBLISHED["gemma-2"][0]
    assert round(percent(2365, 6383), 2) == 37.05 == PUBLISHED["gemma-2"][1]


def test_the_papers_table_does_not_correlate_with_accuracy() -> None:
    tr, pure, accuracy = zip(*PUBLISHED.values(), strict=True)
    found = stats.pearsonr(tr, accuracy)
    assert (round(found.statistic, 2), round(found.pvalue, 2)) == (0.10, 0.81)
    found = stats.pearsonr(pure, accuracy)
    assert (round(found.statistic, 2), round(found.pvalue, 2)) == (-0.51, 0.20)
    some = [row for name, row in PUBLISHED.items() if name != "gpt-4o"]
    assert round(stats.pearsonr([r[0] for r in some], [r[2] for r in some]).statistic, 2) == 0.42


def test_capitals_are_turkish() -> None:
    assert lower_turkish("IŞIK İZMİR") == "ışık izmir"


def test_tokens_by_rule() -> None:
    lexicon = Lexicon("mine", frozenset({"kitap", "lar", "ı"}))
    words = (b" Kitap", b"lar", b"I", b"xq", b"12", b",", b"  ", b"\xc4", None)
    found = figures_of(words, lexicon, 40)
    # White space alone and marks are left out; half a character counts and is no Turkish.
    assert (found.unique, found.valid, found.pure, found.lettered) == (7, 3, 3, 4)
    assert found.tr == pytest.approx(100 * 3 / 7) and found.tr_of_letters == 75


def test_zeyreks_lexicon_knows_roots_affixes_and_words() -> None:
    lexicon = read_lexicon()
    for word in ("kitap", "kitab", "lar", "ler", "imiz", "den", "tan", "ecek"):
        assert lexicon.is_pure(word), word
    assert lexicon.is_turkish("kitaplarımızdan") and not lexicon.is_pure("kitaplarımızdan")
    assert not lexicon.is_turkish("xyzq") and not lexicon.is_turkish("12")


def test_a_lexicon_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "roots.txt").write_text("Kitap\n-lar\n\nışık\tnoun\n")
    assert read_lexicon(tmp_path / "roots.txt").morphemes == {"kitap", "lar", "ışık"}
