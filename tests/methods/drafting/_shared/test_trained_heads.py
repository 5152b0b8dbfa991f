"""What is made of a published checkpoint is kept for the model it guesses for, and no longer."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lengthwise.errors import ModelError
from lengthwise.methods.drafting._shared.trained_heads import Checkpoint, KeptByModel
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

FILE = "heads.safetensors"


class Made:
    """Weights of a checkpoint on their way to a model."""

    def __init__(self, checkpoint: Checkpoint, model: AdaptedModel) -> None:
        self.weight = checkpoint.need("weight", (2,)).to(model.device, model.dtype)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for name in "abc":
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({}))
        save_file({"weight": torch.ones(2)}, folder / FILE)
    return [str(tmp_path / name) for name in "abc"]


def test_it_is_made_once_for_a_model_however_that_is_wrapped(paths: list[str]) -> None:
    kept, stock = KeptByModel([FILE], Made), tiny_model("llama")
    one, again, other = adapt(stock), adapt(stock, fuse=False), adapt(tiny_model("llama"))
    first = kept(paths[0], one)
    assert first is kept(paths[0], one) is kept(paths[0], again)
    assert first is not kept(paths[1], one) and first is not kept(paths[0], other)
    # Weights that were moved or cast want others.
    cast = adapt(stock.to(torch.bfloat16))
    assert kept(paths[0], cast).weight.dtype == torch.bfloat16


def test_the_latest_two_of_a_model_are_kept(paths: list[str]) -> None:
    kept, model = KeptByModel([FILE], Made), adapt(tiny_model("llama"))
    first, second = kept(paths[0], model), kept(paths[1], model)
    # Asked for again, the first is newer than the second.
    assert kept(paths[0], model) is first
    kept(paths[2], model)
    assert kept(paths[0], model) is first and kept(paths[1], model) is not second


def test_it_goes_with_its_model_alone(paths: list[str]) -> None:
    kept, stock = KeptByModel([FILE], Made), tiny_model("llama")
    model, other = adapt(stock), adapt(tiny_model("llama"))
    gone, stays = weakref.ref(kept(paths[0], model)), kept(paths[0], other)
    del stock, model
    gc.collect()
    assert gone() is None and kept(paths[0], other) is stays


def test_a_checkpoint_that_cannot_be_read_is_asked_for_again(paths: list[str]) -> None:
    kept, model = KeptByModel([FILE], Made), adapt(tiny_model("llama"))
    (Path(paths[0]) / FILE).rename(Path(paths[0]) / "aside")
    with pytest.raises(ModelError, match=FILE):
        kept(paths[0], model)
    (Path(paths[0]) / "aside").rename(Path(paths[0]) / FILE)
    assert kept(paths[0], model) is kept(paths[0], model)
