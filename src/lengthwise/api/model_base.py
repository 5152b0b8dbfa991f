"""What a held model is before it is asked for anything: its name, its plans, its text as tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from transformers import PreTrainedTokenizerBase

from lengthwise import recipes
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.api.prompts import SPECIAL, Prompt, encode_messages, encode_text, given_ids
from lengthwise.api.shown import as_html, as_text
from lengthwise.documents.document import Document
from lengthwise.engine.plan import Plan
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.load import Provenance
from lengthwise.recipes import RecipeLike

if TYPE_CHECKING:
    from lengthwise.api.support import Support


class ModelBase:
    """A causal language model adapted, with its tokenizer."""

    def __init__(
        self,
        adapted: AdaptedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        provenance: Provenance,
        cache_bytes: int | str = 0,
    ) -> None:
        self.adapted = adapted
        self.adapted.tokenizer = self.tokenizer = tokenizer
        self.provenance = provenance
        self.prefix_cache = prefix_cache_of(adapted, cache_bytes)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the wrapped model back as it was."""
        self.adapted.release()

    @property
    def name(self) -> str:
        return self.provenance.name

    @property
    def trained_length(self) -> int:
        """Tokens the model was trained to read at once."""
        return self.adapted.trained_length

    def check(self) -> Support:
        """Which questions this model supports, which are refused, and why."""
        from lengthwise.api.support import check

        return check(self.adapted)

    def plan(self, recipe: RecipeLike = "full") -> Plan:
        """The recipe resolved for this model.

        Args:
            recipe: its text, a parsed one, or its methods. "full" is full attention.

        Raises:
            RecipeError: where it cannot be parsed, or names what does not exist.
            Refused: where it cannot run on this model.
        """
        return recipes.plan_of(recipe, self.adapted)

    # Text and tokens.

    def encode(self, prompt: Prompt, special: str | None = None) -> list[int]:
        """Token ids of a prompt.

        Args:
            prompt: text, or a Document; chat messages; or ids, in a list, a tensor, an array or
                what a tokenizer returned. Messages go through the chat template, and a last one of
                the assistant's is continued. A text that begins with the text of the beginning
                token gets no second one.
            special: what special tokens written out in it are, "tokens" or "text". None: tokens in
                a string, as in transformers; text in a Document and in the contents of messages, so
                that none can end itself.

        Returns:
            The ids, at least one, all of them in the vocabulary.

        Raises:
            LengthwiseError: for what is no prompt, an empty one, and text without a tokenizer.
        """
        if special is not None and special not in SPECIAL:
            raise LengthwiseError(f"special={special!r}: allowed are {', '.join(SPECIAL)}")
        if isinstance(prompt, Document):
            prompt, special = prompt.text, special or "text"
        if isinstance(prompt, str):
            return self._known(encode_text(self._tokenizer(), prompt, special or "tokens"))
        if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], Mapping):
            return self._known(encode_messages(self._tokenizer(), prompt, special or "text"))
        return self._known(given_ids(prompt))

    def _known(self, ids: list[int]) -> list[int]:
        if not ids:
            raise LengthwiseError("the prompt is empty; give at least one token")
        size = self.adapted.vocab_size
        bad = next((i for i in ids if not 0 <= i < size), None)
        if bad is not None:
            raise LengthwiseError(f"token id {bad} is outside the vocabulary of {size}")
        return ids

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        if self.tokenizer is None:
            raise LengthwiseError("this model was wrapped without a tokenizer; give token ids")
        return self.tokenizer

    def stop_ids(self) -> list[int]:
        """The ids at which this model stops by itself."""
        found = self.adapted.model.generation_config.eos_token_id
        if found is None and self.tokenizer is not None:
            found = self.tokenizer.eos_token_id
        if found is None:
            return []
        return [found] if isinstance(found, int) else list(found)


__all__ = ["ModelBase"]
