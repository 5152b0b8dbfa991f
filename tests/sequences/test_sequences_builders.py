"""Each builder against the plain words of its paper, and the pieces that all of them rest on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from lengthwise._utils.counter_rng import Bijection
from lengthwise._utils.progress import Progress
from lengthwise.sequences.builders.best_fit import BestFit, cut
from lengthwise.sequences.builders.concat import Concat, ConcatMasked
from lengthwise.sequences.builders.decompose import Decompose
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.orders import by_repository
from lengthwise.sequences.records import Fields
from lengthwise.sequences.rows import Built, Documents, Rows
from lengthwise.sequences.shards import write_part
from lengthwise.sequences.token_store import TokenStore, ranges
from lengthwise.sequences.tokenise import tokenise

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=40)


def documents(lengths: list[int]) -> Documents:
    """Documents with a gap of 7 tokens between them, so that no stretch may run over an end."""
    sizes = np.array(lengths)
    return Documents(np.arange(len(sizes)), np.cumsum(sizes + 7) - sizes, sizes)


def covered(built: Built) -> np.ndarray:
    """All token places that rows hold, sorted."""
    places = [ranges(rows.starts, rows.lengths) for rows in built.rows.values()]
    return np.sort(np.concatenate(places))


def greedy_by_hand(tokens: int, longest: int, shortest: int) -> list[int]:
    """The card's words: k = floor(log2(n - 1)), capped; cut 2^k + 1; stop below the shortest."""
    found = []
    while tokens > 1 and (k := min((tokens - 1).bit_length() - 1, longest)) >= shortest:
        found.append(k)
        tokens -= 2**k + 1
    return found


@settings(max_examples=60, deadline=None)
@given(LENGTHS)
def test_decompose_greedy_is_the_loop_of_the_paper(lengths: list[int]) -> None:
    built = Decompose(max_length=64, min_length=4, long="greedy").build(documents(lengths), 0)
    wanted = Counter(k for n in lengths for k in greedy_by_hand(n, 6, 2))
    assert {k: len(rows) for k, rows in built.rows.items() if len(rows)} == wanted
    assert all((rows.lengths == 2**k + 1).all() for k, rows in built.rows.items())


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.sampled_from(["draw", "greedy"]))
def test_decompose_holds_each_token_once_and_drops_only_short_ends(
    lengths: list[int], long: str
) -> None:
    given_documents = documents(lengths)
    built = Decompose(max_length=64, min_length=4, long=long).build(given_documents, 0)
    places = covered(built)
    whole = ranges(given_documents.starts, given_documents.lengths)
    assert len(np.unique(places)) == len(places)
    assert np.isin(places, whole).all()
    assert len(whole) - len(places) == sum(built.dropped.values())
    dropped = np.setdiff1d(whole, places)
    owner = np.searchsorted(given_documents.starts, dropped, side="right")
    assert max(np.bincount(owner), default=0) <= 4


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.sampled_from(["draw", "greedy"]))
def test_decompose_that_drops_beginnings_has_the_same_pieces_and_all_the_ends(
    lengths: list[int], long: str
) -> None:
    given_documents = documents(lengths)
    paper, ours = (
        Decompose(max_length=64, min_length=4, long=long, drop=drop).build(given_documents, 0)
        for drop in ("end", "start")
    )
    assert {k: len(rows) for k, rows in paper.rows.items()} == {
        k: len(rows) for k, rows in ours.rows.items()
    }
    ends = given_documents.starts + given_documents.lengths - 1
    for built in (paper, ours):
        places = covered(built)
        assert len(np.unique(places)) == len(places)
        whole = ranges(given_documents.starts, given_documents.lengths)
        assert np.isin(places, whole).all()
        assert len(whole) - len(places) == sum(built.dropped.values())
        kept = int(np.isin(ends, places).sum())
        assert kept == built.figures["ends_kept"]
        lost = built.figures["ends_cut"] + built.figures["documents_without_row"]
        assert kept + lost == len(lengths)
    assert not ours.figures["ends_cut"]
    assert paper.figures["documents_without_row"] == sum(n < 5 for n in lengths)


def test_a_long_document_gives_every_bucket_the_same_tokens_on_average() -> None:
    built = Decompose(max_length=256, min_length=8).build(documents([4_000_000]), 0)
    inputs = {k: len(rows) << k for k, rows in built.rows.items()}
    mean = np.mean(list(inputs.values()))
    assert all(abs(count / mean - 1) < 0.1 for count in inputs.values())


def test_how_a_document_is_cut_does_not_depend_on_its_company() -> None:
    method = Decompose(max_length=64, min_length=4)
    alone = documents([5000])
    both = Documents(np.array([3, 0]), np.array([9000, alone.starts[0]]), np.array([77, 5000]))
    for k, rows in method.build(alone, 0).rows.items():
        mine = [s for s in method.build(both, 5).rows[k].starts if s < 9000]
        assert rows.starts.tolist() == mine


@settings(max_examples=40, deadline=None)
@given(LENGTHS)
def test_best_fit_cuts_only_what_is_longer_than_a_row(lengths: list[int]) -> None:
    given_documents = documents(lengths)
    built = BestFit(max_length=64).build(given_documents, 0)
    whole = ranges(given_documents.starts, given_documents.lengths)
    assert covered(built).tolist() == whole.tolist()
    assert built.rows[0].sizes().max() <= 64
    starts, _ = cut(given_documents, 64)
    assert len(starts) == sum(-(-n // 64) for n in lengths)
    assert not built.dropped


def test_best_fit_pads_less_than_one_percent() -> None:
    lengths = np.random.default_rng(0).lognormal(6, 1, 20_000).astype(int) + 1
    built = BestFit(max_length=8192).build(documents(lengths.tolist()), 0)
    share = built.figures["padding"] / (lengths.sum() + built.figures["padding"])
    assert share < 0.01


@settings(max_examples=40, deadline=None)
@given(LENGTHS)
def test_concat_cuts_the_stream_and_the_mask_knows_where_documents_meet(lengths: list[int]) -> None:
    given_documents = documents(lengths)
    stream = ranges(given_documents.starts, given_documents.lengths)
    count = len(stream) // 64
    for method in (Concat(max_length=64), ConcatMasked(max_length=64)):
        rows = method.build(given_documents, 0).rows[0]
        assert ranges(rows.starts, rows.lengths).tolist() == stream[: 64 * count].tolist()
        assert rows.sizes().tolist() == [64] * count
    pieces, _ = rows.pieces()
    ends = set(np.cumsum(pieces).tolist())
    borders = {*np.cumsum(lengths).tolist(), *range(64, len(stream) + 1, 64)}
    assert ends == {border for border in borders if border <= 64 * count}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(1, 3000))
def test_a_shuffle_is_a_permutation_and_any_stretch_of_it_can_be_had_alone(
    key: int, count: int
) -> None:
    send = Bijection(key, count)
    whole = send(np.arange(count))
    assert np.sort(whole).tolist() == list(range(count))
    assert send(np.arange(count // 2, count)).tolist() == whole[count // 2 :].tolist()


def test_a_shuffle_sends_every_number_everywhere_alike() -> None:
    counts = np.zeros((6, 6))
    for key in range(3000):
        counts[np.arange(6), Bijection(key * 0x9E3779B97F4A7C15 % 2**64, 6)(np.arange(6))] += 1
    assert abs(counts / 500 - 1).max() < 0.25


def some_store(place: Path, documents: int) -> TokenStore:
    rows = [{"text": chr(97 + n % 26) * (1 + n * 37 % 90), "repo": f"r{n * 7 % 5}"}
            for n in range(documents)]  # fmt: skip
    (place / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = Sources((str(place / "a.jsonl"),), Fields(repository="repo"))
    tokenise(sources, ByteEncoder(), place / "tokens", "key", Progress(), 1 << 10)
    return TokenStore(place / "tokens")


def test_by_repository_keeps_each_repository_together_in_its_own_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.sequences.orders.STRETCH", 7)
    store = some_store(tmp_path, 40)
    order = by_repository(store, 1, tmp_path / "order.bin").documents(0, 40)
    owners = store.repositories(order)
    assert sorted(order.tolist()) == list(range(40))
    assert (np.diff(owners) != 0).sum() == 4
    assert all((np.diff(order[owners == owner]) > 0).all() for owner in range(5))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 39), max_size=30))
def test_gathering_gives_the_stretches_in_the_order_asked(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[int]
) -> None:
    store = some_store(tmp_path_factory.mktemp("gather"), 40)
    starts, lengths = store.spans(np.array(wanted, np.int64))
    mapped = store.mapped()
    each = [mapped[s : s + n] for s, n in zip(starts, lengths, strict=True)]
    assert store.gather(starts, lengths).tolist() == [int(i) for part in each for i in part]


def test_an_index_too_big_for_the_memory_is_read_piece_by_piece(tmp_path: Path) -> None:
    held = some_store(tmp_path, 40)
    read = TokenStore(tmp_path / "tokens", in_memory=0)
    numbers = np.random.default_rng(0).permutation(40)
    for one, other in zip(held.spans(numbers), read.spans(numbers), strict=True):
        assert one.tolist() == other.tolist()
    assert held.repositories(numbers).tolist() == read.repositories(numbers).tolist()


def test_tokens_that_no_document_has_stand_where_a_builder_puts_them(tmp_path: Path) -> None:
    store = some_store(tmp_path, 3)
    starts, lengths = store.spans(np.arange(3))
    rows = Rows(
        starts=np.array([starts[2], -1 - 300, starts[0]]),
        lengths=np.array([lengths[2], 1, lengths[0]]),
        row_ends=np.array([0, 3]),
        opens=np.array([True, False, True]),
        counted=np.array([True, False, True]),
    )
    text = store.mapped()[starts[2] :].tolist()
    wanted = [*text, 300, *store.mapped()[: lengths[0]].tolist()]
    shards = write_part(tmp_path, 0, Built({0: rows}), store, seed=1)
    read = pq.read_table(tmp_path / shards[0]["file"]).to_pylist()
    assert read[0]["input_ids"] == wanted
    assert read[0]["lengths"] == [len(text) + 1, lengths[0]]
    assert read[0]["loss_mask"] == [1] * len(text) + [0] + [1] * int(lengths[0])
