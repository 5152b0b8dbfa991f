"""What the rest of the api asks of a `Model`, so that `Model` may ask it in turn."""

from __future__ import annotations

from typing import Protocol

from transformers import PreTrainedTokenizerBase

from lengthwise.api.prompts import Prompt
from lengthwise.engine.plan import Plan
from lengthwise.engine.prefix.cache import PrefixCache
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.load import Provenance
from lengthwise.recipes import RecipeLike


class HeldModel(Protocol):
    """See `api.model.Model`."""

    adapted: AdaptedModel
    tokenizer: PreTrainedTokenizerBase | None
    provenance: Provenance
    prefix_cache: PrefixCache | None

    @property
    def name(self) -> str: ...

    @property
    def trained_length(self) -> int: ...

    def plan(self, recipe: RecipeLike = "full") -> Plan: ...

    def encode(self, prompt: Prompt, special: str | None = None) -> list[int]: ...

    def _tokenizer(self) -> PreTrainedTokenizerBase: ...

    def stop_ids(self) -> list[int]: ...
