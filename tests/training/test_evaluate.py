"""Documents are read as far as the model has positions, and no further one is asked of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lengthwise.training.config import TrainingError
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import GPT2, LLAMA, build_set, build_sets, config, texts

LEARNED = GPT2 | {"n_positions": 64}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = build_sets(tmp_path_factory.mktemp("evaluated"))
    build_set(place, "long", texts(12, 400, seed=1), "concat")
    return place


def test_more_than_the_learned_positions_is_refused_before_the_first_step(
    place: Path, tmp_path: Path
) -> None:
    data = {"train": "decompose", "validation": "long"}
    run = config(place, out=str(tmp_path / "run"), model=LEARNED, data=data,
                 evaluation={"max_length": 200})  # fmt: skip
    with pytest.raises(TrainingError, match="64 learned positions .* 200 tokens: .*length to 64"):
        Trainer(run)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("model", "length"), [(LEARNED, 64), (LEARNED, 65), (LLAMA, 200)])
def test_as_many_as_there_are_is_not(
    place: Path, tmp_path: Path, model: dict[str, object], length: int
) -> None:
    data = {"train": "decompose", "validation": "long"}
    found = train(config(place, out=str(tmp_path / "run"), model=model, data=data, steps=1,
                         evaluation={"max_length": length})).evaluation  # fmt: skip
    assert found is not None and math.isfinite(found.per_token)


def test_a_run_that_is_gone_on_with_may_not_ask_for_more_either(
    place: Path, tmp_path: Path
) -> None:
    data = {"train": "decompose", "validation": "long"}
    other = {"model": LEARNED, "data": data, "steps": 1}
    train(config(place, out=str(tmp_path / "run"), **other))
    with pytest.raises(TrainingError, match="64 learned positions"):
        Trainer(config(place, out=str(tmp_path / "run"), evaluation={"max_length": 99}, **other))
