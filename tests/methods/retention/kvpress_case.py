"""What kvpress recorded (kvpress_record.py), and our model and prompt of the same case."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import Plan
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from tests.methods.retention import kvpress_record

LENGTH, PROMPT = kvpress_record.LENGTH, kvpress_record.prompt()


@cache
def recorded() -> dict[str, Any]:
    """Scores and kept positions by name of a press, then by layer."""
    found: dict[str, Any] = json.loads(kvpress_record.RECORD.read_text("utf-8"))
    return found


@cache
def adapted() -> AdaptedModel:
    """The model of the record."""
    return adapt(kvpress_record.model())


def read(plan: Plan, chunk: int = LENGTH) -> Sequence:
    """A sequence that has read the prompt to its end."""
    sequence = Sequence(adapted(), plan)
    prefill(sequence, PROMPT, chunk)
    sequence.end_prefill()
    return sequence
