"""No n tokens in a row twice: what transformers' processor forbids."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import NoRepeatNGramLogitsProcessor

import lengthwise
from lengthwise.errors import ConstraintError
from lengthwise.methods.decoding.no_repeat_ngram import NoRepeatLaw
from lengthwise.testing.tiny import tiny_model, tokens


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_it_forbids_what_transformers_forbids(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    text = torch.randint(0, 4, (60,), generator=generator).tolist()
    for length in (0, 1, 2, 7, 60):
        law = NoRepeatLaw("no_repeat_ngram", size)
        law.begin(SimpleNamespace(tokens=text[:length]), None, 9, [])  # type: ignore[arg-type]
        for end in range(length, 60, 7):
            scores = torch.zeros(8)
            theirs = scores[None]
            if end:
                ids = torch.tensor([text[:end]])
                theirs = NoRepeatNGramLogitsProcessor(size)(ids, scores.clone()[None])  # type: ignore[arg-type]
            assert torch.equal(law.process(scores, text[length:end]), theirs[0])


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_path_that_goes_back_is_forgotten(size: int) -> None:
    generator = torch.Generator().manual_seed(size)

    def drawn(count: int) -> list[int]:
        return torch.randint(0, 3, (count,), generator=generator).tolist()

    prompt, path = drawn(9), []
    law = NoRepeatLaw("no_repeat_ngram", size)
    law.begin(SimpleNamespace(tokens=prompt), None, 9, [])  # type: ignore[arg-type]
    for kept in (0, 5, 3, 0, 7, 2, 11, 4):
        path = [*path[:kept], *drawn(kept + 3)]
        ids = torch.tensor([[*prompt, *path]])
        theirs = NoRepeatNGramLogitsProcessor(size)(ids, torch.zeros(1, 8))  # type: ignore[arg-type]
        assert torch.equal(law.process(torch.zeros(8), path), theirs[0])


def test_what_was_written_is_indexed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    law, added = NoRepeatLaw("no_repeat_ngram", 3), []
    law.begin(SimpleNamespace(tokens=tokens(20)), None, 9, [])  # type: ignore[arg-type]
    add = NoRepeatLaw._add
    monkeypatch.setattr(
        NoRepeatLaw, "_add", lambda self, token: (added.append(token), add(self, token))
    )
    text = tokens(60, 1)
    for end in range(61):
        law.process(torch.zeros(128), text[:end])
    law.process(torch.zeros(128), [*text[:58], 5, 6])
    assert added == [*text, 5, 6]


@pytest.mark.parametrize("beside", ["full", "lookup"])
def test_a_text_repeats_nothing(beside: str) -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15))
    found = model.generate(tokens(40), f"{beside} + no_repeat_ngram(size=2)", max_new_tokens=40,
                           stop_ids=[])  # fmt: skip
    text = [*tokens(40), *found.token_ids]
    before = {tuple(text[at : at + 2]) for at in range(39)}
    new = [tuple(text[at : at + 2]) for at in range(39, len(text) - 1)]
    assert len(set(new)) == len(new) and not set(new) & before


def test_where_every_token_would_repeat_it_says_so() -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15))
    with pytest.raises(ConstraintError, match="give a larger size"):
        model.generate(list(range(128)), "no_repeat_ngram(size=1)", max_new_tokens=2)
