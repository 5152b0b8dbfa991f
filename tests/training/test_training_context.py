"""Ranks that share rows train the model that one rank alone does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lengthwise.sequences.store import Row
from lengthwise.training.config import TrainingError, read_config
from lengthwise.training.data import IGNORED, Feed, Work, make_batch
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import LLAMA, Watching, build_sets, config, log_of

# One key head, which two ranks both need; documents packed in two parts; layers that are stacked.
QWEN: dict[str, Any] = {
    "model": LLAMA | {"family": "qwen3", "head_dim": 8, "num_key_value_heads": 1},
    "accumulate": 2, "growth": {"at_step": 3, "factor": 2, "optimizer": "copied"},
    "evaluation": {"every": 3},
}  # fmt: skip
WINDOW = {"model": LLAMA | {"family": "mistral", "sliding_window": 9}, "steps": 2}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "decompose": ("decompose", {}),
    "best-fit": ("best-fit", QWEN),
    "window": ("best-fit", WINDOW),
}
REFUSED: dict[str, dict[str, Any]] = {
    # Its attention is its own, and that of the other has convolutions beside it.
    "falcon": {"family": "falcon", "hidden_size": 32, "num_hidden_layers": 2,
               "num_attention_heads": 4},
    "lfm2": LLAMA | {"family": "lfm2", "layer_types": ["conv", "full_attention"]},
    "three heads": LLAMA | {"hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 3},
    "dynamic": LLAMA | {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0,
                                            "rope_theta": 1e4}},
}  # fmt: skip


def described(place: Path, name: str, out: str, context: int = 1, shard: bool = False) -> Any:
    method, other = RUNS[name]
    parallel = {"context": context, "shard": shard}
    return config(place, method, out=out, parallel=parallel, optimizer={"lr": 1e-3, "eps": 1e-4},
                  **{"steps": 4, **other})  # fmt: skip


def two_ranks(place: Path) -> None:
    """What two ranks do, in a process each."""
    train(described(place, "decompose", "decompose-2", 2))
    train(described(place, "best-fit", "best-fit-2", 2))
    train(described(place, "window", "window-2", 2))
    stopped = train(described(place, "best-fit", "sharded-2", 2, shard=True), Watching(2))
    train(described(place, "best-fit", "sharded-2", 2, shard=True))
    said: dict[str, Any] = {"stopped": stopped.step}
    for name, model in REFUSED.items():
        out = f"refused-{name}"
        try:
            Trainer(config(place, out=out, model=model, parallel={"context": 2}))
        except TrainingError as error:
            said[name] = str(error)
    (place / f"said-{os.environ['RANK']}.json").write_text(json.dumps(said))


def four_ranks(place: Path) -> None:
    """What four ranks do: two groups that share rows."""
    train(described(place, "decompose", "decompose-4", 2))


def rank(number: int, world: int, port: int, place: Path) -> None:
    """One rank, as torchrun would start it."""
    given = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world,
             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
    os.environ |= {name: str(value) for name, value in given.items()}
    torch.set_num_threads(1)
    {2: two_ranks, 4: four_ranks}[world](place)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sets(tmp_path_factory.mktemp("context"))


@pytest.fixture(scope="module")
def ranks(place: Path) -> Path:
    """The same folder with what the ranks left in it. They are forked: imports happen once."""
    code = f"""
import socket
from pathlib import Path
import torch.multiprocessing as processes
from training.test_training_context import rank
for world in (2, 4):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = (world, port, Path({str(place)!r}))
    processes.start_processes(rank, given, nprocs=world, start_method="fork")
"""
    here = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, (here.parent / "src", here.parent, here)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1",
                                "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True,
                          capture_output=True, timeout=180)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return place


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, Path]:
    return {name: train(described(place, name, f"{name}-1")).folder for name in RUNS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "out", "world"),
    [
        ("decompose", "decompose-2", 2),
        ("decompose", "decompose-4", 4),
        ("best-fit", "best-fit-2", 2),
        ("best-fit", "sharded-2", 2),
        ("window", "window-2", 2),
    ],
)
def test_ranks_that_share_rows_equal_one_rank(
    alone: dict[str, Path], ranks: Path, name: str, out: str, world: int
) -> None:
    one, other = log_of(alone[name]), log_of(ranks / out)
    assert [each["kind"] for each in other] == [each["kind"] for each in one]
    assert other[0]["ranks"] == world
    for mine, theirs in zip(one[1:], other[1:], strict=True):
        key = {"train": "loss", "evaluation": "L", "growth": "N"}[mine["kind"]]
        assert theirs[key] == pytest.approx(mine[key], abs=1e-5)
        if mine["kind"] == "train":
            assert theirs["gradient_norm"] == pytest.approx(mine["gradient_norm"], abs=1e-4)
            counted = ("predicted", "tokens", "rows", "pairs", "parameter_flops", "attention_flops")
            assert [theirs[each] for each in counted] == [mine[each] for each in counted]
    found = load_file(ranks / out / "model" / "model.safetensors")
    wanted = load_file(alone[name] / "model" / "model.safetensors")
    assert found.keys() >= wanted.keys()
    assert all(torch.allclose(found[key], wanted[key], atol=1e-5, rtol=0) for key in wanted)
    assert "ulysses" not in (ranks / out / "model" / "config.json").read_text()


@pytest.mark.slow
def test_the_sharded_run_was_stopped_and_gone_on_with(ranks: Path) -> None:
    assert json.loads((ranks / "said-1.json").read_text())["stopped"] == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("falcon", "family 'falcon' cannot share a row among ranks"),
        ("lfm2", "family 'lfm2' cannot share a row among ranks"),
        ("three heads", "parallel.context=2 does not divide the model's 3 attention heads"),
        ("dynamic", "rope_type 'dynamic' rotates by the length of a row"),
    ],
)
def test_what_cannot_be_shared_is_refused_on_every_rank(ranks: Path, name: str, said: str) -> None:
    for number in (0, 1):
        assert said in json.loads((ranks / f"said-{number}.json").read_text())[name]


def test_parts_of_ranks_put_together_are_the_rows(place: Path) -> None:
    shared = config(place, "concat-masked", parallel={"context": 2})
    feeds = [Feed(shared, number, 4) for number in range(4)]
    for group in (0, 1):
        whole = Feed(config(place, "concat-masked"), group, 2).read(0)
        parts = [feed.read(0) for feed in feeds[2 * group : 2 * group + 2]]
        assert [each.work for each in parts] == [whole.work, Work()]
        (row,), halves = whole.batches, [each.batches[0] for each in parts]
        for name in ("input_ids", "targets", "position_ids"):
            assert torch.equal(torch.cat([getattr(h, name) for h in halves], 1), getattr(row, name))
        assert all(torch.equal(half.row_positions, row.position_ids) for half in halves)


def test_a_batch_of_rows_that_are_all_short_is_filled_up_until_it_divides() -> None:
    short = Row(np.arange(9, dtype=np.int32), np.array([5, 4], np.int32))
    batch, work = make_batch([short], target_token=False, multiple=4)
    assert batch.position_ids is not None
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2]
    assert (batch.targets[0, 8:] == IGNORED).all()
    assert (work.tokens, work.pairs) == (9, 25)


def test_rows_that_do_not_divide_are_refused_before_the_first_step(place: Path) -> None:
    wrong = config(place, parallel={"context": 3})
    with pytest.raises(TrainingError, match=r"context=3 does not divide rows of 16 .* of 16$"):
        Feed(wrong, 0, 3)


@pytest.mark.parametrize("attention", ["eager", "flex_attention", "flash_attention_2"])
def test_attention_that_is_not_shared_is_refused(attention: str) -> None:
    with pytest.raises(TrainingError, match=rf"needs model.attention='sdpa' and not '{attention}'"):
        read_config({
            "out": "o", "steps": 1, "model": LLAMA | {"attention": attention},
            "data": {"train": "d"}, "parallel": {"context": 2},
        })  # fmt: skip


def test_a_family_that_does_not_have_the_attention_is_refused_by_name(
    place: Path, tmp_path: Path
) -> None:
    bloom = {"family": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4}
    with pytest.raises(TrainingError, match=r"family 'bloom' cannot have model.attention='sdpa'"):
        Trainer(config(place, out=str(tmp_path / "run"), model=bloom))
