"""A prompt of bytes, cut where its tokens no longer hang on what follows."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate

from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt, ends, require_text
from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.fill_in import fill_in_tokens
from lengthwise.tokenization.valid_encodings import (
    TokenizerSpelling,
    require_utf8,
    spelling_of,
    unfinished,
)

ORDERS = ("spm", "psm")
# A text without spaces is cut so many tokens before the first that may change; beyond as many a
# space is not looked for.
_BEFORE, _FAR = 8, 64


@dataclass(frozen=True)
class BytePrompt:
    """What is read as tokens, and what is read byte by byte behind it.

    tokens: to be read, at least one. path: of these, the tokens of the text. rest: the bytes behind
    them. unasked: of the rest, bytes that the tokenizer itself puts in front of a text.
    """

    spelling: TokenizerSpelling
    tokens: list[int]
    path: list[int]
    rest: bytes
    unasked: int = 0


def byte_prompt(
    model: HeldModel, prompt: Prompt | bytes, context: Prompt | None, suffix: str | None,
    order: str,
) -> BytePrompt:  # fmt: skip
    """Cuts a prompt. The arguments are those of `Model.bytes`.

    Args:
        model: that reads it.
        prompt: text or bytes; or ids or messages, which nothing but their end is asked of.
        context: what stands before the text; None is what the tokenizer puts there.
        suffix: what follows the text that is to be filled in.
        order: "spm" or "psm".

    Raises:
        LengthwiseError: for what is no prompt, and for one that has no token before it.
    """
    spelling = spelling_of(model._tokenizer())
    text = isinstance(prompt, (str, bytes))
    if suffix is not None:
        if not text or context is not None:
            raise LengthwiseError(
                "a suffix goes with a prompt that is text, and the context in front of both is the "
                "model's own tokens; leave out the context"
            )
        before, data = _fill_in(model, spelling, _bytes_of(prompt), suffix, order)
    elif order != ORDERS[0]:
        raise LengthwiseError(f"order={order!r} is of a prompt with a suffix; give suffix= too")
    elif not text:
        if context is not None:
            raise LengthwiseError("a context goes with a prompt that is text or bytes")
        before, data = model.encode(prompt), b""
    else:
        data = _bytes_of(prompt)
        before = ends(model._tokenizer())[0] if context is None else model.encode(context)
    return _cut(spelling, before, data)


def _bytes_of(prompt: Prompt | bytes) -> bytes:
    if isinstance(prompt, str):
        require_text("the prompt", prompt)
        return prompt.encode()
    assert isinstance(prompt, bytes)
    require_utf8(prompt)
    return prompt


def _fill_in(
    model: HeldModel, spelling: TokenizerSpelling, prefix: bytes, suffix: str, order: str
) -> tuple[list[int], bytes]:
    """Ids before the middle, and the bytes that it goes on from."""
    if order not in ORDERS:
        raise LengthwiseError(f"order={order!r}: allowed are {', '.join(ORDERS)}")
    require_text("the suffix", suffix)
    marks, behind = fill_in_tokens(model._tokenizer()), spelling.encode(suffix)
    if order == "spm":
        return [marks.prefix, marks.suffix, *behind, marks.middle], prefix
    if unfinished(prefix):
        raise LengthwiseError("a prefix that ends within a character needs order='spm'")
    before = spelling.encode(prefix.decode())
    return [marks.prefix, *before, marks.suffix, *behind, marks.middle], b""


def _cut(spelling: TokenizerSpelling, before: list[int], data: bytes) -> BytePrompt:
    said = _said(spelling, before)
    head = spelling.vocabulary.text(said)
    if not said:
        head, unasked = spelling.lead, len(spelling.lead)
    else:
        unasked = 0
    ids = _encoded(spelling, said, head, data)
    ends_at = list(accumulate(len(spelling.vocabulary.spelled[each] or b"") for each in ids))
    whole = head + data
    settled = max(len(said), _settled(spelling, whole, ends_at, 0 if before else 1))
    tokens = [*before, *ids[len(said) : settled]]
    if not tokens:
        what = "the prompt may be part of its first token" if data else "the prompt is empty"
        raise LengthwiseError(
            f"{what}, and this tokenizer puts no token before a text, so nothing tells how likely "
            "the first one is; give context= (the model's beginning token, or chat messages)"
            + (", or more text" if data else "")
        )
    read = ends_at[settled - 1] if settled else 0
    return BytePrompt(spelling, tokens, ids[:settled], whole[read:], max(0, unasked - read))


def _said(spelling: TokenizerSpelling, before: Seq[int]) -> list[int]:
    """The tokens of text at the end of what is read before, as the tokenizer writes them."""
    start = len(before)
    spelled = spelling.vocabulary.spelled
    while start and before[start - 1] < len(spelled) and spelled[before[start - 1]]:
        start -= 1
    found = list(before[start:])
    return found if not found or spelling.complete(found) else found[-1:]


def _encoded(spelling: TokenizerSpelling, said: list[int], head: bytes, data: bytes) -> list[int]:
    """The tokens of the text, those said before included, up to its last whole character."""
    whole = head + data
    whole = whole[: len(whole) - len(unfinished(whole))]
    if whole == head:
        return said
    try:
        ids = spelling.encode(whole.removeprefix(spelling.lead).decode())
    except UnicodeDecodeError:
        raise LengthwiseError(
            "the context ends within a character, or the text begins within one; give both in one "
            "prompt"
        ) from None
    found = spelling.vocabulary.text(ids)
    if found != whole:
        at = next((n for n, (a, b) in enumerate(zip(found, whole, strict=False)) if a != b), 0)
        raise LengthwiseError(
            f"this tokenizer changes the text at byte {at} (it writes {found[at : at + 12]!r} for "
            f"{whole[at : at + 12]!r}), so its bytes have no law; give the text as it writes it"
        )
    if ids[: len(said)] != said:
        raise LengthwiseError(
            "the end of the context and the beginning of the text are one token; give both in one "
            "prompt"
        )
    return ids


def _settled(spelling: TokenizerSpelling, data: bytes, ends_at: list[int], least: int) -> int:
    """How many tokens no other cover of the text does without: up to a word's beginning, before all
    that a token could reach beyond the end from. At least so many, where they are as good."""
    vocabulary = spelling.vocabulary
    first = len(data)
    for start in range(max(0, len(data) - vocabulary.longest), len(data)):
        low, high = vocabulary.within(data[start:])
        if low < high:
            first = start
            break
    most = sum(end <= first for end in ends_at)
    for count in range(most, max(0, most - _FAR), -1):
        end = ends_at[count - 1]
        if data[end : end + 1].isspace() and not data[end - 1 : end].isspace():
            return count
    return max(min(least, most), most - _BEFORE)


__all__ = ["ORDERS", "BytePrompt", "byte_prompt"]
