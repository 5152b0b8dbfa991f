"""Ids of a vocabulary with gaps reach further than it has tokens."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from lengthwise.sequences.encoder import Encoder
from lengthwise.tokenization.id_range import id_range
from lengthwise.tokenization.opened import Fast


def with_gap(last: int) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "far": last, "?": 1}, unk_token="?"))
    tokenizer.add_special_tokens(["<e>"])
    return tokenizer


@pytest.mark.parametrize(("last", "dtype"), [(2, np.uint16), (65_534, np.uint16),
                                             (65_535, np.uint16), (65_536, np.int32),
                                             (100_000, np.int32)])  # fmt: skip
def test_ids_are_stored_and_counted_as_they_are(last: int, dtype: type) -> None:
    encoder = Encoder(with_gap(last), "<e>")
    far = encoder.encode(["far"])[0]
    assert far.tolist() == [last] and encoder.vocab_size == max(last, encoder.end) + 1
    assert far.astype(encoder.dtype).tolist() == [last] and encoder.dtype == dtype
    known = encoder.vocab_size
    added = encoder.add(("<x>",))["<x>"]
    assert encoder.vocab_size == max(known, added + 1)


def test_a_report_and_a_build_count_alike() -> None:
    tokenizer = with_gap(500)
    assert id_range(tokenizer) == 501 == len(Fast("gaps", tokenizer, None).spelled)
    assert id_range(Tokenizer(models.BPE())) == 0
