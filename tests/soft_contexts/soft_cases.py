"""Encoders that nobody trained, texts, and files of encoders, for tests of soft contexts."""

from __future__ import annotations

from pathlib import Path

import lengthwise
from lengthwise.api.soft_context import ContextEncoder
from lengthwise.soft_contexts.base import SoftContext
from lengthwise.soft_contexts.dolphin import Dolphin
from lengthwise.soft_contexts.extensible import Extensible
from lengthwise.soft_contexts.files import save_encoder

TEXT = "Ada Brun signed the paper on Monday, in the garden. Ivo Castell was late. "
ASKED = "Who signed?"
DOLPHIN = Dolphin(tokens=4, layers=1, chunk=64)
EXTENSIBLE = Extensible(layers=1, chunk=64, ratios="2,4", piece=8)
BOTH = (DOLPHIN, EXTENSIBLE)


def opened(model: lengthwise.Model, how: SoftContext) -> ContextEncoder:
    """An encoder as it begins."""
    return ContextEncoder(model, how.start(model.adapted), how, {"steps": 0})


def stored(model: lengthwise.Model, how: SoftContext, path: Path) -> Path:
    save_encoder(path, how.start(model.adapted), how, {"steps": 7})
    return path
