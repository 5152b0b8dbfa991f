"""Keys that would do nothing are refused with the one that they need."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.training.config import RunConfig, TrainingError, read_config

RIGHT: dict[str, Any] = {
    "out": "o", "epochs": 1, "model": {"family": "llama"}, "data": {"train": "d"},
}  # fmt: skip
CHECKPOINT = {"checkpoint": "c", "tokenizer": "checkpoint"}
DOMAINS = {"a": {"data": "b"}}


def read(**other: Any) -> RunConfig:
    return read_config(RIGHT | other)


@pytest.mark.parametrize(
    ("other", "key", "needed"),
    [
        ({"evaluation": {"every": 5}}, "evaluation.every=5", "data.validation"),
        ({"evaluation": {"max_length": 9}}, "evaluation.max_length=9", "data.validation"),
        ({"model": {"family": "llama", "tokenizer": "checkpoint"}}, "model.tokenizer='checkpoint'",
         "model.checkpoint"),
        ({"upsampling": {"share": 0.2}}, "upsampling.share=0.2", "upsampling.domains"),
        ({"growth": {"factor": 2}}, "growth.factor=2", "growth.at_step"),
        ({"growth": {"at_step": 0, "schedule": "kept"}}, "growth.schedule='kept'",
         "growth.at_step"),
    ],
)  # fmt: skip
def test_a_key_without_the_one_that_it_needs_is_refused(
    other: dict[str, Any], key: str, needed: str
) -> None:
    with pytest.raises(TrainingError) as refused:
        read(**other)
    assert str(refused.value) == (
        f"{key} does nothing without {needed}: give that too, or leave it out"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"evaluation": {"every": 5}, "data": {"train": "d", "validation": "v"}},
        {"model": CHECKPOINT}, {"upsampling": {"share": 0.2, "domains": DOMAINS}},
        {"growth": {"at_step": 3, "factor": 2}},
        {"evaluation": {"every": 0}, "growth": {"at_step": 0}, "upsampling": {"share": 0.15}},
    ],
)  # fmt: skip
def test_a_key_that_is_used_or_at_its_default_is_not(other: dict[str, Any]) -> None:
    assert read(**other).out == "o"
