"""Budgets of retentions: shares are of the prompt, capacities are floors, refusals come first."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F

import lengthwise
from lengthwise.api.model import Model
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.retention.h2o import H2O
from lengthwise.methods.retention.pyramidkv import PyramidKV, pyramid
from lengthwise.methods.retention.razor import Razor
from lengthwise.methods.retention.sirllm import SirLLM
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.methods.retention.votes import pool
from lengthwise.recipes import parse
from lengthwise.recipes.registry import methods
from lengthwise.testing.tiny import tiny_model, tokens

IDS = torch.randint(3, 120, (400,), generator=torch.Generator().manual_seed(5)).tolist()
# 50 KB are about 100 tokens of the tiny llama.
BUDGETED = [
    f"{name}(budget={budget}{more})"
    for name, more in (
        ("sirllm", ", floor=8"), ("h2o", ", floor=8"),
        ("snapkv", ", window=8, floor=8"), ("pyramidkv", ", floor=8"), ("tova", ", floor=8"),
        ("adakv", ", window=8, floor=8"), ("expected_attention", ", floor=8, adaptive=true"),
        ("snapkv", ", window=8, floor=8"), ("pyramidkv", ", floor=8"),
        ("kvzip", ", instruct=false, floor=8"), ("ems", ", window=8, floor=8"),
    )
    for budget in ("25%", "100", "50KB")
]  # fmt: skip
EVERY = [*BUDGETED, "streaming(window=60)", "razor(buffer=40, heads=0.5)"]
SHARES = ["sirllm(budget=25%)", "h2o(budget=25%)", "snapkv(budget=25%)", "pyramidkv(budget=25%)"]


@cache
def llama() -> Model:
    return lengthwise.wrap(tiny_model("llama", max_position_embeddings=4096))


@cache
def gemma() -> Model:
    return lengthwise.wrap(tiny_model("gemma3_text"))


def kept(sequence: Sequence) -> list[torch.Tensor]:
    return [
        torch.cat([group.near.index(), group.far.index()], 1)
        if len(group.near) and len(group.far) and group.near.index().shape[0] == 1
        else group.compressible.index()
        for _, group in sequence.groups()
    ]


def said(model: Model, recipe: str, count: int) -> list[int]:
    return model.generate(IDS, recipe, max_new_tokens=count, stop_ids=[]).token_ids


@pytest.mark.parametrize("recipe", EVERY)
def test_the_text_does_not_depend_on_how_much_may_be_written(recipe: str) -> None:
    longest = said(llama(), recipe, 64)
    for count in (1, 4, 8):
        assert said(llama(), recipe, count) == longest[:count]


@pytest.mark.parametrize("recipe", ["sirllm(budget=25%)", "h2o(budget=25%)"])
def test_nor_on_a_very_large_number(recipe: str) -> None:
    assert said(llama(), recipe, 1200)[:8] == said(llama(), recipe, 8)


@pytest.mark.parametrize("recipe", EVERY)
def test_what_is_kept_does_not_depend_on_the_expected_length(recipe: str) -> None:
    found = []
    for expected in (0, 401, 1600):
        sequence = Sequence(llama().adapted, llama().plan(recipe), expected=expected)
        prefill(sequence, IDS, 64)
        sequence.end_prefill()
        teacher_force(sequence, tokens(20, seed=1))
        assert sequence.dropped()
        found.append(kept(sequence))
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("recipe", EVERY)
def test_score_agrees_with_what_was_generated(recipe: str) -> None:
    model, new = llama(), said(llama(), recipe, 12)
    scores = model.score(IDS + new, recipe, prompt=len(IDS))
    more = model.score(IDS + new + tokens(80, seed=2), recipe, prompt=len(IDS))[: len(new)]
    torch.testing.assert_close(scores, more, rtol=0, atol=1e-4)
    sequence = Sequence(model.adapted, model.plan(recipe))
    prefill(sequence, IDS)
    sequence.end_prefill()
    logits = torch.log_softmax(teacher_force(sequence, new), -1)
    assert logits.argmax(-1).tolist() == new
    torch.testing.assert_close(scores, logits.max(-1).values, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", [SirLLM, H2O, SnapKV, PyramidKV])
def test_a_share_is_one_of_the_prompt(method: type[SirLLM | H2O | SnapKV | PyramidKV]) -> None:
    model = llama()
    share = method(budget=Budget(25, "%"), floor=0)
    count = method(budget=Budget(100), floor=0)
    if isinstance(share, SnapKV):
        share, count = SnapKV(share.budget, 8, floor=0), SnapKV(count.budget, 8, floor=0)
    rows = []
    for each in (share, count):
        sequence = Sequence(model.adapted, model.plan((each,)))
        prefill(sequence, IDS, 64)
        sequence.end_prefill()
        rows.append(kept(sequence))
    assert all(torch.equal(a, b) for a, b in zip(*rows, strict=True))


@pytest.mark.parametrize(
    "recipe", ["snapkv", "pyramidkv", "h2o", "sirllm", "razor", "streaming", *SHARES]
)
@pytest.mark.parametrize("length", [1, 40, 128])
def test_a_short_prompt_is_left_whole(recipe: str, length: int) -> None:
    found = llama().generate(IDS[:length], recipe, max_new_tokens=4, stop_ids=[])
    full = llama().generate(IDS[:length], max_new_tokens=4, stop_ids=[])
    if length == 128 and recipe in ("h2o", "h2o(budget=25%)"):
        # Its budget holds while decoding too.
        assert found.token_ids[0] == full.token_ids[0]
        return
    assert found.token_ids == full.token_ids
    assert any("nothing was dropped" in note for note in found.metrics.notes)


@pytest.mark.parametrize("recipe", SHARES)
def test_a_share_is_worth_its_floor_and_no_more(recipe: str) -> None:
    plan, adapted = llama().plan(recipe), llama().adapted
    held = {}
    for length in (200, 400, 1000):
        sequence = Sequence(adapted, plan)
        prefill(sequence, tokens(length), 64)
        sequence.end_prefill()
        assert sequence.dropped()
        held[length] = max(group.kept() for _, group in sequence.groups())
    mean = 1000 / 4
    # What h2o notes beside an entry is paid for too.
    assert 110 <= held[200] < 200
    assert held[1000] <= (2 * mean if recipe.startswith("pyramid") else mean)


def test_nothing_is_said_where_something_was_dropped() -> None:
    for recipe in (*EVERY, "full"):
        notes = llama().generate(IDS, recipe, max_new_tokens=4, stop_ids=[]).metrics.notes
        assert not any("dropped" in note for note in notes)


def test_a_capacity_above_the_length_is_full_attention() -> None:
    for recipe in ("snapkv(budget=1024)", "pyramidkv(budget=401)", "h2o(budget=2048)",
                   "sirllm(budget=1024)", "snapkv(budget=5MB)"):  # fmt: skip
        assert said(llama(), recipe, 6) == said(llama(), "full", 6)


def test_a_short_question_gets_the_answer_of_full_attention() -> None:
    question = "What is the capital of France? Answer in one word."
    with lengthwise.load() as model:
        chat = [{"role": "user", "content": question}]
        full = model.generate(chat, max_new_tokens=8).text
        assert "Paris" in full
        for recipe in ("snapkv", "pyramidkv", "h2o", "sirllm", *SHARES):
            found = model.generate(chat, recipe, max_new_tokens=8)
            assert found.text == full, recipe
            assert any("nothing was dropped" in note for note in found.metrics.notes)


# Refusals.


@pytest.mark.parametrize("name", ["snapkv", "pyramidkv", "h2o", "sirllm"])
def test_a_row_that_cannot_be_served_leaves_the_others_alone(name: str) -> None:
    model = gemma()
    own = [layer for layer in model.adapted.layers if layer.window is not None]
    # The model's own windows, once they are full, leave no byte for the other layers.
    taken = sum(4 * layer.entry_numbers * layer.window for layer in own)
    recipe = f"{name}(budget={taken}B)"
    short, long = tokens(5), tokens(300)
    read: list[int] = []
    found = model.generate_batch(
        [long, short], recipe, max_new_tokens=2, stop_ids=[], progress=read.append
    )
    assert found[0].refused is not None and "own windows" in str(found[0].refused)
    assert found[0].token_ids == [] and found[0].metrics.finish_reason == "refused"
    assert sum(read) == len(short)
    alone = model.generate(short, recipe, max_new_tokens=2, stop_ids=[])
    assert found[1].token_ids == alone.token_ids and found[1].refused is None
    for call in (
        lambda: model.generate(long, recipe, progress=read.append),
        lambda: model.score(long, recipe),
        lambda: model.score(long, recipe, prompt=280),
    ):
        with pytest.raises(Refused, match="own windows"):
            call()
    assert sum(read) == len(short)


@pytest.mark.parametrize("name", ["snapkv", "pyramidkv"])
def test_a_window_that_takes_the_budget_is_refused_before_reading(name: str) -> None:
    recipe = f"self_extend(group=4, window=64) + {name}(budget=40, window=8)"
    read: list[int] = []
    with pytest.raises(Refused, match="keeps near"):
        llama().generate(IDS, recipe, progress=read.append)
    assert not read
    short = llama().generate(IDS[:40], recipe, max_new_tokens=1, stop_ids=[])
    assert any("nothing was dropped" in note for note in short.metrics.notes)
    # A share always pays for the window.
    shared = f"self_extend(group=4, window=64) + {name}(budget=1%, window=8)"
    assert llama().generate(IDS, shared, max_new_tokens=2, stop_ids=[]).token_ids


def test_a_budget_for_nothing_is_refused_before_reading() -> None:
    read: list[int] = []
    for recipe, words in (
        ("h2o(budget=2)", "do not pay"), ("snapkv(budget=10B)", "does not pay"),
        ("sirllm(budget=4)", "leaves none"), ("sirllm(budget=2KB)", "leaves none"),
        ("pyramidkv(budget=10B)", "does not pay"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=words):
            llama().generate(IDS, recipe, progress=read.append)
    assert not read


# The authors' settings.


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 31])
def test_votes_are_pooled_as_the_authors_do(kernel: int) -> None:
    votes = torch.rand(3, 40)
    padded = F.pad(votes, (kernel // 2, kernel // 2))
    # What F.avg_pool1d and F.max_pool1d do by default: zeros at the ends count in a mean.
    mean = padded.unfold(1, kernel, 1).mean(-1)
    torch.testing.assert_close(pool(votes, kernel, "avg"), mean)
    torch.testing.assert_close(
        pool(votes, kernel, "avg"), F.avg_pool1d(votes, kernel, 1, kernel // 2)
    )
    torch.testing.assert_close(pool(votes, kernel, "max"), padded.unfold(1, kernel, 1).amax(-1))


def test_defaults_are_the_papers() -> None:
    assert SnapKV() == SnapKV(Budget(2048), window=32, kernel=7, pooling="max")
    assert PyramidKV() == PyramidKV(Budget(512), window=8, kernel=7, pooling="max", beta=20)
    assert H2O() == H2O(Budget(20, "%"), recent=0.5)
    assert SirLLM() == SirLLM(Budget(1024), start=4, recent=0.0, decay=1.0)
    assert Streaming() == Streaming(sinks=4, window=1020)
    assert Razor() == Razor(heads=0.15, buffer=4000, share=0.2, sinks=4)


def test_best_known_settings_are_recipes_of_their_method() -> None:
    named = {name: cls.best_known for name, cls in methods().items() if cls.best_known}
    assert {"snapkv", "pyramidkv", "h2o", "razor"} <= set(named)
    for name, recipe in named.items():
        assert name in {method.name for method in parse(recipe).methods}


def test_a_prompt_below_twice_the_budget_is_cut_evenly() -> None:
    assert pyramid(100, 150, 8, 30, 20.0) == [100] * 30
    steep = pyramid(100, 400, 8, 30, 20.0)
    assert steep[0] > 180 and steep[-1] < 20


def test_sirllm_never_forgets_the_turn_under_way() -> None:
    model = llama()
    sequence = Sequence(model.adapted, model.plan("sirllm(budget=100, turn=32)"))
    prefill(sequence, IDS, 64)
    sequence.end_prefill()
    for token in tokens(60, seed=3):
        teacher_force(sequence, [token])
        index = sequence.layers[0].groups[0].near.index()[0]
        assert index[-32:].tolist() == list(range(len(sequence) - 32, len(sequence)))
