"""Stock models from wherever they lie, with the facts a reported figure has to carry.

Everything here ends in an ordinary transformers model and tokenizer: nothing is adapted yet. What
cannot be had is one `ModelError` that says which of the possible sources was looked at.
"""

from __future__ import annotations

import logging
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lengthwise._utils.messages import first_line
from lengthwise.errors import ModelError
from lengthwise.models import embedded
from lengthwise.models.fits import require_fits
from lengthwise.models.gguf_blocks import low_bit_of
from lengthwise.models.gguf_files import load_gguf
from lengthwise.models.quantised import format_of, quantise, require_format

DTYPES = {
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
    "half": torch.float16,
    "fp32": torch.float32,
    "float32": torch.float32,
    "float": torch.float32,
}

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Provenance:
    """Where a model came from and what it runs as: what every reported figure repeats.

    weights: "int8" or "int4" where its weights are held so.
    """

    name: str
    dtype: torch.dtype
    device: torch.device
    source: str
    trained_length: int
    weights: str | None = None

    @property
    def dtype_text(self) -> str:
        """The dtype, and what its weights are held in where that is another."""
        held = f", {self.weights} weights" if self.weights else ""
        return str(self.dtype).removeprefix("torch.") + held


def load_pretrained(
    name: str | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    weights: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Provenance]:
    """Load a causal language model for inference: evaluation mode, no gradients.

    `name` is a local folder, a .gguf file, or a hub name; None is the embedded model. `dtype`
    None is the fastest of `device`; `device` None is the accelerator if there is one, else the CPU.
    `weights` is "int8" or "int4" (`quantised.py`); None leaves them as they come.
    Raises `ModelError`, one line, for whatever cannot be had or read.
    """
    require_format(weights)
    place = find_device(device)
    kind = fast_dtype(place) if dtype is None else parse_dtype(dtype)
    with _few_words():
        if name is None:
            model, tokenizer = embedded.load_embedded(kind)
            name, source = embedded.NAME, embedded.SOURCE
        else:
            model, tokenizer, source = _load_named(name, kind, place, weights)
    if weights is not None and format_of(model) is None:
        quantise(model, weights, place)
    model.to(place)  # type: ignore[arg-type]
    model.eval()
    model.requires_grad_(False)
    length, held = trained_length(model.config), format_of(model)
    return model, tokenizer, Provenance(name, kind, place, source, length, held)


def find_device(device: str | torch.device | None = None) -> torch.device:
    """`device` if this machine has it; for None its accelerator, or else the CPU."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
        if place.type == "meta" or (place.type == "cpu" and place.index):
            there = "it holds no numbers" if place.type == "meta" else "there is one CPU, 'cpu'"
            raise ModelError(f"device {str(device)!r} is not to be had here ({there})")
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        cause = first_line(error)
        raise ModelError(f"device {str(device)!r} is not to be had here ({cause})") from error
    return place


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The dtype meant by a name such as 'bf16'. Raises `ModelError` listing the names allowed."""
    if isinstance(dtype, str):
        found = DTYPES.get(dtype.strip().lower().removeprefix("torch."))
    else:
        found = dtype if dtype in DTYPES.values() else None
    if found is None:
        raise ModelError(f"dtype {str(dtype)!r} is not one of {', '.join(DTYPES)}")
    return found


def fast_dtype(device: torch.device) -> torch.dtype:
    """The dtype `device` multiplies in natively: half the bytes only where they cost no speed."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_has_bf16() else torch.float32


def trained_length(config: PretrainedConfig) -> int:
    """Tokens the model declares to have been trained for at once; 2,048 if it says nothing.

    A scaling the model was shipped with (llama 3, longrope) was trained in and counts.
    """
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 2048)


def _cpu_has_bf16() -> bool:
    if platform.machine().lower() in {"arm64", "aarch64"}:
        if not torch.backends.mkldnn.is_available():
            return False
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    # On x86 mkldnn says yes to any AVX-512, where bfloat16 is emulated and slower than float32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _load_named(
    name: str, dtype: torch.dtype, device: torch.device, weights: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    if not name.strip():
        raise ModelError("the model's name is empty; give a folder, a .gguf file or a hub name")
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        require_fits(str(path), True, dtype, device, weights)
        config = _small(str(path), True, weights, device)
        return *_load_folder(str(path), path, dtype, config), "local folder"
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return *_load_gguf(path, dtype, device, weights), "GGUF file"
        raise ModelError(f"{name}: a file, but no .gguf file; name the folder a model lies in")
    if not _HUB_NAME.fullmatch(name) or path.suffix.lower() in {".gguf", ".safetensors"}:
        raise ModelError(f"{name!r}: no such folder or file, and no hub name (owner/model) either")
    _require_on_hub(name)
    require_fits(name, False, dtype, device, weights)
    config = _small(name, False, weights, device)
    return *_load_folder(name, None, dtype, config), "hub"


def _load_gguf(
    path: Path, dtype: torch.dtype, device: torch.device, weights: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_gguf(path, dtype)
    if weights == "int4":
        quantise(model, weights, device, low_bit_of(model, path, device))
    return model, tokenizer


def _small(name: str, local: bool, weights: str | None, device: torch.device) -> Any:
    """What has the weights of a checkpoint turned into fewer bits as they are read."""
    if weights is None:
        return None
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local)
    except Exception:  # The loading finds the same, and says it.
        return None
    if (held := getattr(config, "quantization_config", None)) is not None:
        method = held.get("quant_method") if isinstance(held, dict) else held.quant_method
        raise ModelError(
            f"{name}: its weights are quantised already ({method}); load it without weights="
        )
    from lengthwise.models.quantised_loading import LowBitConfig

    return LowBitConfig(weights, str(device))


def _require_on_hub(name: str) -> None:
    """Look for the model's config before anything else, so that a bad name costs one look."""
    try:
        AutoConfig.from_pretrained(name)
    except Exception as error:  # of the hub client, of its HTTP client, of the config
        raise ModelError(
            f"{name!r}: no such folder here, and not to be had from the hub ({_cause(error)})"
        ) from error


def _load_folder(
    name: str, folder: Path | None, dtype: torch.dtype, quantization: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a hub name, or of a local folder, which is then given as `folder`.

    quantization: a configuration of transformers that is not the checkpoint's own.
    """
    asked = {} if quantization is None else {"quantization_config": quantization}
    local = folder is not None
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, local_files_only=local, output_loading_info=True, **asked
        )
    except Exception as error:  # OSError, ValueError, SafetensorError, UnpicklingError ...
        damaged = _bad_file(folder) if folder is not None else None
        raise damaged or ModelError(f"{name}: cannot be loaded ({_cause(error)})") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{name}: {len(missing)} weights of the model are in none of its files, the first "
            f"being {missing[0]}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
    except Exception as error:  # as above
        unreadable = _bad_file(folder) if folder is not None else None
        raise unreadable or ModelError(
            f"{name}: its tokenizer cannot be loaded ({_cause(error)})"
        ) from error
    if _made_up(tokenizer, folder):
        raise ModelError(
            f"{name}: there is no tokenizer with this model (no tokenizer.json, say); save one "
            "beside it, with tokenizer.save_pretrained"
        )
    return model, tokenizer


def _made_up(tokenizer: PreTrainedTokenizerBase, folder: Path | None) -> bool:
    """Whether this is what transformers makes up where there is no file of a tokenizer: one that
    knows no text at all."""
    names = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    saved = folder is not None and any((folder / name).is_file() for name in names)
    return not saved and set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids)


def _bad_file(folder: Path) -> ModelError | None:
    """The first file of a folder that may not be read, or else the first damaged one."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    for path in files:
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            return ModelError(f"{path}: cannot be read ({error.strerror or error})")
    for path in (each for each in files if each.suffix == ".safetensors"):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            return ModelError(f"{path}: this safetensors file is damaged ({_cause(error)})")
    return None


def _cause(error: BaseException) -> str:
    """First line of what went wrong, from the deepest exception that says anything."""
    said = error
    while (said.__cause__ or said.__context__) is not None:
        deeper = said.__cause__ or said.__context__
        if deeper is None or not str(deeper).strip():
            break
        said = deeper
    return first_line(said)


@contextmanager
def _few_words() -> Iterator[None]:
    """Without the bars of loading, and without a hub client's line for each of its retries."""
    bars = transformers_logging.is_progress_bar_enabled()
    client = logging.getLogger("huggingface_hub")
    level = client.level
    transformers_logging.disable_progress_bar()
    client.setLevel(logging.ERROR)
    try:
        yield
    finally:
        client.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
