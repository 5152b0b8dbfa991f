"""From a stock model to an adapted one: probed, compared with itself, and refused by name."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise.errors import UnsupportedModel
from lengthwise.models import attention_hook, obstacles, verify as verification
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.frequencies import OwnFrequencies
from lengthwise.models.fused import fused_forward
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.load import trained_length
from lengthwise.models.packing import Packing
from lengthwise.models.probe import layer_facts
from lengthwise.models.rope import Rope, RopeFacts


def _rope(model: PreTrainedModel, layers: list[LayerFacts]) -> Rope | None:
    modules = attention_hook.rotary_modules(model)
    if not modules:
        return None
    config = model.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    length = trained_length(model.config)
    facts: dict[str | None, RopeFacts] = {}
    for layer in layers:
        layer_type = layer.rotary_type
        if layer.layout is not None and layer_type not in facts:
            own = parameters if layer_type is None else parameters.get(layer_type, parameters)
            theta = float(own.get("rope_theta", 10000.0))
            facts[layer_type] = RopeFacts(theta, int(layer.layout.rotated.sum()), length)
    return Rope(OwnFrequencies(modules[0]), facts, model.dtype, obstacles.device_of(model))


@obstacles.no_autocast()
def adapt(
    model: PreTrainedModel, fuse: bool = True, verify: bool = True,
    tokenizer: PreTrainedTokenizerBase | None = None, pack: bool | None = None,
) -> AdaptedModel:  # fmt: skip
    """Probes a causal language model and returns it adapted.

    fuse: use the leaner forward where the family has one and it gives the same. verify: compare
    with the stock model on a few tokens (see `verify`), of a text where there is a tokenizer.
    pack: see `AdaptedModel`.
    Raises UnsupportedModel with the family and the reason.
    """
    model = obstacles.adaptable(model)
    with obstacles.as_written(model):
        return _adapted(model, fuse, verify, tokenizer, pack)


def _adapted(
    model: PreTrainedModel, fuse: bool, verify: bool, tokenizer: PreTrainedTokenizerBase | None,
    pack: bool | None,
) -> AdaptedModel:  # fmt: skip
    obstacles.settle(model)
    layers = layer_facts(model)
    adapted = AdaptedModel(model, layers, _rope(model, layers), trained_length(model.config))
    adapted.tokenizer, adapted.pack = tokenizer, pack
    try:
        verifier = verification.verify(adapted) if verify else None
    except UnsupportedModel:
        obstacles.refuse_two_ways(model)
        raise
    if fuse:
        adapted.use(fused_forward(adapted))
        found = verifier.logits() if adapted.fast is not None and verifier is not None else ""
        if found:
            adapted.release()
            adapted.notes.append(f"its fused forward was left out, the plain one is used: {found}")
        elif adapted.fast is not None and (note := Packing(model, pack).note):
            adapted.notes.append(note)
    return adapted
