"""Branches behind one text: each gets what it gets alone, in as few forwards as that allows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine import branches as module
from lengthwise.engine.branches import forced_branches
from lengthwise.engine.forced import forced
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.errors import LengthwiseError, NotFinite
from lengthwise.recipes import plan_of
from lengthwise.testing.tiny import tiny, tokens

# Of one token, of several, twice the same, with a common beginning, and one within another.
BRANCHES = [tokens(1), tokens(7, 2), tokens(7, 2), [*tokens(4, 2), *tokens(5, 3)], tokens(3, 2),
            tokens(14, 4), [7, 7, 7], [7, 8]]  # fmt: skip
RECIPES = ["full", "snapkv(budget=25%, window=8, floor=8)", "h2o(budget=40)", "yarn(factor=2)",
           "streaming(sinks=2, window=24)", "kivi(bits=4, group=8, residual=16)",
           "self_extend(group=4, window=32)", "infllm(budget=32, window=16, block=4, init=2)",
           "quest(budget=32, window=8, page=4, dense=0)"]  # fmt: skip
FAMILIES = ["llama", "gemma3_text", "phi", "gpt2", "deepseek_v3"]


def read(recipe: str, count: int, family: str = "llama", seed: int = 0) -> Sequence:
    model = tiny(family)
    sequence = Sequence(model, plan_of(recipe, model))
    prefill(sequence, tokens(count, seed))
    sequence.end_prefill()
    return sequence


def together(rows: Any, most: int = module.TOKENS) -> dict[tuple[int, int], Tensor]:
    found: dict[tuple[int, int], list[Tensor]] = {}
    for row, number, logits in forced_branches(rows, most):
        found.setdefault((row, number), []).append(logits.clone())
    return {name: torch.cat(parts) for name, parts in found.items()}


def require_alone(found: dict[tuple[int, int], Tensor], rows: Any) -> None:
    assert found.keys() == {(r, n) for r, (_, each) in enumerate(rows) for n in range(len(each))}
    for (row, number), logits in found.items():
        sequence, branches = rows[row]
        alone = torch.cat(list(forced(sequence.fork(), branches[number])))
        assert torch.allclose(logits, alone, atol=1e-5), (row, number)


@pytest.mark.parametrize(
    ("recipe", "most"), [*((each, 512) for each in RECIPES), ("full", 4), (RECIPES[1], 20)]
)
def test_each_gets_what_it_gets_alone(recipe: str, most: int) -> None:
    rows = [(read(recipe, 50), BRANCHES[:4]), (read(recipe, 30, seed=5), BRANCHES[4:7])]
    found = together(rows, most)
    require_alone(found, rows)
    # The texts stay as they were.
    assert [len(sequence) for sequence, _ in rows] == [50, 30]
    again = together([(rows[0][0], BRANCHES[:2])], most)
    assert all(torch.allclose(found[name], logits, atol=1e-5) for name, logits in again.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_in_every_kind_of_family(family: str) -> None:
    rows = [(read("full", 50, family), BRANCHES)]
    require_alone(together(rows), rows)


def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    extend = module.extend

    def counting(items: Any, *more: Any, **options: Any) -> Any:
        counts.append(sum(len(fed) for _, fed, _ in items))
        return extend(items, *more, **options)

    monkeypatch.setattr(module, "extend", counting)
    return counts


def test_one_forward_in_which_what_begins_alike_is_fed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = forwards(monkeypatch)
    together([(read("full", 60), BRANCHES)])
    # Six of the second and four more of the fourth, 13 of the sixth, two of the last ones: the last
    # token of each is predicted and not fed.
    assert counts == [6 + 4 + 13 + 2]
    counts.clear()
    together([(read("full", 60), BRANCHES)], most=14)
    assert len(counts) > 1 and max(counts) <= 14


def test_what_overflows_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    extend, bad = module.extend, 99

    def spoiling(items: Any, *more: Any, **options: Any) -> Any:
        logits, steps = extend(items, *more, **options)
        spoilt = any(bad in fed for _, fed, _ in items)
        return [each * float("nan") if spoilt else each for each in logits], steps

    monkeypatch.setattr(module, "extend", spoiling)
    rows = [(read("full", 30), [*BRANCHES[:4], [3, bad, 4], BRANCHES[5]])]
    found = []
    with pytest.raises(NotFinite):
        for _, number, _ in forced_branches(rows):
            found.append(number)
    assert found == [0, 1, 2, 3] or found == [0, 1, 2, 3, 5]


def test_memory_that_runs_out_makes_smaller_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    extend, counts = module.extend, list[int]()

    def small(items: Any, *more: Any, **options: Any) -> Any:
        counts.append(sum(len(fed) for _, fed, _ in items))
        if counts[-1] > 20:
            raise torch.OutOfMemoryError("out of memory")
        return extend(items, *more, **options)

    rows = [(read("full", 30), BRANCHES)]
    monkeypatch.setattr(module, "extend", small)
    found = together(rows)
    monkeypatch.undo()
    assert counts[0] > 20 >= counts[-1]
    require_alone(found, rows)


def test_a_prompt_that_was_not_ended_is_refused() -> None:
    model = tiny("llama")
    sequence = Sequence(model, plan_of("full", model))
    prefill(sequence, tokens(8))
    with pytest.raises(LengthwiseError, match="behind a prompt that was read"):
        list(forced_branches([(sequence, [[5]])]))
