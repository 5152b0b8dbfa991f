"""The law of token counts, on the card's figures."""

from __future__ import annotations

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.report.inequities import fit_token_counts, spread_of


def test_the_fit_and_the_chosen_size_are_the_cards() -> None:
    law = fit_token_counts([4000, 8000, 16000, 32000], [200, 170, 150, 137])
    assert law.b == pytest.approx(-0.1818, abs=5e-5)
    assert law.a == pytest.approx(6.788, abs=5e-4)
    assert round(law.size(140)) == 25753
    assert law.tokens(law.size(140)) == pytest.approx(140)
    assert law.covers(25753) and not law.covers(64000)


@pytest.mark.parametrize(
    ("sizes", "tokens"), [([1], [2]), ([4, 4], [1, 2]), ([4, 8], [1, 0]), ([4, 8], [1, 2])]
)
def test_what_tells_no_law_is_refused(sizes: list[float], tokens: list[float]) -> None:
    with pytest.raises(TokenizerError, match="vocabular"):
        fit_token_counts(sizes, tokens)


def test_spread_is_of_counts() -> None:
    found = spread_of([10, 20, 30])
    assert found.ratio == 3 and found.mean == 20
    assert found.variation == pytest.approx((200 / 3) ** 0.5 / 20)
