"""Weights turned into 8 or 4 bits one by one as they are read, so that a model is never whole.

transformers lets a quantizer see each weight of a checkpoint as it comes. Ours keeps it in its
small form, and puts the layers in their places when all has been read (`quantised.py`). So a model
of 16 GB in bfloat16 can be loaded where 8 GB are free.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from lengthwise.models.low_bit import LowBit, low_bit
from lengthwise.models.quantised import LowBitLinear, is_linear, quantise, transposed

NAME = "lengthwise"


@register_quantization_config(NAME)
class LowBitConfig(QuantizationConfigMixin):
    """What `from_pretrained` is asked for. weights: of `low_bit.FORMATS`. device: where the layers
    are to be; how int4 is packed hangs on it."""

    def __init__(self, weights: str = "int8", device: str = "cpu", **_: Any) -> None:
        self.quant_method = NAME  # type: ignore[assignment]
        self.weights = weights
        self.device = device


@register_quantizer(NAME)
class LowBitQuantizer(HfQuantizer):
    """Turns the weights of linear layers into fewer bits as they are read."""

    quantization_config: LowBitConfig

    def __init__(self, quantization_config: LowBitConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self.found: dict[str, LowBit] = {}

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **_: Any) -> bool:
        """Whether a parameter is the weight of such a layer; the head, which may be tied, waits."""
        layer, kind = param_name.rpartition(".")[::2]
        if kind != "weight" or not layer:
            return False
        module = model.get_submodule(layer)
        return is_linear(module) and module is not model.get_output_embeddings()

    def get_quantize_ops(self) -> ConversionOps:
        return _Turn(self)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        for name, weight in self.found.items():
            bias = model.get_submodule(name).bias
            assert bias is None or isinstance(bias, Tensor)
            model.set_submodule(name, LowBitLinear(weight, bias))
        self.found.clear()
        # What was tied or made anew is still wide.
        config = self.quantization_config
        quantise(model, config.weights, torch.device(config.device))
        # For transformers it is a model like any other from here on.
        self.remove_quantization_config(model)  # type: ignore[no-untyped-call]
        model.config._is_quantized = False

    @property
    def is_trainable(self) -> bool:
        return False

    def is_serializable(self) -> bool:
        return False


class _Turn(ConversionOps):
    """One weight of a checkpoint into its small form; an empty one stands for it meanwhile."""

    def __init__(self, quantizer: LowBitQuantizer) -> None:
        self._quantizer = quantizer

    def convert(self, input_dict: dict[str, Any], *_: Any, **given: Any) -> dict[str, list[Tensor]]:
        model, full_name = given["model"], given["full_layer_name"]
        (value,) = input_dict.values()
        weight = value[0] if isinstance(value, list) else value
        name = full_name.rpartition(".")[0]
        layer = model.get_submodule(name)
        wide = weight.t() if transposed(layer) else weight
        config = self._quantizer.quantization_config
        self._quantizer.found[name] = low_bit(wide.to(config.device), config.weights)
        layer.weight = nn.Parameter(torch.empty(0, dtype=weight.dtype), requires_grad=False)
        if given.get("missing_keys") is not None:
            given["missing_keys"].discard(full_name)
        return {}


__all__ = ["LowBitConfig", "LowBitQuantizer"]
