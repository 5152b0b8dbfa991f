"""What `generate` with a recipe does with every attribute of a transformers GenerationConfig.

`HONOURED` and `REFUSED` together hold all of them.
"""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

from lengthwise.errors import LengthwiseError

# Attributes of a GenerationConfig that do here what they do in stock, and how.
HONOURED: dict[str, str] = {
    **dict.fromkeys(
        (
            "repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "min_length",
            "min_new_tokens", "forced_bos_token_id", "forced_eos_token_id",
            "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
            "begin_suppress_tokens", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p",
            "epsilon_cutoff", "eta_cutoff", "renormalize_logits", "watermarking_config",
        ),
        "a logits processor that generate hands over",
    ),
    **dict.fromkeys(
        ("max_length", "max_new_tokens", "max_time", "stop_strings", "eos_token_id"),
        "a stopping criterion that generate hands over",
    ),
    "do_sample": "greedy without it",
    "num_return_sequences": "generate repeats the rows; each draws for itself",
    "pad_token_id": "fills rows that have ended",
    "return_dict_in_generate": "sequences, scores and logits",
    "output_scores": "recorded as tokens are chosen",
    "output_logits": "recorded as tokens are chosen",
    "prefill_chunk_size": "tokens of a prefill forward",
    "disable_compile": "nothing is compiled",
    **dict.fromkeys(
        ("bos_token_id", "decoder_start_token_id"), "generate begins an empty prompt with it"
    ),
    **dict.fromkeys(
        ("early_stopping", "length_penalty"), "does nothing in stock without beams, nor here"
    ),
    **dict.fromkeys(
        (
            "num_assistant_tokens", "num_assistant_tokens_schedule",
            "assistant_confidence_threshold", "max_matching_ngram_size", "assistant_lookbehind",
            "target_lookbehind", "assistant_ensemble_weight",
        ),
        "does nothing in stock without an assistant, nor here",
    ),
    **dict.fromkeys(("_from_model_config", "transformers_version"), "where the config came from"),
}  # fmt: skip

_ONE = "one text is written at a time"
DRAFT = "a recipe guesses ahead: write 'lookup', 'model(path=...)' or another drafter into it"
CACHE = "what is kept and how is the recipe's: write 'kivi', 'snapkv' or others into it"
# Attributes that are refused unless they have one of these values, and why.
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "num_beams": ((None, 1), f"{_ONE}; leave it out, or write 'beam(width=4)' into the recipe"),
    "num_beam_groups": ((None, 1), _ONE),
    "diversity_penalty": ((None, 0.0), _ONE),
    "constraints": ((None,), f"{_ONE}, and constraints need beams"),
    "force_words_ids": ((None,), f"{_ONE}, and forced words need beams"),
    "low_memory": ((None, False), _ONE),
    "penalty_alpha": ((None, 0, 0.0), "contrastive search is another loop"),
    "dola_layers": ((None,), "DoLa reads other layers than the last"),
    "guidance_scale": ((None, 1, 1.0), "guidance runs the model a second time, with stock's cache"),
    "token_healing": ((None, False), "give the prompt healed"),
    "use_mtp": ((None, False), DRAFT),
    "prompt_lookup_num_tokens": ((None,), DRAFT),
    "assistant_early_exit": ((None,), DRAFT),
    "speculation_type": ((None,), DRAFT),
    "is_assistant": ((None, False), "this model is nobody's assistant here"),
    "use_cache": ((None, True), f"{CACHE}; leave out use_cache"),
    "cache_implementation": ((None, "dynamic"), CACHE),
    "cache_config": ((None,), CACHE),
    "max_cache_len": ((None,), CACHE),
    "compile_config": ((None,), "nothing is compiled here"),
    "continuous_batching_config": ((None,), "give the prompts to one call"),
    "output_attentions": ((None, False), "no attention probabilities are kept"),
    "output_hidden_states": ((None, False), "no hidden states are kept"),
}


def check_config(config: GenerationConfig) -> None:
    """Refuses by name what a recipe cannot do, and what this version does not know.

    Raises:
        LengthwiseError: for the first such attribute.
    """
    known = vars(GenerationConfig())
    for name, value in vars(config).items():
        if name in REFUSED:
            allowed, reason = REFUSED[name]
            if value not in allowed:
                raise cannot(f"{name}={value!r}", reason)
        elif name in known and name not in HONOURED and value is not None:
            raise cannot(f"{name}={value!r}", "this version does not know it; leave it out")


def cannot(what: str, reason: str) -> LengthwiseError:
    """The error for something that was asked for, and why it is refused."""
    return LengthwiseError(f"custom_generate cannot honour {what}: {reason}")
