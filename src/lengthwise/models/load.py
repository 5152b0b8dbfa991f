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
from os import PathLike
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

from lengthwise import architectures
from lengthwise._utils.embedded_file import NAME
from lengthwise._utils.hub import absent
from lengthwise._utils.messages import first_line
from lengthwise.errors import ModelError
from lengthwise.models import embedded
from lengthwise.models.adapters import base_of, is_adapter, with_adapter
from lengthwise.models.fits import hollow, require_fits
from lengthwise.models.gguf_blocks import low_bit_of
from lengthwise.models.gguf_files import load_gguf
from lengthwise.models.obstacles import device_of
from lengthwise.models.placing import DeviceMap, MaxMemory, Placing, find_device, placing
from lengthwise.models.prequantised import method_of, require_library
from lengthwise.models.quantised import Held, format_of, quantise

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
    device_map: DeviceMap | None = None,
    max_memory: MaxMemory | None = None,
    offload_folder: str | PathLike[str] | None = None,
    weights: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Provenance]:
    """Load a causal language model for inference: evaluation mode, no gradients.

    `name` is a local folder, a .gguf file, or a hub name; None is the embedded model. `dtype`
    None is the fastest of `device`; `device` None is the accelerator if there is one, else the CPU.
    `device_map`, `max_memory`, `offload_folder` and `weights` are those of `placing`.
    Raises `ModelError`, one line, for whatever cannot be had or read.
    """
    place = placing(device, device_map, max_memory, offload_folder, weights)
    kind = fast_dtype(place.device) if dtype is None else parse_dtype(dtype)
    with _few_words():
        if name is None:
            model, tokenizer = embedded.load_embedded(kind)
            _put(model, place)
            name, source = NAME, embedded.SOURCE
        else:
            model, tokenizer, source = _load_named(name, kind, place)
    model.eval()
    model.requires_grad_(False)
    where, length, held = device_of(model), trained_length(model.config), format_of(model)
    return model, tokenizer, Provenance(name, model.dtype, where, source, length, held)


def _put(model: PreTrainedModel, place: Placing, held: Held | None = None) -> None:
    """Puts a model that lies in CPU memory where it goes, in the bits it is to have there.

    held: what is known in fewer bits already.
    """
    if place.weights is not None:
        quantise(model, place.weights, place.device, held)
    place.dispatch(model)


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
    name: str, dtype: torch.dtype, place: Placing
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    if not name.strip():
        raise ModelError("the model's name is empty; give a folder, a .gguf file or a hub name")
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        if is_adapter(path):
            return _load_adapter(path, dtype, place)
        return *_load_folder(str(path), path, dtype, place), "local folder"
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            model, tokenizer = load_gguf(path, dtype, place)
            own = low_bit_of(model, path, place.device) if place.weights == "int4" else None
            _put(model, place, own)
            return model, tokenizer, "GGUF file"
        raise ModelError(f"{name}: a file, but no .gguf file; name the folder a model lies in")
    if not _HUB_NAME.fullmatch(name) or path.suffix.lower() in {".gguf", ".safetensors"}:
        raise ModelError(f"{name!r}: no such folder or file, and no hub name (owner/model) either")
    _require_on_hub(name)
    return *_load_folder(name, None, dtype, place), "hub"


def _load_adapter(
    folder: Path, dtype: torch.dtype, place: Placing
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """The model an adapter belongs to, with it; the tokenizer is that of the model."""
    base = base_of(folder)
    if place.weights is not None:
        raise ModelError(f"{folder}: an adapter needs weights as they come; load without weights=")
    try:
        model, tokenizer, source = _load_named(base, dtype, place)
    except ModelError as error:
        raise ModelError(
            f"{folder}: an adapter of {base!r}, which cannot be had: {error}"
        ) from error
    return with_adapter(model, folder), tokenizer, f"{source}, with an adapter"


def _require_on_hub(name: str) -> None:
    """Look for the model's config before anything else, so that a bad name costs one look."""
    if why := absent(name):
        raise ModelError(f"{name!r}: {why}")
    try:
        AutoConfig.from_pretrained(name)
    except Exception as error:  # of the hub client, of its HTTP client, of the config
        raise ModelError(
            f"{name!r}: no such folder here, and not to be had from the hub ({_cause(error)})"
        ) from error


def _load_folder(
    name: str, folder: Path | None, dtype: torch.dtype, place: Placing
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a hub name, or of a local folder, which is then given as `folder`."""
    local = folder is not None
    model = _load_weights(name, folder, dtype, place)
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


def _load_weights(
    name: str, folder: Path | None, dtype: torch.dtype, place: Placing
) -> PreTrainedModel:
    local = folder is not None
    if isinstance(place.map, dict) and (empty := hollow(name, local)) is not None:
        place = place.over(empty)
    architectures.register()
    require_fits(name, local, dtype, place)
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local)
        packed = (method := method_of(config)) is not None
        if packed and place.weights is not None:
            raise ModelError(
                f"{name}: its weights are quantised already ({method}); load it without weights="
            )
        require_library(name, config)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, local_files_only=local, output_loading_info=True,
            **place.arguments(packed), **_small(place),
        )  # fmt: skip
    except ModelError:
        raise
    except Exception as error:  # OSError, ValueError, SafetensorError, UnpicklingError ...
        damaged = _bad_file(folder) if folder is not None else None
        raise damaged or ModelError(f"{name}: cannot be loaded ({_cause(error)})") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{name}: {len(missing)} weights of the model are in none of its files, the first "
            f"being {missing[0]}"
        )
    if place.map is None and not packed:
        model.to(place.device)
    found: PreTrainedModel = model
    return found


def _small(place: Placing) -> dict[str, Any]:
    """What has weights turned into fewer bits as they are read."""
    if place.weights is None:
        return {}
    from lengthwise.models.quantised_loading import LowBitConfig

    return {"quantization_config": LowBitConfig(place.weights, str(place.device))}


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


__all__ = [
    "Provenance", "fast_dtype", "find_device", "load_pretrained", "parse_dtype", "trained_length"
]  # fmt: skip
