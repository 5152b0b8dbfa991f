"""Where this machine computes."""

from __future__ import annotations

import pytest
import torch

from lengthwise._utils.devices import fastest_device


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(False, False, "cpu"), (False, True, "mps"), (True, False, "cuda:3"), (True, True, "cuda:3")],
)
def test_an_accelerator_is_taken_where_there_is_one(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert str(fastest_device()) == expected
