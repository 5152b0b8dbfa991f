"""GGUF files, read as plain dense models with a tokenizer that splits text as the file says.

transformers unpacks the weights; what it leaves out of a file's rotary scaling is read in
`gguf_rope`, and the tokenizer in `_utils/gguf_tokenizer`.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lengthwise._utils.gguf_tokenizer import load_gguf_tokenizer, require_magic, unreadable
from lengthwise.errors import ModelError
from lengthwise.models.fits import require_unpacked_fits
from lengthwise.models.gguf_rope import apply_rope, says_anything
from lengthwise.models.placing import Placing


def load_gguf(
    path: Path, dtype: torch.dtype, place: Placing | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in `path`, unpacked from its blocks to `dtype`, and its tokenizer.

    `place` is where it goes from CPU memory; None asks nowhere for room. Raises `ModelError` naming
    the file where it is no GGUF file, is damaged, does not fit, or holds an architecture that
    transformers does not read.
    """
    return load_gguf_model(path, dtype, place), load_gguf_tokenizer(path)


def load_gguf_model(
    path: Path, dtype: torch.dtype, place: Placing | None = None
) -> PreTrainedModel:
    """The dense model in `path`, able to be saved like any other. Raises `ModelError`."""
    require_magic(path)
    try:
        reader = gguf.GGUFReader(path)
        if place is not None:
            numbers = sum(int(tensor.n_elements) for tensor in reader.tensors)
            require_unpacked_fits(path, numbers, dtype, place)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            config=_config(reader, path),
            dtype=dtype,
            # Without this, a machine that has GGUF kernels keeps the weights packed.
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
    except ModelError:
        raise
    except Exception as error:  # a damaged file surfaces as anything from IndexError to KeyError
        raise unreadable(path, error) from error
    # The weights are plain by now: with these left on, transformers refuses to save the model.
    model.hf_quantizer = None  # type: ignore[assignment]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _config(reader: gguf.GGUFReader, path: Path) -> PretrainedConfig | None:
    """The configuration with the rotary scaling of the file in it; None where it has none, and
    transformers reads all there is."""
    if not says_anything(reader):
        return None
    config: PretrainedConfig = AutoConfig.from_pretrained(
        path.parent, gguf_file=path.name, local_files_only=True
    )
    apply_rope(reader, config, path)
    return config
