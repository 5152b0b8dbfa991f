"""`model.generate(..., custom_generate=custom_generate(recipe))`: transformers' door to our loop.

`generate` prepares logits processors and stopping criteria from its arguments and the generation
config, and hands them over: they are run as they are, token by token. What cannot be honoured is
refused by name before anything runs; `hf_config.py` lists what a GenerationConfig may ask for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation import logits_process as stock
from transformers.generation.utils import GenerateDecoderOnlyOutput

from lengthwise.api.batch import Asked, Row, Written, write
from lengthwise.api.given import known_options
from lengthwise.api.hf_config import CACHE, DRAFT, cannot, check_config
from lengthwise.engine.loop import Progress
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling, row_seed
from lengthwise.engine.steering import Steering
from lengthwise.errors import Refused
from lengthwise.recipes import RecipeLike

# Processors that remember what they were asked before, which drafting and rows of unequal length
# would mix up.
_REMEMBERING = (
    stock.UnbatchedClassifierFreeGuidanceLogitsProcessor,
    stock.SynthIDTextWatermarkLogitsProcessor,
)
# Arguments of the model's forward that generate prepares by itself.
_PREPARED = frozenset(
    {"attention_mask", "position_ids", "past_key_values", "use_cache", "cache_position"}
)


@dataclass(frozen=True)
class _Handed:
    """What `generate` handed over, after everything was found that can be honoured."""

    ids: Tensor
    mask: Tensor | None
    config: GenerationConfig
    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    stop_ids: tuple[int, ...]
    new: int
    pad: int | None


@dataclass(frozen=True)
class _Options:
    """What `custom_generate` was given beside the recipe."""

    seed: int | None
    stop: str | Seq[str]
    tokenizer: PreTrainedTokenizerBase | None
    chunk: int | None
    progress: Progress | None


@known_options
def custom_generate(
    recipe: RecipeLike = "full",
    *,
    seed: int | None = None,
    stop: str | Seq[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Callable[..., Any]:
    """A function for `model.generate(..., custom_generate=...)` that runs a recipe in our loop.

    Logits processors and stopping criteria that `generate` makes are stock's own and honoured. So
    are the user's, which must be functions of the ids and scores: every row is asked alone, at each
    token it says. Sampling, num_return_sequences, streamer, and return_dict_in_generate with
    output_scores and output_logits are honoured too. The rest is refused by name before anything
    runs: beams, assistants, caches of the user's. Rows may be padded on the left.

    Args:
        recipe: as for `Model.generate`. Of one that writes several texts the best is taken.
        seed: of the samples; None draws one from torch's generator, so that torch.manual_seed
            governs it. Every row draws for itself.
        stop: a string that ends a row, or several; needs the tokenizer.
        tokenizer: the model's.
        chunk: tokens of a prefill forward.
        progress: called with tokens read.

    Everything else is an argument of `model.generate`.

    Returns:
        The function. With it `generate` returns ids int64 `[rows, prompt + new]`, an end token
            included where one was said and padding behind it. Or it returns a
            GenerateDecoderOnlyOutput, whose scores and logits are zeros behind the end of a row.
    """
    options = _Options(seed, stop, tokenizer, chunk, progress)

    def generate(model: PreTrainedModel, input_ids: Tensor, **given: Any) -> Any:
        hidden = _hidden(generate, inspect.currentframe())
        streamer = given.pop("streamer", None) or hidden.get("streamer")
        try:
            handed = _accept(model, input_ids, {**hidden, **given, "streamer": None})
            return _generate(model, recipe, handed, options, streamer)
        finally:
            if streamer is not None:
                streamer.end()

    return generate


def _hidden(ours: Callable[..., Any], frame: Any) -> dict[str, Any]:
    """Arguments of `generate` that transformers leaves out when it calls a function of the user's.

    Of 5.23 these are streamer, assistant_model and synced_gpus: it puts the prompt into the
    streamer, and then drops it. They are read where `generate` holds them.
    """
    while frame is not None:
        if frame.f_locals.get("custom_generate") is ours and "streamer" in frame.f_locals:
            names = ("streamer", "assistant_model", "synced_gpus", "negative_prompt_ids")
            return {name: frame.f_locals.get(name) for name in names}
        frame = frame.f_back
    return {}


def _accept(model: PreTrainedModel, ids: Tensor, given: dict[str, Any]) -> _Handed:
    """Refuses what cannot be honoured, and reads the rest."""
    config = given.pop("generation_config", None) or model.generation_config
    processors = given.pop("logits_processor", None) or LogitsProcessorList()
    criteria = given.pop("stopping_criteria", None) or StoppingCriteriaList()
    check_config(config)
    _check_arguments(ids, given)
    for processor in processors:
        if isinstance(processor, _REMEMBERING):
            raise cannot(type(processor).__name__, "it remembers earlier calls; leave it out")
    stop_ids = tuple(
        int(token) for c in criteria if isinstance(c, EosTokenCriteria) for token in c.eos_token_id
    )
    lengths = [c.max_length for c in criteria if isinstance(c, MaxLengthCriteria)]
    if not lengths:
        raise cannot(
            "stopping_criteria", "none of them is a MaxLengthCriteria; call model.generate"
        )
    new = min(lengths) - ids.shape[1]
    rest = [c for c in criteria if not isinstance(c, (EosTokenCriteria, MaxLengthCriteria))]
    pad = config.pad_token_id
    if pad is None:
        pad = stop_ids[0] if stop_ids else None
    if pad is None and rest and len(ids) > 1:
        raise cannot(
            "stopping_criteria", "rows may end at different lengths; give pad_token_id as well"
        )
    return _Handed(
        ids, given.get("attention_mask"), config, processors, StoppingCriteriaList(rest), stop_ids,
        new, pad,
    )  # fmt: skip


def _check_arguments(ids: Tensor, given: Mapping[str, Any]) -> None:
    """Refuses arguments that generate passes on to the model, other than those it prepares."""
    if ids.dim() != 2 or not ids.shape[1]:
        raise cannot("inputs_embeds", "recipes read token ids; give input_ids alone")
    for name, value in given.items():
        if value is None or (name == "synced_gpus" and not value):
            continue
        if name == "assistant_model":
            raise cannot(name, DRAFT)
        if name == "past_key_values" and value.get_seq_length():
            raise cannot(name, f"{CACHE}; give the whole text as input_ids")
        if name == "past_key_values" and getattr(value, "_is_user_defined", False):
            raise cannot(name, CACHE)
        if name == "position_ids":
            _check_positions(value, ids, given.get("attention_mask"))
        elif name == "logits_to_keep" and value != 1:
            raise cannot(f"{name}={value!r}", "the last logits are all that is read")
        elif name not in _PREPARED and name != "logits_to_keep":
            raise cannot(name, "recipes read token ids and nothing else; leave it out")


def _check_positions(positions: Tensor, ids: Tensor, mask: Tensor | None) -> None:
    """Refuses positions that do not count the tokens of each row from 0."""
    seen = torch.ones_like(ids) if mask is None else mask.to(ids.device).long()
    counted = seen.cumsum(-1) - 1
    if positions.shape[-2:] != ids.shape or not torch.equal(
        (positions.to(ids.device) * seen).expand_as(counted), counted * seen
    ):
        raise cannot("position_ids", "tokens are counted from 0 in each row; leave it out")


def _generate(
    model: PreTrainedModel, recipe: RecipeLike, handed: _Handed, options: _Options, streamer: Any
) -> Any:
    from lengthwise.api.loading import wrap

    tokenizer = options.tokenizer
    columns = _Columns(streamer, handed.pad) if streamer is not None else None
    with wrap(model, tokenizer) as wrapped:
        plan = wrapped.plan(recipe)
        record = bool(handed.config.return_dict_in_generate) and bool(
            handed.config.output_scores or handed.config.output_logits
        )
        if record and (not plan.lossless or plan.mode is not None):
            raise cannot("output_scores", f"{plan.text} does not choose by them; leave it out")
        rows = _rows(wrapped.encode, handed, options.seed, record)
        asked = Asked(
            plan, handed.new, handed.stop_ids, options.stop,
            options.chunk or handed.config.prefill_chunk_size, options.progress,
            None if columns is None else columns.put,
        )  # fmt: skip
        done = write(wrapped.adapted, tokenizer, rows, asked)
    return _output(handed, rows, [_served(each) for each in done])


def _served(done: Written | Refused) -> Written:
    """A row that was served; rows of a tensor cannot be left out."""
    if isinstance(done, Refused):
        raise done
    if done.request.failed is not None:
        raise done.request.failed
    return done


def _rows(
    encode: Callable[[Any], list[int]], handed: _Handed, seed: int | None, record: bool
) -> list[Row]:
    sampling = _sampling(handed.config, seed)
    found = []
    for number, row in enumerate(handed.ids):
        seen = row if handed.mask is None else row[handed.mask[number].bool()]
        prompt = encode(seen.tolist())
        steering = Steering(
            handed.processors, handed.criteria, row.tolist(), len(prompt), number, len(handed.ids),
            record,
        )  # fmt: skip
        own = replace(sampling, seed=row_seed(sampling.seed, number))
        found.append(Row(prompt, own, steering=steering))
    return found


def _sampling(config: GenerationConfig, seed: int | None) -> Sampling:
    """The sampling as drafters know it: what is said follows the processors handed over."""
    if not config.do_sample:
        return Sampling(seed=0 if seed is None else seed)
    if seed is None:
        seed = int(torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64))
    return Sampling(
        temperature=1.0 if config.temperature is None else config.temperature,
        top_k=config.top_k or 0, top_p=1.0 if config.top_p is None else config.top_p,
        min_p=config.min_p or 0.0, repetition_penalty=config.repetition_penalty or 1.0, seed=seed,
    )  # fmt: skip


def _said(request: Request) -> list[int]:
    """New ids as stock gives them: a token that ended the row is part of it."""
    return [*request.output, *([] if request.stopped is None else [request.stopped])]


class _Columns:
    """Puts tokens into a streamer as stock does: one of every row at a time, rows that have ended
    padded."""

    def __init__(self, streamer: Any, pad: int | None) -> None:
        self._streamer, self._pad, self._put = streamer, pad, 0

    def put(self, requests: Seq[Request]) -> None:
        rows = [_said(request) for request in requests]
        open_ = [len(row) for row, r in zip(rows, requests, strict=True) if not r.done]
        upto = min(open_, default=max(map(len, rows)))
        for place in range(self._put, upto):
            column = [row[place] if place < len(row) else self._pad or 0 for row in rows]
            self._streamer.put(torch.tensor(column))
        self._put = max(self._put, upto)


def _output(handed: _Handed, rows: Seq[Row], done: Seq[Written]) -> Any:
    said = [_said(each.request) for each in done]
    longest = max(map(len, said))
    tails = [row + [handed.pad or 0] * (longest - len(row)) for row in said]
    new = torch.tensor(tails, dtype=torch.long, device=handed.ids.device)
    ids = torch.cat([handed.ids.long(), new.reshape(len(tails), -1)], 1)
    config = handed.config
    if not config.return_dict_in_generate:
        return ids
    kept = [row.steering for row in rows if row.steering is not None]
    return GenerateDecoderOnlyOutput(
        sequences=ids,  # type: ignore[arg-type]
        # transformers says a tuple of one, and means one a token.
        scores=_steps([s.scores for s in kept], kept, longest) if config.output_scores else None,  # type: ignore[arg-type]
        logits=_steps([s.logits for s in kept], kept, longest) if config.output_logits else None,  # type: ignore[arg-type]
    )


def _steps(
    recorded: Seq[dict[int, Tensor]], kept: Seq[Steering], longest: int
) -> tuple[Tensor, ...]:
    """Per step `[rows, vocab]`, as stock gives them; zeros where a row has ended."""
    like = next(iter(recorded[0].values()))
    return tuple(
        torch.stack([
            row.get(steering.prompt + step, torch.zeros_like(like))
            for row, steering in zip(recorded, kept, strict=True)
        ])
        for step in range(longest)
    )  # fmt: skip
