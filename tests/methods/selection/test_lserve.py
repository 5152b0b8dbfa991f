"""LServe scores pages by sub-pages, uses a choice again, and leaves streaming heads alone."""

from __future__ import annotations

import pytest
import torch

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import slack_of
from lengthwise.engine.kv_cache.selection import Queries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import RecipeError
from lengthwise.methods import calibration
from lengthwise.methods.base import Budget
from lengthwise.methods.gates import KIND
from lengthwise.methods.selection.lserve import LServe, SubPages
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tokens

SMALL = LServe(Budget(24), heads=1.0, window=8, page=4, subpage=2, reuse=1)


def store(key: torch.Tensor) -> KVStore:
    far = KVStore()
    index = torch.arange(key.shape[1], dtype=torch.int32)[None]
    far.append(KVEntries(key, torch.zeros_like(key), index))
    return far


def asked(query: torch.Tensor, last: int, boundary: int) -> Queries:
    index = torch.tensor([last])
    return Queries(query[:, None], query[:, None], index, last - boundary, True, (last, last),
                   boundary)  # fmt: skip


@pytest.mark.parametrize("steps", [(30,), (7, 1, 2, 20), tuple([1] * 30)])
def test_pages_are_scored_by_the_best_of_their_sub_pages(steps: tuple[int, ...]) -> None:
    key, query = torch.randn(2, 30, 16), torch.randn(4, 16)
    selector, at = SubPages(SMALL), 0
    for count in steps:
        entries = store(key[:, at : at + count]).tail
        assert entries is not None
        selector.extend(entries, store(key[:, : at + count]))
        at += count
    found = selector.page_scores(query)
    assert found.shape == (4, 7)
    for head in range(4):
        for page in range(7):
            own = key[head // 2, 4 * page : 4 * page + 4]
            bounds = [
                torch.maximum(query[head] * sub.amin(0), query[head] * sub.amax(0)).sum()
                for sub in (own[:2], own[2:])
            ]
            assert torch.isclose(found[head, page], torch.stack(bounds).max(), atol=1e-4)
            assert float(found[head, page]) >= float((own @ query[head]).max()) - 1e-5


def test_sub_pages_are_tighter_bounds_than_pages() -> None:
    key, query = torch.randn(2, 64, 16), torch.randn(4, 16)
    fine, coarse = (SubPages(LServe(Budget(40), window=8, page=8, subpage=s)) for s in (2, 8))
    for each in (fine, coarse):
        each.add(key)
    assert bool((fine.page_scores(query) <= coarse.page_scores(query) + 1e-5).all())
    assert float((coarse.page_scores(query) - fine.page_scores(query)).max()) > 0.1


def test_a_choice_holds_the_best_pages_and_what_fills_none() -> None:
    key, query = torch.randn(2, 30, 16), torch.randn(4, 16)
    selector, far = SubPages(SMALL), store(key)
    assert far.tail is not None
    selector.extend(far.tail, far)
    choice = selector.plan(asked(query, 37, 30), far)
    assert choice is not None
    # 24 tokens, less 8 near ones and the 2 behind the last page: three pages.
    best = selector.page_scores(query).topk(3, -1).indices.sort(-1).values
    for head in range(4):
        pages = [4 * int(page) + i for page in best[head] for i in range(4)]
        assert choice.ids[head].tolist() == [*pages, 28, 29]


def test_a_choice_is_used_again_until_its_end_or_the_window_moves() -> None:
    method = LServe(Budget(24), heads=1.0, window=8, page=4, subpage=2, reuse=4)
    key = torch.randn(2, 40, 16)
    selector, far = SubPages(method), store(key)
    selector.add(key)
    found = []
    for last in range(47, 55):
        assert selector.tokens_until_change(last, 40) == 4 - (last - 47) % 4
        choice = selector.plan(asked(torch.randn(4, 16), last, 40), far)
        assert choice is not None
        found.append(choice.ids)
    assert all(torch.equal(found[0], each) for each in found[:4])
    assert all(torch.equal(found[4], each) for each in found[4:])
    assert not torch.equal(found[0], found[4])
    assert far.tail is not None
    selector.extend(far.tail.slice(0, 2), far)
    assert selector.until == 0


@pytest.mark.parametrize("reuse", [3, 4, 7])
def test_where_no_choice_ends_a_draft_everything_is_read(reuse: int) -> None:
    """A choice may be for queries behind the window's next move, which read less of what is far."""
    key, whole, moves = torch.randn(2, 48, 16), 0, 48 + 16 + slack_of(16, selecting=True)
    for budget in range(56, 200, 3):
        method = LServe(Budget(budget), heads=1.0, window=16, page=4, subpage=2, reuse=reuse)
        selector, far = SubPages(method), store(key)
        selector.add(key)
        for length in range(48 + 16, moves):
            if selector.tokens_until_change(length, 48) is None:
                whole += 1
                for last in range(length, moves):
                    selector.until = 0
                    assert selector.plan(asked(torch.randn(4, 16), last, 48), far) is None
    assert whole


def test_only_retrieval_heads_choose() -> None:
    model = tiny("llama")
    calibration.save(KIND, model, {"gates": [[0.9, 0.1], [0.0, 0.3]]})
    method = LServe(Budget(24), sinks=2, recent=8, window=8, page=4, subpage=2)
    sequence = Sequence(model, resolve([method], model))
    prefill(sequence, tokens(80), 32)
    sequence.end_prefill()
    for layer in (0, 1):
        chooses, streams = sequence.head_groups(layer)
        assert isinstance(chooses.selector, SubPages) and streams.selector is None
        assert chooses.kept() == 80 and streams.kept() == 9
        assert chooses.selector.low is not None and chooses.selector.low.shape[0] == 1
    assert bool(teacher_force(sequence, tokens(20, seed=1), 1).isfinite().all())


@pytest.mark.parametrize("options, why", [
    ({"page": 64, "subpage": 24}, "divides 64"), ({"budget": 100}, "budget=334"),
    ({"budget": "10KB"}, "10KB"),
])  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options: dict, why: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(RecipeError, match=why):
        LServe(**options)
