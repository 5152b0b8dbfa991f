"""Shared by tests of the fused forward: models, stock scores, which path a request took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import lengthwise
from lengthwise.models import attention_hook
from lengthwise.testing.tiny import tiny_model, tokens

TEXT = tokens(30)
DTYPES = [torch.float32, torch.bfloat16]
# Rounding of log-probabilities, as a share of the largest; what is changed below shows in all.
ROUNDING = {torch.float32: 3e-6, torch.bfloat16: 0.03}


def made(dtype: torch.dtype, family: str = "llama", **changes: Any) -> PreTrainedModel:
    return tiny_model(family, **changes).to(dtype)  # type: ignore[arg-type]


@torch.no_grad()
def stock(model: Any, text: list[int] = TEXT) -> torch.Tensor:
    """Log-probabilities `[n - 1]` by the model itself."""
    logits = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, :-1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(text)[1:, None])[:, 0]


def check_equal(wrapped: lengthwise.Model, text: list[int] = TEXT) -> None:
    """Scores and greedy text are the stock model's as it is now."""
    model = wrapped.adapted.model
    theirs = stock(model, text)
    error = float((wrapped.score(text) - theirs).abs().max() / theirs.abs().max())
    assert error <= ROUNDING[model.dtype], error
    if model.dtype == torch.float32:
        ours = wrapped.generate(text, max_new_tokens=8, stop_ids=[]).token_ids
        made = model.generate(
            torch.tensor([text]), max_new_tokens=8, do_sample=False, eos_token_id=None
        )
        assert ours == made[0, len(text) :].tolist()


@contextmanager
def plain_passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A list that grows with each forward through the model's own modules."""
    seen: list[int] = []
    before = attention_hook.engaged

    def engaged(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return before(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(attention_hook, "engaged", engaged)
        yield seen


def fused(wrapped: lengthwise.Model, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a request goes through the fused forward alone."""
    with plain_passes(monkeypatch) as seen:
        wrapped.score(TEXT)
    return not seen
