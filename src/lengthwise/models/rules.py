"""What a model's generation_config forbids or forces, as processors of transformers.

Of a generation_config two things hold for every request: the end tokens, and what is suppressed or
forced (`suppress_tokens`, `begin_suppress_tokens`, `bad_words_ids`, `forced_bos_token_id`,
`forced_eos_token_id`), which says what the model must not say. Taste (temperature, top_k, top_p,
penalties, biases, lengths) is the caller's: text is greedy unless asked for otherwise.
"""

from __future__ import annotations

from typing import Any

from transformers import LogitsProcessorList
from transformers.generation import logits_process as stock

from lengthwise.models.adapted_model import AdaptedModel


def own_rules(model: AdaptedModel, prompt: int, new: int) -> LogitsProcessorList:
    """Processors for a prompt of `prompt` tokens and at most `new` ones after it, in stock's order;
    empty for most models."""
    config: Any = model.model.generation_config
    device = str(model.device)
    found = LogitsProcessorList()
    if config is None:
        return found
    eos = config.eos_token_id
    ends = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
    if config.bad_words_ids is not None:
        found.append(stock.NoBadWordsLogitsProcessor(config.bad_words_ids, ends or None))
    if config.forced_bos_token_id is not None:
        found.append(stock.ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        forced = config.forced_eos_token_id
        found.append(stock.ForcedEOSTokenLogitsProcessor(prompt + new, forced, device))
    if config.suppress_tokens is not None:
        found.append(stock.SuppressTokensLogitsProcessor(config.suppress_tokens, device))
    if config.begin_suppress_tokens is not None:
        begin = prompt + (prompt <= 1 and config.forced_bos_token_id is not None)
        found.append(
            stock.SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, begin, device)
        )
    return found
