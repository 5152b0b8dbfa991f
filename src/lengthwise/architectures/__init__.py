"""Models of our own, as models of transformers: tiny ones, trained from scratch.

What replaces or adds to the softmax of attention is no recipe over a stock model but a model of its
own. `register` makes transformers know ours by their model types; a run trains them as any family.

    decoder             what they share: embeddings, blocks, head
    position_schemes    no position, ALiBi, T5's bias, rotary, sinusoidal and learned
    urpe                weights after the softmax times a learned Toeplitz matrix
    softplus            softplus in place of exp, with re-weighting
    kernelised          random features with relative positions, in n log n

Others change what a position is. They read no ids of tokens alone, so no run and no recipe takes
them; `training/byte_models.py` and `masked_words.py` train them.

    word_units          texts as rows of words of bytes
    learn_your_tokens   words pooled from bytes, spelled in parallel
    byte2word           words made of bytes by cross-attention, under BERT
    code_merging        subtokens of an identifier as one vector, in front of any model
"""

from __future__ import annotations

MODEL_TYPES = ("position_schemes", "urpe", "softplus_attention", "kernelised_attention")
"""The model types of ours that a run trains."""
WORD_TYPES = ("learn_your_tokens", "byte2word", "code_merging")
"""Those that read words, or merged tokens."""


def register() -> None:
    """Makes transformers know our models by their types; a second call does nothing."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from lengthwise.architectures.byte2word import Byte2Word
    from lengthwise.architectures.code_merging import CodeMerging
    from lengthwise.architectures.kernelised import KernelisedAttention
    from lengthwise.architectures.learn_your_tokens import LearnYourTokens
    from lengthwise.architectures.position_schemes import PositionSchemes
    from lengthwise.architectures.softplus import SoftplusAttention
    from lengthwise.architectures.urpe import URPE

    for made in (PositionSchemes, URPE, SoftplusAttention, KernelisedAttention):
        config = made.config_class
        if config.model_type not in CONFIG_MAPPING:
            AutoConfig.register(config.model_type, config)
            AutoModelForCausalLM.register(config, made)
    for reader in (LearnYourTokens, Byte2Word, CodeMerging):
        read_by = reader.config_class
        if read_by.model_type not in CONFIG_MAPPING:
            AutoConfig.register(read_by.model_type, read_by)
            AutoModel.register(read_by, reader)


__all__ = ["MODEL_TYPES", "WORD_TYPES", "register"]
