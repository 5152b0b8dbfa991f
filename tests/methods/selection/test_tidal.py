"""TidalDecode: who chooses and who reads, the best layer to choose again, and cache correction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine import rereading
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.plan import FULL
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import Refused
from lengthwise.methods import calibration
from lengthwise.methods.selection import recall
from lengthwise.methods.selection.reading import far_keys
from lengthwise.methods.selection.recall import best_layer, measure_recall, top_mask
from lengthwise.methods.selection.tidal import SharedTokens, Tidal
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens
from tests.methods.selection.selection_runs import LENGTH, feed, plan_of, read_all, read_on

SMALL = Tidal(budget=24, window=8, dense=1, reselect=0)


@pytest.fixture(scope="module")
def deep() -> AdaptedModel:
    return adapt(tiny_model("llama", num_hidden_layers=6, initializer_range=0.15))


def chosen(model: AdaptedModel, method: Tidal, monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """By layer, of one decoding step: the queries, the far keys, what the notes held then, and what
    the layer reads."""
    found: dict[int, Any] = {}
    plan = SharedTokens.plan

    def watched(self: SharedTokens, queries: Queries, far: KVStore) -> SelectedKeys | None:
        choice = plan(self, queries, far)
        found[self.layer.index] = (queries, far_keys(far).clone(), dict(queries.notes), choice)
        return choice

    sequence = Sequence(model, plan_of(method, model))
    prefill(sequence, tokens(LENGTH))
    sequence.end_prefill()
    monkeypatch.setattr(SharedTokens, "plan", watched)
    feed(sequence, [5])
    return found


def test_layers_between_read_what_the_last_selection_layer_chose(
    deep: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = chosen(deep, Tidal(budget=24, window=8, dense=1, reselect=3), monkeypatch)
    assert sorted(found) == [1, 2, 3, 4, 5], "the first layer has no selector"
    top = {}
    for layer in (1, 3):
        queries, key, _, choice = found[layer]
        assert choice is None, "a selection layer reads everything"
        each = queries.far.shape[0] // key.shape[0]
        logits = (queries.far @ key.repeat_interleave(each, 0).mT)[:, 0]
        # 24 in all, of which the window holds nine.
        top[layer] = logits.topk(24 - 9 - (queries.boundary - len(key[0]))).indices.sort(-1).values
    for layer, source in ((2, 1), (4, 3), (5, 3)):
        assert torch.equal(found[layer][3].ids, top[source])
    assert not torch.equal(top[1], top[3])


def test_votes_of_all_heads_are_one_set(
    deep: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Tidal(budget=24, window=8, dense=1, reselect=0, votes="all")
    found = chosen(deep, method, monkeypatch)
    queries, key, _, _ = found[1]
    each = queries.far.shape[0] // key.shape[0]
    logits = (queries.far @ key.repeat_interleave(each, 0).mT)[:, 0] * deep.layers[1].scaling
    ids = found[4][3].ids
    assert torch.equal(ids, logits.softmax(-1).sum(0).topk(len(ids)).indices.sort().values)


def test_nodes_of_a_tree_choose_apart(deep: AdaptedModel) -> None:
    """Notes are those of one query, also where two stand at the same depth."""
    sequence = Sequence(deep, plan_of(SMALL, deep))
    prefill(sequence, tokens(63))
    sequence.end_prefill()
    tree = Tree(7)
    tree.add(0, 11, "x")
    tree.add(0, 23, "x")
    (logits,), _ = extend([(sequence, tree.tokens, tree)], "all")
    for node, token in ((1, 11), (2, 23)):
        plain = sequence.fork()
        plain.discard()
        alone = read_on(plain, [7, token])
        assert float((logits[node] - alone[1]).abs().max()) < 1e-4


# The layer that selects again.


def test_recall_is_the_share_of_top_keys_that_layers_have_in_common() -> None:
    model = tiny("llama")
    ids = tokens(60)
    found = measure_recall(model, ids)
    count, queries = found["chosen"], 15
    assert count == (60 - queries) // 8 and found["layers"] == [0, 1]
    sequence = Sequence(model, remember=queries)
    prefill(sequence, ids)
    sets: list[list[set[int]]] = []
    for layer in sequence.layers:
        asked, tail = layer.last_queries(), layer.groups[0].near.tail
        rows = []
        for head in range(asked.shape[0]):
            for row in range(queries):
                seen = tail.key[head // 2, : 60 - queries + row + 1]
                rows.append(set((seen @ asked[head, row]).topk(count).indices.tolist()))
        sets.append(rows)
    shared = sum(len(a & b) for a, b in zip(*sets, strict=True)) / (len(sets[0]) * count)
    assert found["recall"][0][1] == pytest.approx(shared, abs=1e-3)
    assert found["recall"][0][0] == found["recall"][1][1] == 1.0


def test_no_query_chooses_a_later_key() -> None:
    query, key = torch.randn(4, 5, 8), torch.randn(2, 9, 8)
    mask = top_mask(query, key, 3)
    assert mask.sum(-1).eq(3).all()
    for row in range(5):
        assert not mask[:, row, 9 - 5 + row + 1 :].any()


def test_the_layer_of_the_best_recall_selects_again() -> None:
    like = [
        [1.0, 0.9, 0.2, 0.1],
        [0.9, 1.0, 0.2, 0.1],
        [0.2, 0.2, 1.0, 0.8],
        [0.1, 0.1, 0.8, 1.0],
    ]
    found = {"layers": [2, 3, 7, 9], "recall": like}
    # Behind layer 2, layer 3 reads its 0.9; layer 7 then gives 0.8 to layer 9.
    assert best_layer(found, 2) == 7
    assert best_layer(found, 3) == 7
    assert best_layer(found, 7) is None, "nothing follows the last one"


def test_the_search_is_made_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    model = adapt(tiny_model("llama", num_hidden_layers=5, seed=3))
    resolve("tidal(dense=1)", model)
    assert "tidal" in capsys.readouterr().err
    stored = calibration.find("tidal", model)
    assert stored is not None
    start = Tidal(dense=1).selectors(model)
    assert start(model.layers[1]).method.reselect == best_layer(stored, 1)
    resolve("tidal(dense=1)", model)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(calibration, "SMALL", 0)
    other = adapt(tiny_model("llama", num_hidden_layers=5, seed=4))
    with pytest.raises(Refused, match="lengthwise calibrate tidal"):
        resolve("tidal(dense=1)", other)
    resolve("tidal(dense=1, reselect=3)", other)
    monkeypatch.setattr(recall, "measure_recall", lambda model: pytest.fail("nothing to choose"))
    resolve("tidal(dense=3)", other)


# Cache correction.


def corrected(model: AdaptedModel, every: int) -> Sequence:
    sequence = Sequence(
        model, resolve([Tidal(budget=24, window=8, dense=0, reselect=0, correct=every)], model)
    )
    prefill(sequence, tokens(60), 16)
    sequence.end_prefill()
    return sequence


@pytest.mark.parametrize(("every", "chunk"), [(12, 1024), (1, 1024), (12, 11)])
def test_entries_are_those_of_full_attention_after_a_correction(
    deep: AdaptedModel, monkeypatch: pytest.MonkeyPatch, every: int, chunk: int
) -> None:
    """Also where one token alone is read again, or the last piece is one."""
    monkeypatch.setattr(rereading, "chunk_of", lambda device, scores: chunk)
    full = Sequence(deep, FULL)
    text = tokens(61 + 12)
    prefill(full, tokens(60) + text[:12])
    sequence, plain = corrected(deep, every), corrected(deep, 99)
    for each in (sequence, plain):
        read_on(each, text[:12])
    assert len(sequence) == len(full) == 72

    def entries(of: Sequence) -> list[Tensor]:
        return [
            torch.cat([s.read().key for s in (g.far, g.near) if s.read() is not None], 1)
            for _, g in of.groups()
        ]

    for mine, theirs, without in zip(*map(entries, (sequence, full, plain)), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)
        if without is not entries(plain)[0]:
            last = float((without - theirs).abs().max())
    assert last > 1e-3, "without correction they differ"
    # Windows stand where they stood, and what follows finds them.
    for (_, mine), (_, theirs) in zip(sequence.groups(), plain.groups(), strict=True):
        assert mine.near_start == theirs.near_start
        assert torch.equal(mine.near.index(), theirs.near.index())
        assert torch.equal(mine.far.index(), theirs.far.index())


def test_corrections_come_at_lengths_alone(deep: AdaptedModel) -> None:
    text = tokens(30, seed=8)
    sequence = corrected(deep, 8)
    rooms = []
    for token in text:
        rooms.append(sequence.renewal.tokens_until_change(sequence))
        feed(sequence, [token])
    assert rooms[:10] == [8, 7, 6, 5, 4, 3, 2, 1, 8, 7]
    drafted = corrected(deep, 8)
    one = corrected(deep, 8)
    found, at, longest = [], 0, 0
    while at < 24:
        part = text[at : at + min(4, drafted.tokens_until_change() or 4)]
        chain = Tree(part[0])
        chain.add_chain([(t + 1) % 60 + 3 for t in part[1:]])
        chain.add_chain(part[1:])
        (logits,), (block,) = extend([(drafted, chain.tokens, chain)], "all")
        accepted = [0, *range(len(part), 2 * len(part) - 1)]
        found.append(logits[accepted])
        drafted.commit(block, part, accepted)
        at, longest = at + len(part), max(longest, len(part))
    assert longest > 1
    assert float((torch.cat(found) - read_on(one, text[:at])).abs().max()) < 1e-4


def test_a_fork_is_corrected_apart(deep: AdaptedModel) -> None:
    text = tokens(12, seed=8)
    sequence = corrected(deep, 8)
    fork = sequence.fork()
    read_on(fork, tokens(10, seed=1))
    assert torch.equal(read_on(sequence, text), read_on(corrected(deep, 8), text))


# What is refused.


@pytest.mark.parametrize(
    ("recipe", "family", "words"),
    [
        ("tidal(dense=9)", "llama", "no layer of this 'llama' model is left"),
        ("tidal(dense=0, reselect=7)", "llama", "layers 1 to 1 may select again"),
        ("tidal(dense=1, reselect=1)", "llama", "no other layer may select again"),
        ("tidal(dense=0, correct=8)", "gemma3_text", "have let go of what was before"),
        ("tidal(dense=0, correct=8) + kivi", "llama", "encodes them"),
        ("tidal(dense=0, correct=8) + self_extend", "llama", "decides where they stand"),
    ],
)
def test_what_cannot_be_is_refused(recipe: str, family: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        resolve(recipe, tiny(family))
    assert "tidal" in str(refused.value)


def test_a_correction_is_none_of_an_encoded_recipe_without_it() -> None:
    plan = resolve("tidal(dense=0) + kivi", tiny("llama"))
    assert plan.renewal is None


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "deepseek_v3"])
def test_a_budget_for_everything_equals_full(family: str) -> None:
    model = tiny(family)
    found = read_all(model, plan_of(Tidal.identity(LENGTH), model), tokens(LENGTH), 16, 8)
    full = read_all(model, FULL, tokens(LENGTH), LENGTH, 0)
    assert float((found - full).abs().max()) < 1e-4
