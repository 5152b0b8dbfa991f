"""Sequence mixers as models of transformers: tiny ones, trained from scratch.

What replaces or adds to the softmax of attention is no recipe over a stock model but a model of its
own. `register` makes transformers know ours by their model types; a run trains them as any family.

    decoder             what they share: embeddings, blocks, head
    position_schemes    no position, ALiBi, T5's bias, rotary, sinusoidal and learned
    urpe                weights after the softmax times a learned Toeplitz matrix
    softplus            softplus in place of exp, with re-weighting
    kernelised          random features with relative positions, in n log n
"""

from __future__ import annotations

MODEL_TYPES = ("position_schemes", "urpe", "softplus_attention", "kernelised_attention")
"""The model types of ours."""


def register() -> None:
    """Makes transformers know our models by their types; a second call does nothing."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from lengthwise.architectures.kernelised import KernelisedAttention
    from lengthwise.architectures.position_schemes import PositionSchemes
    from lengthwise.architectures.softplus import SoftplusAttention
    from lengthwise.architectures.urpe import URPE

    for made in (PositionSchemes, URPE, SoftplusAttention, KernelisedAttention):
        config = made.config_class
        if config.model_type not in CONFIG_MAPPING:
            AutoConfig.register(config.model_type, config)
            AutoModelForCausalLM.register(config, made)


__all__ = ["MODEL_TYPES", "register"]
