"""Tokenizers out of GGUF files, which split text as the file says.

transformers' route is followed, except where it does not know how the file's vocabulary was trained
to split text. There the tokenizer is rebuilt from the file's own arrays. SmolLM's digits are single
tokens (`pre = smollm`): without that rule "a  1" comes out as other ids than the model was trained
on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from lengthwise._utils.messages import first_line
from lengthwise.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

DIGITS_APART = frozenset({"smollm", "starcoder", "refact"})
"""Values of `tokenizer.ggml.pre` that split every digit off before the GPT-2 pattern runs."""

_CONTROL, _USER_DEFINED = 3, 4


def load_gguf_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `path`. Raises `ModelError`."""
    from transformers import AutoTokenizer

    require_magic(path)
    try:
        reader = gguf.GGUFReader(path)
        if _field(reader, "tokenizer.ggml.pre") in DIGITS_APART:
            return wrap_tokenizer(*rebuild_tokenizer(reader))
        return AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True
        )
    except Exception as error:  # as above
        raise unreadable(path, error) from error


def rebuild_tokenizer(
    reader: gguf.GGUFReader, digits_apart: bool = True
) -> tuple[Tokenizer, dict[str, Any]]:
    """Tokenizer of an open GGUF file, made of its arrays alone, for `pre` in DIGITS_APART.

    digits_apart: False leaves GPT-2's pattern alone.

    The dict holds what a wrapper has to know beside it: the text of the special tokens
    (`bos_token`, `eos_token`, `unk_token`, `pad_token`) and the `chat_template`.
    """
    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    kinds: list[int] = _field(reader, "tokenizer.ggml.token_type")
    merges: list[str] = _field(reader, "tokenizer.ggml.merges")

    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=[(left, right) for left, _, right in (merge.partition(" ") for merge in merges)],
        )
    )
    letters = pre_tokenizers.ByteLevel(
        add_prefix_space=bool(_field(reader, "tokenizer.ggml.add_space_prefix"))
    )
    digits = [pre_tokenizers.Digits(individual_digits=True)] * digits_apart
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, letters])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_added(tokens, kinds, _CONTROL, special=True))
    tokenizer.add_tokens(_added(tokens, kinds, _USER_DEFINED, special=False))

    special: dict[str, Any] = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        index = _field(reader, f"tokenizer.ggml.{key}_token_id")
        if index is not None:
            special[f"{name}_token"] = tokens[index]
    if _field(reader, "tokenizer.ggml.add_bos_token"):
        bos = special["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, tokens.index(bos))],
        )
    template = _field(reader, "tokenizer.chat_template")
    if template is not None:
        special["chat_template"] = template
    return tokenizer, special


def guessed_tokenizer(path: Path) -> tuple[Tokenizer, str, str | None] | None:
    """The byte-level tokenizer of a GGUF file whose architecture transformers does not know, its
    `pre` and its end token. Split by GPT-2's pattern, which need not be the file's. None for other
    files.
    """
    reader = gguf.GGUFReader(path)
    if _field(reader, "tokenizer.ggml.model") != "gpt2":
        return None
    tokenizer, special = rebuild_tokenizer(reader, digits_apart=False)
    return tokenizer, str(_field(reader, "tokenizer.ggml.pre")), special.get("eos_token")


def wrap_tokenizer(tokenizer: Tokenizer, special: dict[str, Any]) -> PreTrainedTokenizerFast:
    """`rebuild_tokenizer`'s pair as the class the rest of transformers expects."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special
    )


def require_magic(path: Path) -> None:
    """Raises `ModelError` for a file that is no GGUF file."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if magic != b"GGUF":
        raise ModelError(f"{path}: not a GGUF file (it begins with {magic!r}, not b'GGUF')")


def unreadable(path: Path, error: Exception) -> ModelError:
    """What is said of a file that `error` came of."""
    cause = first_line(error)
    return ModelError(f"{path}: this GGUF file is damaged or of an unknown kind ({cause})")


def _added(tokens: list[str], kinds: list[int], kind: int, special: bool) -> list[AddedToken]:
    return [
        AddedToken(token, special=special, normalized=False)
        for token, of_kind in zip(tokens, kinds, strict=True)
        if of_kind == kind
    ]


def _field(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


__all__ = [
    "DIGITS_APART",
    "guessed_tokenizer",
    "load_gguf_tokenizer",
    "rebuild_tokenizer",
    "require_magic",
    "unreadable",
    "wrap_tokenizer",
]
