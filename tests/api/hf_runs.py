"""Calls of `generate` with a recipe and without, which tests hold beside each other."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

import lengthwise
from lengthwise.testing.tiny import tokens

NEW = 24
# Of the small vocabulary of the model that they are given to.
IDS = torch.tensor([tokens(20)]) % 64


def ours(model: PreTrainedModel, recipe: str = "full", **given: Any) -> Any:
    options = given.pop("options", {})
    return model.generate(
        given.pop("ids", IDS), max_new_tokens=given.pop("max_new_tokens", NEW),
        custom_generate=lengthwise.custom_generate(recipe, **options), **given,
    )  # fmt: skip


def plain(model: PreTrainedModel, **given: Any) -> Any:
    return model.generate(
        given.pop("ids", IDS), max_new_tokens=given.pop("max_new_tokens", NEW), **given
    )
