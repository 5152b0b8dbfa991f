"""Bits a byte: the one loss that two tokenizers can be compared by.

A text is cut into stretches of equal bytes, the same ones whatever the tokenizer. Each is read by
itself behind the model's opening token, and all its tokens count:

    bits a byte = sum of -log2 p(token) / bytes
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Told
from lengthwise.tokenization.transplant.method import silent

STRETCH = 2048
"""Bytes that are read at once."""
_END = "<|endoftext|>"


@dataclass(frozen=True)
class Loss:
    """bits: a byte. tokens: of all stretches, and their bytes. unknown: tokens that stand for what
    the tokenizer has no token for; where there are some, the bits say too little."""

    bits: float
    tokens: int
    bytes: int
    unknown: int = 0


@torch.inference_mode()
def loss_a_byte(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Seq[str],
    stretch: int = STRETCH, told: Told = silent, start: int | None = None,
) -> Loss:  # fmt: skip
    """What a model makes of texts.

    Args:
        model: a causal language model.
        tokenizer: its own.
        texts: with at least one character.
        stretch: bytes that are read at once.
        told: called with progress.
        start: the token before each stretch; None is `opening`.

    Raises:
        TokenizerError: where there is no text, or no token.
    """
    parts = [part for text in texts for part in stretches(text, stretch)]
    if not parts:
        raise TokenizerError("the text that the loss is told on is empty: name a file with text")
    longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 30)
    start, unknown = opening(tokenizer) if start is None else start, tokenizer.unk_token_id
    nats, tokens, lost = 0.0, 0, 0
    for number, part in enumerate(parts):
        ids = tokenizer.encode(part, add_special_tokens=False)
        tokens += len(ids)
        lost += 0 if unknown is None else ids.count(unknown)
        for first in range(0, len(ids), longest - 1):
            row = torch.tensor([[start, *ids[first : first + longest - 1]]], device=model.device)
            logits = model(input_ids=row, use_cache=False).logits[0, :-1].float()
            nats += float(F.cross_entropy(logits, row[0, 1:], reduction="sum"))
        told("loss", (number + 1) / len(parts))
    size = sum(len(part.encode()) for part in parts)
    if not tokens:
        raise TokenizerError("the tokenizer makes no token of the text that the loss is told on")
    return Loss(nats / math.log(2) / size, tokens, size, lost)


def opening(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token before a text: what the tokenizer puts there, else the end of a text before it.

    Args:
        tokenizer: of a model.

    Raises:
        TokenizerError: where it has none.
    """
    # Spaces may be dropped at an end, a letter may not.
    plain = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a")
    if plain and plain[0] in whole and whole.index(plain[0]):
        return int(whole[0])
    found = text_end(tokenizer)
    found = tokenizer.bos_token_id if found is None else found
    if found is None:
        raise TokenizerError("the tokenizer has no token that a text begins or ends with")
    return int(found)


def text_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token behind a text, None where there is none. What ends a turn of a chat is another.

    Args:
        tokenizer: that of a model before it was transplanted. A new tokenizer may have a token of
            this name that the model does not know.
    """
    found: int | None = tokenizer.get_vocab().get(_END, tokenizer.eos_token_id)
    return found


def stretches(text: str, size: int) -> Iterator[str]:
    """A text in pieces of `size` bytes, or a little less: characters and words stay whole.

    Args:
        text: of any length.
        size: bytes of a piece, at least 4.
    """
    data, at = text.encode(), 0
    while at < len(data):
        stop = min(at + size, len(data))
        if stop < len(data):
            while data[stop] & 0xC0 == 0x80:
                stop -= 1
            cut = max(
                data.rfind(b" ", at + size // 2, stop), data.rfind(b"\n", at + size // 2, stop)
            )
            stop = cut if cut > 0 else stop
        yield data[at:stop].decode()
        at = stop


__all__ = ["STRETCH", "Loss", "loss_a_byte", "opening", "stretches", "text_end"]
