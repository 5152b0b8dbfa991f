"""Models whose weights were quantised before they were saved, which transformers reads by the
library of the method."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from lengthwise.errors import ModelError

# What a method of transformers needs: modules to import, each with the name it is installed by.
LIBRARIES: dict[str, dict[str, str]] = {
    "aqlm": {"aqlm": "aqlm"},
    "auto-round": {"auto_round": "auto-round"},
    "awq": {"gptqmodel": "gptqmodel"},
    "bitsandbytes": {"bitsandbytes": "bitsandbytes"},
    "compressed-tensors": {"compressed_tensors": "compressed-tensors"},
    "eetq": {"kernels": "kernels"},
    "fp_quant": {"fp_quant": "fp_quant"},
    "gptq": {"gptqmodel": "gptqmodel", "optimum.gptq": "optimum"},
    "higgs": {"flute": "flute-kernel", "fast_hadamard_transform": "fast_hadamard_transform"},
    "hqq": {"hqq": "hqq"},
    "nvfp4": {"kernels": "kernels"},
    "quanto": {"optimum.quanto": "optimum-quanto"},
    "quark": {"quark": "amd-quark"},
    "spqr": {"spqr_quant": "spqr_quant"},
    "torchao": {"torchao": "torchao"},
    "vptq": {"vptq": "vptq"},
}
# Methods that transformers unpacks to 16 bits where there is no GPU.
UNPACKED = ("fp8", "mxfp4", "mxfp8")


def method_of(config: Any) -> str | None:
    """What quantised the weights of a configuration, by the name transformers has for it; None
    where nothing did."""
    said = getattr(config, "quantization_config", None)
    if said is None:
        return None
    of = said.get if isinstance(said, dict) else lambda name, _=None: getattr(said, name, None)
    if of("load_in_8bit") or of("load_in_4bit"):
        return "bitsandbytes"
    method = of("quant_method")
    return str(getattr(method, "value", method))


def stays_packed(method: str) -> bool:
    """Whether weights stay in memory as they are in the files."""
    if method == "compressed-tensors":
        return False  # Its library unpacks them at the first forward.
    return method not in UNPACKED or torch.cuda.is_available()


def require_library(name: str, config: Any) -> None:
    """Raises ModelError where a model cannot be read because a library is missing.

    Args:
        name: of the model.
        config: its configuration.
    """
    method = method_of(config)
    if method is None:
        return
    known = {"bitsandbytes", *AUTO_QUANTIZATION_CONFIG_MAPPING}
    if method not in known:
        raise ModelError(
            f"{name}: its weights are quantised by {method!r}, which this release of transformers "
            f"does not read; it reads {', '.join(sorted(known))}"
        )
    needed = LIBRARIES.get(method, {})
    missing = [package for module, package in needed.items() if not _is_there(module)]
    if missing:
        raise ModelError(
            f"{name}: its weights are quantised by {method!r}, which takes {' and '.join(missing)} "
            f"to read: pip install {' '.join(missing)}"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # The package above it is missing.
        return False


__all__ = ["LIBRARIES", "method_of", "require_library", "stays_packed"]
