"""The token that ends a text: what a folder says it is, or else the one that usually is."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from lengthwise.errors import TokenizerError

USUAL = (
    "<|endoftext|>", "</s>", "<|end_of_text|>", "<|endofdoc|>", "<eos>", "<|eos|>", "<eod>",
    "<|eod|>", "<|end\u2581of\u2581sentence|>", "[EOS]",
)  # fmt: skip


def declared_end(folder: Path) -> str | None:
    """The end token that a model's configuration names; None where it names none.

    Args:
        folder: with `tokenizer_config.json` or `special_tokens_map.json`, or neither.

    Raises:
        TokenizerError: for one that cannot be read.
    """
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / file).is_file():
            try:
                found = json.loads((folder / file).read_text(encoding="utf-8")).get("eos_token")
            except (ValueError, AttributeError, RecursionError) as error:
                raise TokenizerError(f"{folder / file} cannot be read: {error}") from error
            if found:
                return str(found["content"] if isinstance(found, dict) else found)
    return None


def specials_of(tokenizer: Tokenizer) -> list[str]:
    """The special tokens, in the order of their ids.

    Args:
        tokenizer: of the `tokenizers` library.
    """
    added = tokenizer.get_added_tokens_decoder()
    return [token.content for _, token in sorted(added.items()) if token.special]


def usual_end(tokenizer: Tokenizer) -> str | None:
    """The one special token that usually ends a text; None where there is none, or are several.

    Args:
        tokenizer: of the `tokenizers` library.
    """
    specials = specials_of(tokenizer)
    found = [token for token in USUAL if token in specials]
    return found[0] if len(found) == 1 else None


__all__ = ["USUAL", "declared_end", "specials_of", "usual_end"]
