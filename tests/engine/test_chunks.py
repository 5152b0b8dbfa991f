"""How much of a prompt a forward reads, by what is wanted of its tokens."""

from __future__ import annotations

import pytest
import torch

from lengthwise.engine import loop
from lengthwise.engine.chunks import CHUNK, GPU_CHUNK, chunk_of
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses
from lengthwise.testing.tiny import tiny, tokens

TEXT = tokens(40)


def test_a_gpu_reads_more_at_once_but_where_logits_of_all_are_wanted() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    found = [chunk_of(device, scores) for device in (gpu, cpu) for scores in (False, True)]
    assert found == [GPU_CHUNK, CHUNK, CHUNK, CHUNK]


@pytest.mark.parametrize(
    ("noted", "last", "losses", "parts"),
    [
        (None, False, None, [32, 8]), ([], False, None, [16, 16, 8]), ([], True, None, [32, 8]),
        (None, False, Losses(), [16, 16, 8]), ([], True, Losses(), [16, 16, 8]),
    ],
)  # fmt: skip
def test_states_of_all_tokens_are_noted_in_smaller_chunks(
    monkeypatch: pytest.MonkeyPatch, noted: list[torch.Tensor] | None, last: bool,
    losses: Losses | None, parts: list[int],
) -> None:  # fmt: skip
    """For the head reads all of them."""
    monkeypatch.setattr(loop, "chunk_of", lambda device, scores: 16 if scores else 32)
    sequence, seen = Sequence(tiny("llama")), list[int]()
    sequence.noted, sequence.notes_last = None if noted is None else [*noted], last
    logits = loop.prefill(sequence, TEXT, None, seen.append, losses)
    assert seen == parts
    whole = Sequence(tiny("llama"))
    whole.noted = []
    assert torch.allclose(loop.prefill(whole, TEXT, 40), logits, atol=1e-4)
    if sequence.noted is not None:
        found = torch.cat(sequence.noted)
        assert len(found) == (1 if last else len(TEXT))
        assert torch.allclose(found, whole.noted[0][-len(found) :], atol=1e-4)
