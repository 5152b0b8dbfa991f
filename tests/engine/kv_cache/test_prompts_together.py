"""Rows of a forward: prompts together by one call, by one a row, and rows that are no prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kernels import varlen
from lengthwise.engine.kernels.part import Asked, Part
from lengthwise.engine.kernels.plain import plain
from lengthwise.engine.kv_cache import prompts_together
from lengthwise.engine.kv_cache.prompts_together import reads_plainly
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import recipe_of, resolve
from lengthwise.testing.tiny import tiny, tokens

TEXT = tokens(200)
LENGTHS = (1, 20, 7)


class Kernel:
    """The operator of a GPU's flash kernel, by plain products; counts calls for several rows."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, ends: Tensor, key_ends: Tensor,
        longest: int, longest_key: int, dropout: float, causal: bool, debug: bool, *, scale: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        assert ends.dtype == key_ends.dtype == torch.int32 and (dropout, debug) == (0.0, False)
        assert int(ends.diff().max()) == longest and int(key_ends.diff().max()) == longest_key
        assert int(ends[-1]) == len(query) and int(key_ends[-1]) == len(key) == len(value)
        self.calls += len(ends) > 2
        cut = [x.transpose(0, 1).split(e.diff().tolist(), 1)
               for x, e in ((query, ends), (key, key_ends), (value, key_ends))]  # fmt: skip
        answers = [
            plain(Asked([Part(*qkv, causal=causal)], scale, need_lse=True))
            for qkv in zip(*cut, strict=True)
        ]
        lses = [lse for _, lse in answers if lse is not None]
        return torch.cat([out for out, _ in answers], 1).transpose(0, 1), torch.cat(lses, 1)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", made, raising=False)
    monkeypatch.setattr(varlen, "can", lambda *given: True)
    return made


def read(model: AdaptedModel, recipes: tuple[str, ...], held: int = 0) -> list[Any]:
    rows = [Sequence(model, resolve(recipe_of(recipe), model)) for recipe in recipes]
    for row in rows:
        if held:
            loop.prefill(row, TEXT[100 : 100 + held])
    items = [(row, TEXT[:length], None) for row, length in zip(rows, LENGTHS, strict=True)]
    logits, steps = loop.extend(items)
    for (row, text, _), step in zip(items, steps, strict=True):
        row.commit(step, text)
    keys = [group.near.read() for row in rows for _, group in row.groups()]
    return [*logits, *(entries.key for entries in keys if entries is not None)]


@pytest.mark.parametrize("family", ["llama", "phi", "smollm3", "deepseek_v3"])
def test_one_call_of_a_layer_reads_all_prompts(family: str, kernel: Kernel) -> None:
    """Partial rotation, layers without any, and values of another size among them."""
    model = tiny(family)
    found = read(model, ("full", "full", "yarn(factor=2)"))
    assert kernel.calls == len(model.layers)
    with loop.using("products"):
        right = read(model, ("full", "full", "yarn(factor=2)"))
    assert kernel.calls == len(model.layers)
    for ours, theirs in zip(found, right, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


WINDOWED = "streaming(sinks=2, window=24)"
CHOSEN = "infllm(budget=32, window=16, block=4, init=2)"


@pytest.mark.parametrize("other", [WINDOWED, "h2o(budget=16)", "dynamic_ntk", CHOSEN])
def test_rows_that_store_otherwise_are_read_in_turn(
    other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts_together, "_place", None)
    read(tiny("llama"), ("full", other, "full"))


def test_rows_that_hold_something_are_read_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts_together, "_place", None)
    read(tiny("llama"), ("full",) * 3, held=3)


def test_the_kernel_is_left_out_where_it_does_not_serve(kernel: Kernel) -> None:
    """A softcap, learned sinks, and windows of the model's own."""
    for family in ("gemma2", "gpt_oss", "mistral"):
        read(tiny(family), ("full",) * 3)
        assert not kernel.calls


def test_reads_plainly_asks_for_an_empty_layer() -> None:
    row = Sequence(tiny("llama"))
    assert all(map(reads_plainly, row.layers))
    loop.prefill(row, TEXT[:4])
    assert not any(map(reads_plainly, row.layers))


def test_memory_of_queries_is_that_of_reading_alone() -> None:
    """A retention that is shown the prompt's last queries."""
    model = tiny("llama")
    plan = resolve(recipe_of("snapkv(budget=16, window=8)"), model)
    rows = [Sequence(model, plan) for _ in LENGTHS]
    texts = [TEXT[:length] for length in LENGTHS]
    _, steps = loop.extend([(row, text, None) for row, text in zip(rows, texts, strict=True)])
    for row, step, text in zip(rows, steps, texts, strict=True):
        row.commit(step, text)
        alone = Sequence(model, plan)
        loop.prefill(alone, text)
        for mine, theirs in zip(row.layers, alone.layers, strict=True):
            ours, right = mine.last_queries(), theirs.last_queries()
            assert ours is not None and right is not None
            assert torch.allclose(ours, right, atol=1e-5)
