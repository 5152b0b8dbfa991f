"""The likeliest text that is not degenerate, against all texts there are."""

from functools import lru_cache
from itertools import product

import pytest

import lengthwise
from lengthwise.api.model import Model
from lengthwise.errors import LengthwiseError
from lengthwise.methods.decoding.conditional_beam import circling
from lengthwise.testing.tiny import tiny_model

VOCAB = 12


@lru_cache(maxsize=1)
def model() -> Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.2, vocab_size=VOCAB))


def likeliest(ids: list[int], stop: int, limit: int) -> list[int]:
    """The best of all texts of 1 to `limit` tokens but those that say nothing."""
    best: tuple[float, list[int]] = (float("-inf"), [])
    others = [token for token in range(VOCAB) if token != stop]
    for length in range(1, limit + 1):
        for text in product(others, repeat=length):
            whole = [*text, stop] if length < limit else list(text)
            score = float(model().score([*ids, *whole], prompt=len(ids)).sum())
            best = max(best, (score, list(text)))
    return best[1]


def test_where_the_empty_text_is_likeliest_the_next_best_is_found() -> None:
    ids = [3, 7, 1, 9, 4]
    stop = model().generate(ids, max_new_tokens=1, stop_ids=[]).token_ids[0]
    asked = {"max_new_tokens": 2, "stop_ids": [stop]}
    empty = model().generate(ids, "beam(width=12, length_penalty=0)", **asked)
    found = model().generate(ids, "conditional_beam(width=12)", **asked)
    assert empty.token_ids == []
    assert found.token_ids == likeliest(ids, stop, 2) and found.token_ids
    assert all(draft.token_ids for draft in found.drafts)


def test_texts_that_are_cut_off_are_left_out() -> None:
    ids = [3, 7, 1, 9, 4]
    asked = {"max_new_tokens": 5, "stop_ids": [2]}
    cut = model().generate(ids, "conditional_beam(width=4)", **asked)
    whole = model().generate(ids, "conditional_beam(width=4, never=unfinished)", **asked)
    assert whole.metrics.finish_reason == "stop" and len(whole.token_ids) < 5
    assert cut.metrics.finish_reason in ("stop", "length")
    with pytest.raises(LengthwiseError, match="never=all.*stop_ids"):
        model().generate(ids, "conditional_beam(never=all)", stop_ids=[])


def test_no_run_stands_three_times_in_a_row() -> None:
    assert circling([1, 1], 4) == {1}
    assert circling([1, 2, 1, 2, 1], 4) == {2} and circling([1, 2, 1, 2, 1], 1) == set()
    assert circling([1, 2, 3], 4) == set() and circling([], 4) == set()
    found = model().generate(
        [3, 7, 1], "conditional_beam(width=4, never=repeating)", max_new_tokens=30, stop_ids=[]
    )
    for draft in found.drafts:
        said = draft.token_ids
        assert not any(said[at] in circling(said[:at], 8) for at in range(len(said)))
