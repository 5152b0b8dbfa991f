"""The vocabulary and merges of a byte-pair tokenizer as its file holds them, and back."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.dressing import ROLES, backend_of

Pair = tuple[str, str]


def table_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What `tokenizer.json` says, with merges as pairs.

    Args:
        tokenizer: a fast one.

    Raises:
        TokenizerError: for a slow one.
    """
    table: dict[str, Any] = json.loads(backend_of(tokenizer).to_str())
    model = table["model"]
    if model["type"] == "BPE":
        # Older files write a pair as one text.
        model["merges"] = [
            tuple(each.split(" ", 1)) if isinstance(each, str) else tuple(each)
            for each in model["merges"]
        ]
    return table


def require_plain(table: dict[str, Any], what: str) -> None:
    """Raises TokenizerError for a tokenizer that is no plain BPE.

    Args:
        table: of `table_of`.
        what: is to be done with it, for the refusal.
    """
    model = table["model"]
    odd = [key for key in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(key)]
    if model["type"] != "BPE" or odd:
        kind = f"a BPE with {odd[0]}" if model["type"] == "BPE" else f"of kind {model['type']}"
        raise TokenizerError(
            f"a tokenizer {kind} cannot be {what}: its tokens are no merges. Train one "
            "(lengthwise tokenizer train) and transplant that"
        )


def keep_ids(table: dict[str, Any]) -> None:
    """Has added tokens keep the ids that the table says.

    The `tokenizers` library numbers those that are no words of the model anew, behind its last one.

    Args:
        table: of `table_of`, of a BPE; changed in place.
    """
    words = table["model"]["vocab"]
    for each in table["added_tokens"]:
        words.setdefault(each["content"], each["id"])


def of_table(table: dict[str, Any], like: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """A tokenizer of a changed table.

    Args:
        table: of `table_of`, changed.
        like: whose special tokens, chat template and length it has.
    """
    roles = {role: getattr(like, role, None) for role in ROLES}
    backend = Tokenizer.from_str(json.dumps(table))
    for each in table["added_tokens"]:
        if backend.token_to_id(each["content"]) != each["id"]:
            raise TokenizerError(
                f"the token {each['content']!r} would not keep its id {each['id']:,}: the "
                "tokenizer's ids have gaps that no file can say"
            )
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False,
        model_max_length=like.model_max_length, padding_side=like.padding_side,
        **{role: str(token) for role, token in roles.items() if token},
    )  # fmt: skip
    made.chat_template = like.chat_template
    return made


__all__ = ["Pair", "keep_ids", "of_table", "require_plain", "table_of"]
