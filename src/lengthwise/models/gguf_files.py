"""GGUF files, read as plain dense models with a tokenizer that splits text as the file says.

transformers unpacks the weights; what it leaves out of a file's rotary scaling is read in
`gguf_rope`. Its tokenizer route is followed too, except where it does not know how the file's
vocabulary was trained to split text. There the tokenizer is rebuilt from the file's own arrays.
SmolLM's digits are single tokens (`pre = smollm`): without that rule "a  1" comes out as other ids
than the model was trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from lengthwise._utils.messages import first_line
from lengthwise.errors import ModelError
from lengthwise.models.gguf_rope import apply_rope, says_anything

DIGITS_APART = frozenset({"smollm", "starcoder", "refact"})
"""Values of `tokenizer.ggml.pre` that split every digit off before the GPT-2 pattern runs."""

_CONTROL, _USER_DEFINED = 3, 4


def load_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in `path`, unpacked from its blocks to `dtype`, and its tokenizer.

    Raises `ModelError` naming the file where it is no GGUF file, is damaged, or holds an
    architecture that transformers does not read.
    """
    return load_gguf_model(path, dtype), load_gguf_tokenizer(path)


def load_gguf_model(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The dense model in `path`, able to be saved like any other. Raises `ModelError`."""
    _require_magic(path)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            config=_config(path),
            dtype=dtype,
            # Without this, a machine that has GGUF kernels keeps the weights packed.
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
    except ModelError:
        raise
    except Exception as error:  # a damaged file surfaces as anything from IndexError to KeyError
        raise _unreadable(path, error) from error
    # The weights are plain by now: with these left on, transformers refuses to save the model.
    model.hf_quantizer = None  # type: ignore[assignment]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _config(path: Path) -> PretrainedConfig | None:
    """The configuration with the rotary scaling of the file in it; None where it has none, and
    transformers reads all there is."""
    reader = gguf.GGUFReader(path)
    if not says_anything(reader):
        return None
    config: PretrainedConfig = AutoConfig.from_pretrained(
        path.parent, gguf_file=path.name, local_files_only=True
    )
    apply_rope(reader, config, path)
    return config


def load_gguf_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `path`. Raises `ModelError`."""
    _require_magic(path)
    try:
        reader = gguf.GGUFReader(path)
        if _field(reader, "tokenizer.ggml.pre") in DIGITS_APART:
            return wrap_tokenizer(*rebuild_tokenizer(reader))
        return AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True
        )
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def rebuild_tokenizer(reader: gguf.GGUFReader) -> tuple[Tokenizer, dict[str, Any]]:
    """Tokenizer of an open GGUF file, made of its arrays alone, for `pre` in DIGITS_APART.

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
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(
                add_prefix_space=bool(_field(reader, "tokenizer.ggml.add_space_prefix"))
            ),
        ]
    )
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


def wrap_tokenizer(tokenizer: Tokenizer, special: dict[str, Any]) -> PreTrainedTokenizerFast:
    """`rebuild_tokenizer`'s pair as the class the rest of transformers expects."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special
    )


def _added(tokens: list[str], kinds: list[int], kind: int, special: bool) -> list[AddedToken]:
    return [
        AddedToken(token, special=special, normalized=False)
        for token, of_kind in zip(tokens, kinds, strict=True)
        if of_kind == kind
    ]


def _field(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _require_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if magic != b"GGUF":
        raise ModelError(f"{path}: not a GGUF file (it begins with {magic!r}, not b'GGUF')")


def _unreadable(path: Path, error: Exception) -> ModelError:
    cause = first_line(error)
    return ModelError(f"{path}: this GGUF file is damaged or of an unknown kind ({cause})")
