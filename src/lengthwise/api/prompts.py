"""What may be given as a prompt, and how it becomes token ids.

A string is encoded as transformers does: special tokens written out in it are special tokens. The
contents of chat messages are text, whatever is written in them, so that no message can end itself;
the special tokens of the chat template stay. `special` says otherwise.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence as Seq
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lengthwise._utils.messages import first_line
from lengthwise.documents.document import Document
from lengthwise.errors import LengthwiseError

Prompt = (
    str
    | Document
    | Seq[Mapping[str, str]]
    | Seq[int]
    | Mapping[str, Any]
    | Tensor
    | NDArray[np.integer[Any]]
)
SPECIAL = ("text", "tokens")
# Around the number of what was taken out of a text: private characters, which no template changes.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class Shield:
    """Takes special tokens out of texts before they go into a template, and puts them back as text.

    A text without any comes through as it is, so most prompts are encoded just as they always are.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
        names = {str(t.content) for t in added.values() if t.special}
        names |= {str(name) for name in tokenizer.all_special_tokens}
        # Of two that begin alike the longer one is meant. The mark itself is no mark in a text.
        ordered = [_OPEN, *sorted(filter(None, names), key=len, reverse=True)]
        self._found = re.compile("|".join(map(re.escape, ordered)))
        self._taken: list[str] = []

    def text(self, text: str) -> str:
        """The text with what would be special tokens taken out."""

        def take(found: re.Match[str]) -> str:
            self._taken.append(found[0])
            return f"{_OPEN}{len(self._taken) - 1}{_CLOSE}"

        return self._found.sub(take, text)

    def all(self, value: Any) -> Any:
        """`text` of every string in lists and mappings."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.all(each) for key, each in value.items()}
        return [self.all(each) for each in value] if isinstance(value, (list, tuple)) else value

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text, what was taken out of it encoded as text.

        Args:
            text: as `text` gave it, or a template made of such texts.
            add_special_tokens: whether the tokenizer's own beginning and end come around it.
        """
        if not self._taken:
            return _encode(self._tokenizer, text, add_special_tokens)
        ids: list[int] = []
        for place, piece in enumerate(_MARK.split(text)):
            if place % 2:
                ids += as_text(self._tokenizer, self._taken[int(piece)])
            elif piece:
                ids += _encode(self._tokenizer, piece, False)
        return _ends(self._tokenizer, ids) if add_special_tokens else ids


def _ends(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Ids between what the tokenizer puts before and behind every text."""
    before, behind = ends(tokenizer)
    return [*before, *ids, *behind]


def ends(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids that a tokenizer puts before and behind every text.

    Args:
        tokenizer: the model's.
    """
    bare, whole = (_encode(tokenizer, "a", given) for given in (False, True))
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return whole[:at], whole[at + len(bare) :]
    return [], []


def as_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text in which special tokens are letters like any others.

    Args:
        tokenizer: the model's.
        text: such as "<|im_end|>".

    Raises:
        LengthwiseError: where the tokenizer gives a special token whatever is asked.
    """
    found = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    ids = [int(i) for i in found]
    if special := set(ids) & set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}:
        raise LengthwiseError(
            f"a tokenizer of class {type(tokenizer).__name__} reads {text!r} as the special token "
            f"{min(special)} whatever is asked; take it out of the text, or give special='tokens'"
        )
    return ids


def encode_text(
    tokenizer: PreTrainedTokenizerBase, text: str, special: str = "tokens"
) -> list[int]:
    """Ids of a string, the tokenizer's own beginning and end included.

    A text that begins with the text of the beginning token gets no second one.

    Args:
        tokenizer: the model's.
        text: the prompt.
        special: what special tokens written out in it are, "tokens" or "text".
    """
    require_text("the prompt", text)
    if special == "text":
        shield = Shield(tokenizer)
        return shield.encode(shield.text(text), add_special_tokens=True)
    ids = _encode(tokenizer, text, True)
    bos, name = tokenizer.bos_token_id, tokenizer.bos_token
    if isinstance(name, str) and name and text.startswith(name):
        written = 0
        while text.startswith(name, written * len(name)):
            written += 1
        if ids[: written + 1] == [bos] * (written + 1):
            return ids[1:]
    return ids


def encode_messages(
    tokenizer: PreTrainedTokenizerBase, messages: Seq[Mapping[str, Any]], special: str = "text",
    generation: bool = True,
) -> list[int]:  # fmt: skip
    """Ids of chat messages, through the chat template; a last one of the assistant's is gone on
    with.

    Args:
        tokenizer: the model's, with a chat template.
        messages: mappings with `role` and `content`, at least one.
        special: what special tokens written out in them are, "tokens" or "text".
        generation: whether the beginning of an answer comes behind a last one of somebody else's.

    Raises:
        LengthwiseError: without a template, and for messages that it does not take.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise LengthwiseError(
            "this model's tokenizer has no chat template, which chat messages need; give text"
        )
    shield = Shield(tokenizer)
    shown: list[dict[str, Any]] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or "role" not in message:
            raise LengthwiseError(
                f"message {number} is {message!r}; allowed is {{'role': ..., 'content': ...}}"
            )
        if isinstance(content := message.get("content"), str):
            require_text(f"message {number}", content)
        said = {key: value for key, value in message.items() if key != "role"}
        shown.append({"role": message["role"], **(shield.all(said) if special == "text" else said)})
    begun = shown[-1]["role"] == "assistant"
    try:
        rendered = tokenizer.apply_chat_template(
            shown, add_generation_prompt=generation and not begun,
            continue_final_message=begun, tokenize=False,
        )  # fmt: skip
    except Exception as error:
        # A template is a program of the model's: it may raise anything.
        raise LengthwiseError(
            f"the chat template does not take these messages: {first_line(error)}{_unread(shown)}"
        ) from error
    require_text("what the chat template makes of these messages", str(rendered))
    return shield.encode(str(rendered))


def _unread(messages: Seq[Mapping[str, Any]]) -> str:
    """Which messages say nothing that every template takes; "" where all are texts."""
    strange = (n for n, each in enumerate(messages, 1) if not isinstance(each.get("content"), str))
    if (number := next(strange, None)) is None:
        return ""
    content = repr(messages[number - 1].get("content"))
    return f" (message {number} has the content {content[:60]}, and every template takes a text)"


def require_text(what: str, text: str) -> None:
    """Refuses lone surrogates, which no tokenizer takes.

    Args:
        what: what the error calls the text.
        text: what was given.

    Raises:
        LengthwiseError: for a text with one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LengthwiseError(
            f"{what} has a lone surrogate, U+{ord(text[error.start]):04X}, at character "
            f"{error.start}: half of a character, which is no text; decode its bytes as UTF-8, or "
            "leave it out"
        ) from None


def given_ids(prompt: Any) -> list[int]:
    """Ids from a list, a tensor, an array, or what a tokenizer returned: `[n]` or `[1, n]`.

    Args:
        prompt: of a mapping `input_ids` is read, and `attention_mask` where there is one.

    Raises:
        LengthwiseError: for other shapes and types, and for ids that are no whole numbers.
    """
    if isinstance(prompt, Mapping):
        if "input_ids" not in prompt:
            raise LengthwiseError(
                f"a prompt that is a mapping needs input_ids, and this one has {sorted(prompt)}"
            )
        ids = _row(prompt["input_ids"])
        mask = prompt.get("attention_mask")
        if mask is not None:
            kept = _row(mask)
            if len(kept) != len(ids):
                raise LengthwiseError(
                    f"attention_mask has {len(kept)} entries and input_ids {len(ids)}"
                )
            ids = [token for token, seen in zip(ids, kept, strict=True) if seen]
    else:
        ids = _row(prompt)
    return [_whole(token, place) for place, token in enumerate(ids)]


def _row(given: Any) -> list[Any]:
    shape = getattr(given, "shape", None)
    if shape is not None:
        if len(shape) == 2 and shape[0] == 1:
            given = given[0]
        elif len(shape) != 1:
            raise LengthwiseError(
                f"prompt ids have shape {tuple(shape)}; give [n] or [1, n], and several prompts to "
                "generate_batch"
            )
        return list(given.tolist())
    if not isinstance(given, Seq) or isinstance(given, (bytes, bytearray)):
        what = "no prompt (None)" if given is None else f"a prompt of type {type(given).__name__}"
        way = "lengthwise.read(path) reads a file; " if isinstance(given, PathLike) else ""
        raise LengthwiseError(
            f"{what}; {way}allowed are text, chat messages, and token ids in a list, a tensor, an "
            "array or what a tokenizer returned"
        )
    rows = list(given)
    if rows and all(isinstance(row, (list, tuple)) or getattr(row, "shape", ()) for row in rows):
        if len(rows) > 1:
            raise LengthwiseError(
                f"prompt ids are {len(rows)} rows; give one, and several prompts to generate_batch"
            )
        return _row(rows[0])
    return rows


def _whole(token: Any, place: int) -> int:
    """A token id as an int: no fraction is cut off, and true is no token."""
    if isinstance(token, Tensor) and token.dim() == 0:
        token = token.item()
    if not isinstance(token, (bool, np.bool_)):
        try:
            return operator.index(token)
        except TypeError:
            pass
    raise LengthwiseError(
        f"prompt id {token!r} at {place} is a {type(token).__name__}; token ids are whole numbers"
    )


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool) -> list[int]:
    return [int(i) for i in tokenizer.encode(text, add_special_tokens=add_special_tokens)]
