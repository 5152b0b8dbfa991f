"""Rows for torch: batches without padding, a transformers Trainer, and loaders that go on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorWithFlattening,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

from lengthwise.sequences.collate import PackedCollator
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.loader import SequenceRows, StatefulLoader
from lengthwise.sequences.store import Row, SequenceSet
from tests.sequence_runs import jsonl, run, some_texts


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SequenceSet]:
    place = tmp_path_factory.mktemp("sets")
    source = [jsonl(place / "a.jsonl", some_texts(80, 300))]
    return {
        "best-fit": run(source, place / "best-fit", "best-fit"),
        "decompose": run(source, place / "decompose", "decompose"),
        "utk": run(source, place / "utk", "utk", options={"untouched": "0", "backtrace": "true"}),
    }


def model(attention: str = "sdpa", vocabulary: int = 300) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, attn_implementation=attention,
    ))  # fmt: skip


def packed_rows(data: SequenceSet) -> list[Row]:
    """Those of the most pieces."""
    rows = [data.row(number) for number in range(data.buckets[0])]
    return sorted(rows, key=lambda row: len(row.lengths))[-4:]


def test_the_batch_is_what_transformers_makes_of_the_pieces(sets: dict[str, SequenceSet]) -> None:
    rows = packed_rows(sets["best-fit"])
    pieces = [p for row in rows for p in np.split(row.input_ids, np.cumsum(row.lengths)[:-1])]
    assert len(pieces) > len(rows)
    theirs = DataCollatorWithFlattening(return_flash_attn_kwargs=True)(
        [{"input_ids": piece.tolist()} for piece in pieces]
    )
    ours = PackedCollator()(rows)
    assert ours.keys() == {*theirs.keys(), "use_cache"}
    for name, value in theirs.items():
        assert torch.equal(torch.as_tensor(ours[name]), torch.as_tensor(value)), name
    assert ours["cu_seq_lens_q"].dtype == torch.int32 and isinstance(ours["max_length_q"], int)
    plain = PackedCollator(flash_attention=False)(rows)
    assert set(plain) == {"input_ids", "labels", "position_ids", "use_cache"}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_no_attention_and_no_loss_crosses_a_border(
    sets: dict[str, SequenceSet], attention: str
) -> None:
    rows = packed_rows(sets["best-fit"])
    network = model(attention).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        whole = network(**PackedCollator()(rows)).loss
        for row in rows:
            for piece in np.split(row.input_ids, np.cumsum(row.lengths)[:-1]):
                ids = torch.from_numpy(piece.astype(np.int64))[None]
                if len(piece) > 1:
                    total += network(input_ids=ids, labels=ids).loss.item() * (len(piece) - 1)
                    count += len(piece) - 1
    assert whole.item() == pytest.approx(total / count, rel=1e-5)


def test_what_a_method_leaves_out_of_the_loss_has_no_label(sets: dict[str, SequenceSet]) -> None:
    row = sets["utk"].row(0)
    assert row.loss_mask is not None and 0 < row.loss_mask.sum() < len(row.loss_mask)
    labels = PackedCollator()([row])["labels"][0].numpy()
    wanted = np.where(row.loss_mask == 1, row.input_ids, -100)
    wanted[0] = -100
    assert labels.tolist() == wanted.tolist()


def test_rows_that_lost_their_pieces_are_refused(sets: dict[str, SequenceSet]) -> None:
    row = sets["best-fit"].row(0)
    with pytest.raises(SequenceError, match="came with input_ids, .*remove_unused_columns=False"):
        PackedCollator()([{"input_ids": row.input_ids}])
    with pytest.raises(SequenceError, match="it was cut or padded on its way"):
        PackedCollator()([{"input_ids": row.input_ids[:-1], "lengths": row.lengths}])
    with pytest.raises(SequenceError, match="no rows"):
        PackedCollator()([])


def test_rows_by_number_are_those_of_all_buckets(sets: dict[str, SequenceSet]) -> None:
    data = sets["decompose"]
    rows = SequenceRows(data)
    sizes = [len(rows[number].input_ids) for number in range(len(rows))]
    assert {(size - 1).bit_length() - 1: sizes.count(size) for size in sizes} == data.buckets
    assert rows[-1].input_ids.tolist() == rows[len(rows) - 1].input_ids.tolist()
    with pytest.raises(IndexError):
        rows[len(rows)]


def arguments(place: Path, **other: Any) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(place), max_steps=3, report_to=[], use_cpu=True, save_strategy="no",
        logging_steps=1, disable_tqdm=True, remove_unused_columns=False, **other,
    )  # fmt: skip


@pytest.mark.parametrize("reader", ["rows", "datasets"])
def test_a_trainer_of_transformers_takes_steps(
    sets: dict[str, SequenceSet], tmp_path: Path, reader: str
) -> None:
    rows: Any = SequenceRows(sets["best-fit"])
    if reader == "datasets":
        datasets = pytest.importorskip("datasets")
        shards = [str(p) for p in sets["best-fit"].folder.glob("*.parquet")]
        rows = datasets.load_dataset("parquet", data_files=shards, cache_dir=str(tmp_path))["train"]
    trainer = Trainer(
        model(), arguments(tmp_path, per_device_train_batch_size=4, learning_rate=1e-2),
        train_dataset=rows, data_collator=PackedCollator(),
    )  # fmt: skip
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3 and losses[2] < losses[0]


def test_a_trainer_reads_the_steps_of_a_curriculum(
    sets: dict[str, SequenceSet], tmp_path: Path
) -> None:
    seen: list[int] = []

    class Ours(Trainer):
        def get_train_dataloader(self) -> Any:
            def collate(rows: list[Row]) -> dict[str, Any]:
                seen.append(sum(len(row.input_ids) - 1 for row in rows))
                return PackedCollator()(rows)

            return StatefulLoader(sets["decompose"], 256, collate=collate)

    trainer = Ours(model(), arguments(tmp_path))
    trainer.train()
    assert trainer.state.global_step == 3 and set(seen) == {256}


def rows_of(batches: list[dict[str, Any]]) -> list[list[int]]:
    return [batch["input_ids"][0].tolist() for batch in batches]


def test_an_iteration_that_was_left_for_a_later_one_counts_no_more(
    sets: dict[str, SequenceSet],
) -> None:
    loader = StatefulLoader(sets["decompose"], 256, cycles=2)
    left = iter(loader)
    next(left)
    batches = iter(loader)
    second = rows_of([next(batches)])
    with pytest.raises(SequenceError, match="left for a later one"):
        next(left)
    assert loader.state_dict()["step"] == 2
    third = rows_of([next(batches)])
    resumed = StatefulLoader(sets["decompose"], 256, cycles=2)
    assert rows_of(list(resumed))[1:3] == [*second, *third]


@pytest.mark.parametrize("method", ["decompose", "best-fit", "utk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_was_stopped_gives_the_same_rows(
    sets: dict[str, SequenceSet], method: str, workers: int
) -> None:
    if workers and method != "decompose":
        pytest.skip("workers take their time to start")

    def loader(**other: Any) -> StatefulLoader:
        return StatefulLoader(sets[method], 256, seed=3, cycles=2, **other)

    whole, first = [], loader()
    for _ in range(2):
        whole += rows_of(list(first))
    assert len(whole) == 2 * len(first) and first.state_dict()["epoch"] == 2
    assert sorted(map(tuple, whole[: len(first)])) != sorted(map(tuple, whole[len(first) :]))
    chance = random.Random(0)
    stops = {1, len(first) - 1, len(first), chance.randrange(2, len(whole))}
    for stop in stops if not workers else {3}:
        stopped, taken = loader(num_workers=workers), 0
        for _ in range(2):
            for _ in stopped:
                taken += 1
                if taken == stop:
                    break
            if taken == stop:
                break
        state = json.loads(json.dumps(stopped.state_dict()))
        resumed = loader(num_workers=workers)
        resumed.load_state_dict(state)
        rest = rows_of(list(resumed))
        assert rest == whole[stop : stop + len(rest)] and rest


def test_ranks_read_the_rows_of_one_step_between_them_and_their_number_may_change(
    sets: dict[str, SequenceSet],
) -> None:
    data = sets["decompose"]

    def collate(rows: list[Row]) -> list[tuple[int, ...]]:
        return [tuple(row.input_ids.tolist()) for row in rows]

    whole = list(StatefulLoader(data, 256, collate=collate))
    ranks = [iter(StatefulLoader(data, 256, collate=collate, rank=r, world=2)) for r in range(2)]
    for step in whole[:5]:
        assert sorted(step) == sorted(row for each in ranks for row in next(each))
    state = StatefulLoader(data, 256, rank=1, world=2).state_dict()
    StatefulLoader(data, 256).load_state_dict(state | {"step": 5})
    with pytest.raises(SequenceError, match="divide among 512 ranks"):
        StatefulLoader(data, 256, world=512)


def test_a_state_of_something_else_is_refused(sets: dict[str, SequenceSet]) -> None:
    state = StatefulLoader(sets["decompose"], 256).state_dict()
    for other, said in (
        (StatefulLoader(sets["best-fit"], 256), "the state is of data="),
        (StatefulLoader(sets["decompose"], 512), "tokens_per_step=256, and this loader has"),
        (StatefulLoader(sets["decompose"], 256, seed=1), "seed=0"),
        (StatefulLoader(sets["decompose"], 256, curriculum="uniform"), "curriculum='grow-p2'"),
    ):
        with pytest.raises(SequenceError, match=said):
            other.load_state_dict(state)
    loader = StatefulLoader(sets["decompose"], 256)
    with pytest.raises(SequenceError, match="it lacks 'curriculum'"):
        loader.load_state_dict({"epoch": 0, "step": 0})
    with pytest.raises(SequenceError, match="no step 100000"):
        loader.load_state_dict(state | {"step": 100_000})


def test_a_plain_dataloader_takes_the_rows_and_the_collator(sets: dict[str, SequenceSet]) -> None:
    batches = list(DataLoader(SequenceRows(sets["utk"]), 4, collate_fn=PackedCollator()))
    assert sum(batch["input_ids"].numel() for batch in batches) == sets["utk"].manifest["tokens"]
