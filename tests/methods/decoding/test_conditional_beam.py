"""The likeliest text that is not degenerate, against all texts there are."""

from functools import lru_cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F

import lengthwise
from lengthwise.api.model import Model
from lengthwise.engine.given import entries_of, put_entries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.optimising import optimise
from lengthwise.errors import LengthwiseError, Refused
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


def test_hidden_states_move_towards_the_end_of_the_prompt() -> None:
    ids = [3, 7, 1, 9, 4, 2, 8, 5, 7, 1, 9, 4]
    adapted, window = model().adapted, 6

    def loss(step: float) -> float:
        """Of the window behind what came before it, as it was moved."""
        sequence = Sequence(adapted)
        prefill(sequence, ids)
        sequence.end_prefill()
        optimise(sequence, window, step)
        new = Sequence(adapted)
        put_entries(new, ids[:-window], [each.slice(0, 6) for each in entries_of(sequence)])
        logits = torch.stack([prefill(new, [token]) for token in ids[-window:-1]])
        return float(F.cross_entropy(logits, torch.tensor(ids[1 - window :])))

    assert loss(1e-3) < loss(0.0) and loss(1e-2) < loss(1e-3)
    asked = {"max_new_tokens": 4, "stop_ids": []}
    moved = "conditional_beam(width=2, hso={}, window=6)"
    plain = model().generate(ids, "conditional_beam(width=2)", **asked)
    still = model().generate(ids, moved.format("1e-12"), **asked)
    far = model().generate(ids, moved.format("0.5"), **asked)
    assert still.drafts[0].score == pytest.approx(plain.drafts[0].score, abs=1e-4)
    assert far.drafts[0].score != pytest.approx(plain.drafts[0].score, abs=1e-3)
    with pytest.raises(Refused, match="looks at every token of the prompt"):
        model().plan("conditional_beam(hso=0.01) + kivi")
