"""Selections of small budgets, and sequences that are read under them."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend
from lengthwise.engine.plan import Plan
from lengthwise.methods.base import Method
from lengthwise.methods.selection.hip import HiP
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.methods.selection.quest import Quest
from lengthwise.methods.selection.squeezed import Squeezed
from lengthwise.methods.selection.token_select import TokenSelect
from lengthwise.models.adapted_model import AdaptedModel

LENGTH = 72
READING_ALL: list[Method] = [
    InfLLM(budget=400, window=LENGTH + 8, init=4, block=8, query_block=16),
    TokenSelect(budget=200, window=16, init=4, query_block=16),
    Quest(budget=200, window=16, page=4, dense=0),
    HiP(budget=200, window=16, init=4, dense=0, query_block=16),
    Squeezed(removed=0, window=16),
]
CHOOSING: list[Method] = [
    InfLLM(budget=36, window=16, init=4, block=4, query_block=16, representatives=2),
    TokenSelect(budget=28, window=16, init=4, query_block=16),
    TokenSelect(budget=28, window=16, init=4, query_block=16, reuse=0.5),
    TokenSelect(k=8, window=16, init=4, query_block=16),
    Quest(budget=36, window=16, page=4, dense=0),
    HiP(budget=28, window=16, init=4, block=2, dense=0, query_block=8, interval=1),
    HiP(budget=28, window=16, init=4, block=2, dense=1, query_block=8),
    HiP(budget=28, window=16, init=4, block=2, dense=0, query_block=8, sample="first", interval=4),
    Squeezed(removed=0.6, clusters=0.25, coarse=0.1, window=16),
]
FAMILIES = ("llama", "qwen3", "gemma3_text")


def plan_of(method: Method, model: AdaptedModel) -> Plan:
    placement = method.placement(model)
    assert placement is not None
    return Plan(str(method), None, placement, selector=method.selectors(model), lossless=False)


def feed(sequence: Sequence, part: list[int]) -> Tensor:
    (logits,), (block,) = extend([(sequence, part, None)], "all")
    sequence.commit(block, part)
    return logits


def read_all(model: AdaptedModel, plan: Plan, text: list[int], chunk: int, steps: int) -> Tensor:
    sequence = Sequence(model, plan)
    stop = len(text) - steps
    found = [feed(sequence, text[i : min(i + chunk, stop)]) for i in range(0, stop, chunk)]
    sequence.end_prefill()
    return torch.cat(found + [feed(sequence, [token]) for token in text[stop:]])


def read_on(sequence: Sequence, part: list[int]) -> Tensor:
    return torch.cat([feed(sequence, [token]) for token in part])
