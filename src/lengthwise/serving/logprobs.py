"""Log-probabilities of tokens, in the two shapes of OpenAI's.

A token is shown as it stands behind others: alone, many tokenizers would take its space away, and
two tokens would look like one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lengthwise.serving.engine import TokenLogprob
from lengthwise.tokenization.detokenise import UNFINISHED, Incremental, decode
from lengthwise.tokenization.spans import token_spans

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# What stands before a token that is shown.
_BEFORE = "a."
# JSON has no infinity; OpenAI writes this for what has no chance.
LEAST = -9999.0


_TEXTS: WeakKeyDictionary[PreTrainedTokenizerBase, dict[int, str]] = WeakKeyDictionary()


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """What a token adds to a text; of a special one its name.

    Args:
        tokenizer: whose token it is.
        token: its id.
    """
    known = _TEXTS.setdefault(tokenizer, {})
    if token not in known:
        special = token in tokenizer.all_special_ids
        before = [] if special else tokenizer.encode(_BEFORE, add_special_tokens=False)
        start = len(decode(tokenizer, before, special=True))
        known[token] = decode(tokenizer, [*before, token], special=True)[start:]
    return known[token]


@lru_cache(1)
def _byte_letters() -> dict[str, int]:
    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int, text: str) -> list[int] | None:
    """The bytes of a token; None where the tokenizer does not tell.

    Args:
        tokenizer: whose token it is.
        token: its id.
        text: what it adds to a text, which is no text where it is part of a character.
    """
    if UNFINISHED not in text:
        return list(text.encode())
    name = str(tokenizer.convert_ids_to_tokens(token))
    if byte := _BYTE.fullmatch(name):
        return [int(byte[1], 16)]
    found = [_byte_letters().get(letter) for letter in name]
    return None if None in found else [each for each in found if each is not None]


def _entry(tokenizer: PreTrainedTokenizerBase, token: int, logprob: float) -> dict[str, Any]:
    text = token_text(tokenizer, token)
    return {
        "token": text, "logprob": max(logprob, LEAST), "bytes": token_bytes(tokenizer, token, text),
    }  # fmt: skip


def chat_logprobs(
    tokenizer: PreTrainedTokenizerBase, found: Sequence[TokenLogprob]
) -> dict[str, Any]:
    """The field `logprobs` of a choice of a chat.

    Args:
        tokenizer: whose tokens they are.
        found: of every token, in order.
    """
    content = [
        {
            **_entry(tokenizer, each.token, each.logprob),
            "top_logprobs": [_entry(tokenizer, *one) for one in each.top],
        }
        for each in found
    ]
    return {"content": content, "refusal": None}


def text_logprobs(
    tokenizer: PreTrainedTokenizerBase, found: Sequence[TokenLogprob], read: Incremental,
    start: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """The field `logprobs` of a choice of a text completion.

    Args:
        tokenizer: whose tokens they are.
        found: of every token, in order.
        read: the text before them, to which they are added.
        start: characters that stand before that text.
    """
    return {
        "tokens": [token_text(tokenizer, each.token) for each in found],
        "token_logprobs": [max(each.logprob, LEAST) for each in found],
        "top_logprobs": [_top(tokenizer, each) for each in found],
        "text_offset": [start + place for place in _places(read, [each.token for each in found])],
    }


def prompt_logprobs(
    tokenizer: PreTrainedTokenizerBase, found: Sequence[TokenLogprob], prompt: str
) -> dict[str, Any]:
    """The field `logprobs` of a prompt that is echoed. Its first token is predicted by nothing.

    Args:
        tokenizer: whose tokens they are.
        found: of every token, in order.
        prompt: its text.
    """
    ids = [each.token for each in found]
    tokens = [token_text(tokenizer, token) for token in ids]
    first = next((n for n, token in enumerate(ids) if token not in tokenizer.all_special_ids), None)
    if first is not None and not prompt.startswith(tokens[first]):
        # It begins the text.
        tokens[first] = decode(tokenizer, [ids[first]], special=True)
    return {
        "tokens": tokens,
        "token_logprobs": [None, *(max(each.logprob, LEAST) for each in found[1:])],
        "top_logprobs": [None, *(_top(tokenizer, each) for each in found[1:])],
        "text_offset": _offsets(tokenizer, ids, prompt),
    }


def _offsets(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> list[int]:
    """Where each token begins in the text; those of a character share its place."""
    spans = token_spans(tokenizer, text)
    before = len(ids) - len(spans)
    if before >= 0 and tokenizer.encode(text, add_special_tokens=False) == list(ids[before:]):
        # Special tokens before it stand nowhere in the text.
        return [0] * before + [start for start, _ in spans]
    # That of a prompt of ids has the names of special tokens in it.
    special = decode(tokenizer, ids, special=True) == text
    places = _places(Incremental(tokenizer, special), ids)
    return [min(len(text), place) for place in places]


def _places(read: Incremental, ids: Sequence[int]) -> list[int]:
    """Where each token begins that is added to a text; those of a character share its place."""
    places = []
    for token in ids:
        before = read.text
        read.add(token)
        # Bytes that are no character stay what they look like once something else follows.
        settled = read.text.startswith(before) and not read.text.endswith(UNFINISHED)
        places.append(len(before if settled else before.rstrip(UNFINISHED)))
    return places


def _top(tokenizer: PreTrainedTokenizerBase, found: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens and the one that was said, as OpenAI's.

    Of two with one text, such as halves of characters, the likelier stays.
    """
    every = [(found.token, found.logprob), *reversed(found.top)]
    return {token_text(tokenizer, token): max(value, LEAST) for token, value in every}
