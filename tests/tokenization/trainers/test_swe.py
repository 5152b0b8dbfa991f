"""swe: likelihood never falls, and the tokenizer cuts words as training did."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lengthwise.tokenization.trainers import swe
from lengthwise.tokenization.trainers.likelihood import Symbols
from lengthwise.tokenization.trainers.swe import Swe
from tests.tokenization.trainers.small_corpus import texts


def test_likelihood_never_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    merge, segment = Symbols.merge, Symbols.segment

    def merged(self: Symbols, pair: tuple[int, int]) -> set[tuple[int, int]]:
        found = merge(self, pair)
        told.append(self.likelihood())
        return found

    def segmented(self: Symbols, cut: list[list[int]]) -> None:
        segment(self, cut)
        told.append(self.likelihood())

    monkeypatch.setattr(Symbols, "merge", merged)
    monkeypatch.setattr(Symbols, "segment", segmented)
    Swe(again=20).train(lambda: iter(texts()), 380, tmp_path, lambda what, share: None)
    assert len(told) > 100
    assert all(after >= before - 1e-6 for before, after in zip(told, told[1:], strict=False))


def test_it_encodes_as_it_was_trained(tmp_path: Path) -> None:
    seen: list[Symbols] = []
    begun = swe._begun

    def kept(words: dict[str, int], work: Path) -> Symbols:
        seen.append(begun(words, work))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swe, "_begun", kept)
        tokenizer = Swe().train(lambda: iter(texts()), 400, tmp_path, lambda what, share: None)
    symbols = seen[0]
    for word, cut in zip(symbols.words, symbols.cut, strict=True):
        model = [found.value for found in tokenizer.model.tokenize(word)]
        trained = [symbols.names[each] for each in cut]
        scores = dict(json.loads(tokenizer.to_str())["model"]["vocab"])
        assert math.isclose(sum(scores[each] for each in model),
                            sum(scores[each] for each in trained), abs_tol=0.5)  # fmt: skip
    again = [symbols.names[each] for cut in symbols.cut for each in cut]
    assert sum(map(len, again)) == sum(map(len, symbols.words))


def test_it_stops_where_no_merge_gains(tmp_path: Path) -> None:
    # Each letter comes as often as any: no pair is likelier than its letters.
    corpus = ["a\n\nb\n\nc\n\nd"]
    tokenizer = Swe().train(lambda: iter(corpus), 5000, tmp_path, lambda what, share: None)
    assert tokenizer.get_vocab_size() < 300
