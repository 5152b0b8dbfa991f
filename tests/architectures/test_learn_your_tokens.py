"""Words pooled from bytes: no word leaks into its own spelling, and the fast path is the plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor
from transformers import AutoModel

import lengthwise
from lengthwise import architectures
from lengthwise.architectures.learn_your_tokens import LearnYourTokens, LearnYourTokensConfig
from lengthwise.architectures.word_units import (
    FILLING,
    ON,
    SPACE,
    STOP,
    bytes_of,
    joined,
    lengths_of,
    sizes_of,
    units_of,
)
from lengthwise.errors import LengthwiseError

TEXT = "the cat sat\non a most extraordinarilylongwordindeed mat "


def model_of(vectors: int = 2, **sizes: Any) -> LearnYourTokens:
    torch.manual_seed(0)
    given = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 2, "initializer_range": 0.3, "longest": 12}  # fmt: skip
    return LearnYourTokens(LearnYourTokensConfig(vectors=vectors, **(given | sizes))).eval()


def units(longest: int = 12) -> Tensor:
    return joined([units_of(TEXT, longest).units, units_of("x yy", longest).units])


# Words of a text.


def test_a_text_is_cut_at_spaces_and_behind_lines() -> None:
    found = units_of("ab  c\nd", 4)
    said = [[u for u in row if u != FILLING] for row in found.units.tolist()]
    assert said == [[97, 98, SPACE], [SPACE], [99, 10, ON], [100, STOP]]
    assert found.cut == 0 and found.size == 7
    assert lengths_of(found.units).tolist() == [3, 1, 3, 2]
    assert sizes_of(found.units).tolist() == [3, 1, 2, 1]


def test_a_long_word_is_cut_in_several_and_counted() -> None:
    found = units_of("abcdefghij k", 4)
    assert found.cut == 1
    assert [bytes_of([row]) for row in found.units.tolist()] == [b"abcd", b"efgh", b"ij ", b"k"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.integers(1, 9))
def test_any_bytes_come_back(data: bytes, longest: int) -> None:
    found = units_of(data, longest)
    assert bytes_of(found.units.tolist()) == data
    assert int(sizes_of(found.units).sum()) == found.size == len(data)


def test_a_text_that_goes_on_ends_with_a_space() -> None:
    assert units_of("a b ", 4, stops=False).units[:, 1].tolist() == [SPACE, SPACE]
    with pytest.raises(ValueError, match="ends with a space"):
        units_of("a b", 4, stops=False)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="character 1 is half of a surrogate pair"):
        units_of("a\ud800", 4)


# The model.


@torch.no_grad()
def test_a_word_changes_no_vector_but_its_own() -> None:
    model, rows = model_of(), units()[0]
    other = rows.clone()
    other[2, 0] = 120
    one, two = model.encode(rows), model.encode(other)
    changed = (one - two).abs().amax((1, 2)) > 1e-6
    assert changed.nonzero()[:, 0].tolist() == [2]


@torch.no_grad()
def test_a_word_is_not_spelled_from_what_the_main_model_makes_of_it() -> None:
    """Its context is that of the words before it, whatever it is and whatever follows."""
    model, rows = model_of(), units()[:1]
    vectors = model.encode(rows[0])[None]
    for word in range(rows.shape[1]):
        other = vectors.clone()
        other[:, word:] += 1.0
        one, two = model.context(vectors), model.context(other)
        torch.testing.assert_close(one[:, : word + 1], two[:, : word + 1])
        if word + 1 < rows.shape[1]:
            assert (one[:, word + 1] - two[:, word + 1]).abs().max() > 1e-4


@torch.no_grad()
def test_no_unit_sees_itself_or_what_follows() -> None:
    model, rows = model_of(), units()[:1]
    plain = model(rows).logits
    other = rows.clone()
    other[0, 3, 1] = 121
    changed = (model(other).logits - plain).abs().amax(-1)[0] > 1e-5
    assert not changed[:3].any() and not changed[3, :2].any()
    assert changed[3, 2] and changed[4, 0]


@torch.no_grad()
@pytest.mark.parametrize("vectors", [1, 3])
def test_words_by_length_cost_what_they_cost_at_once(vectors: int) -> None:
    model, rows = model_of(vectors), units()
    logits = model(rows).logits
    wanted = F.cross_entropy(
        logits.flatten(0, 2), rows.flatten(), ignore_index=FILLING, reduction="none"
    )
    nats, right = model.spelled(rows)
    torch.testing.assert_close(nats, wanted.view(rows.shape).sum(-1), rtol=0, atol=1e-4)
    hits = ((logits.argmax(-1) == rows) | (rows == FILLING)).all(-1)
    there = lengths_of(rows) > 0
    assert torch.equal(right[there], hits[there])
    assert not nats[~there].any()


@torch.no_grad()
def test_what_fills_a_row_up_changes_nothing() -> None:
    model, (short, _) = model_of(), (units_of("x yy", 12).units[None], None)
    alone = model.spelled(short)[0]
    torch.testing.assert_close(model.spelled(units())[0][1:, :2], alone, rtol=0, atol=1e-4)


@torch.no_grad()
def test_words_are_written_as_texts_are_cut() -> None:
    """Whatever a model writes is cut again as it was written, so what it read stays what it is."""
    model = model_of(longest=3)
    for seed in range(30):
        words: list[bytes] = []
        found = model.write("ab ", 3, temperature=2.0, seed=seed, told=words.append)
        rows = units_of(b"ab " + found, 3).units.tolist()
        assert [bytes_of([row]) for row in rows][1 : len(words) + 1] == words
    assert model.write("ab", 2) == b" " + model.write("ab ", 2)


def test_drawn_words_depend_on_the_seed_and_end() -> None:
    model = model_of()
    found = {model.write("a ", 6, temperature=1.0, seed=seed) for seed in range(4)}
    assert len(found) > 1
    assert model.write(b"", 3, 1.0, seed=1) == model.write(b"", 3, 1.0, seed=1)
    with pytest.raises(ValueError, match="temperature=-1"):
        model.write("a", temperature=-1)


def test_an_overfitted_model_writes_its_text_to_the_end() -> None:
    torch.manual_seed(0)
    model, text = model_of(initializer_range=0.05), b"one two three four"
    rows = units_of(text, 12).units[None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model.spelled(rows)[0].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert model.spelled(rows)[1].all()
    assert model.write("one ", words=20) == b"two three four"


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    architectures.register()
    model = model_of()
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(again, LearnYourTokens)
    assert torch.equal(again(units()).logits, model(units()).logits)


def test_recipes_on_it_are_refused_by_name() -> None:
    with pytest.raises(LengthwiseError, match="learn_your_tokens.*reads words"):
        lengthwise.wrap(model_of())


@pytest.mark.parametrize("name", ["longest", "vectors", "word_layers"])
def test_settings_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0: give at least 1"):
        LearnYourTokensConfig(**{name: 0})
