"""`load(device_map=...)`: parts of a model in CPU memory, on disk and on several devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from transformers import LlamaConfig, LlamaForCausalLM

import lengthwise
from lengthwise.cli.main import group
from lengthwise.errors import ModelError
from lengthwise.models import fits
from lengthwise.models.fits import weight_bytes
from lengthwise.models.placing import placing
from tests.evaluation.drafting_cases import saved_model

ROOMS: dict[str, dict[str, Any]] = {
    "auto": {"device_map": "auto"},
    "sequential": {"device_map": "sequential"},
    "a device": {"device_map": "cpu"},
    "all on disk": {"device_map": {"": "disk"}},
    "a layer on disk": {
        "device_map": {"model": "cpu", "lm_head": "cpu", "model.layers.1": "disk"},
    },
    "layers on disk": {"device_map": {
        "model.embed_tokens": "cpu", "model.layers": "disk", "model.norm": "cpu", "lm_head": "cpu",
    }},
    "a weight on disk": {"device_map": {"": "cpu", "model.layers.2.mlp": "disk"}},
    "auto with little memory": {"device_map": "auto", "max_memory": {"cpu": 200_000}},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = saved_model(tmp_path_factory.mktemp("models") / "tiny")
    config = LlamaConfig.from_pretrained(place, num_hidden_layers=3)
    LlamaForCausalLM(config).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def whole(folder: str) -> lengthwise.Model:
    return lengthwise.load(folder, "float32", "cpu")


def disk(model: lengthwise.Model) -> int:
    """Parameters that wait on disk."""
    return sum(weight.is_meta for weight in model.adapted.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("folder_too", [False, True])
def test_a_placed_model_says_what_the_whole_one_says(
    folder: str, whole: lengthwise.Model, room: str, folder_too: bool, tmp_path: Path
) -> None:
    options = {"offload_folder": tmp_path / "weights"} if folder_too else {}
    placed = lengthwise.load(folder, "float32", **ROOMS[room], **options)
    assert placed.provenance.device == torch.device("cpu")
    assert bool(disk(placed)) == ("disk" in room or "little" in room)
    text = "Keepers wrote down each ship that passed"
    assert torch.allclose(placed.score(text), whole.score(text), atol=3e-5)
    for recipe in ("full", "streaming(window=16) + lookup"):
        ours = placed.generate(text, recipe, max_new_tokens=8, stop_ids=[]).token_ids
        assert ours == whole.generate(text, recipe, max_new_tokens=8, stop_ids=[]).token_ids
    assert str(placed.check()) == str(whole.check())


BAD: list[tuple[dict[str, Any], str]] = [
    ({"device": "cpu", "device_map": "auto"}, "device and device_map are both given"),
    ({"device_map": "automatic"}, "'automatic' is not to be had here"),
    ({"device_map": {}}, "give one of auto, balanced, balanced_low_0, sequential, a device"),
    ({"device_map": ["cpu"]}, "give one of auto, balanced"),
    ({"device_map": {"model.layers.0": 9}}, "of 'model.layers.0': device 'cuda:9' is not to be"),
    ({"device_map": {"model": None}}, "None of 'model' is no device; give 0, 'cpu' or 'disk'"),
    ({"device_map": {1: "cpu"}}, "1 is no name of a module"),
    ({"device_map": {"model.norm": "cpu"}}, "no place to 'model.embed_tokens'; give it one, or ''"),
    ({"device_map": {"model.layers.9": "cpu"}}, "'model.layers.9' is no part of this model"),
    ({"max_memory": {"cpu": "1GiB"}}, "max_memory is of use with a device_map alone"),
    ({"offload_folder": "there"}, "offload_folder is of use with a device_map alone"),
    ({"device_map": "auto", "max_memory": 4}, "give memory by device"),
    ({"device_map": "cpu", "max_memory": {"cpu": "1GiB"}}, "max_memory is of use with a strategy"),
    ({"device_map": {"": "cpu"}, "max_memory": {0: 9}}, "leave it out, or give device_map='auto'"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), BAD, ids=[said for _, said in BAD])
def test_a_map_that_is_none_is_said_in_a_line(
    folder: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError) as caught:
        lengthwise.load(folder, **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_each_place_of_a_map_has_to_hold_what_goes_there(
    folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    size = weight_bytes(folder, True, torch.float32)
    assert size is not None
    monkeypatch.setattr(fits, "free_memory", lambda swap: size // 2)
    for device_map in ("cpu", {"model": "cpu", "lm_head": "cpu"}):
        with pytest.raises(ModelError, match="put fewer layers there, or give device_map='auto'"):
            lengthwise.load(folder, "float32", device_map=device_map)
    lengthwise.load(folder, "float32", device_map={"": "disk"})
    lengthwise.load(folder, "float32", device_map="auto")
    shares = fits._needs(
        folder, True, torch.float32,
        placing(None, {"": "disk", "model.layers.0": "cpu", "lm_head": "cpu"}),
    )  # fmt: skip
    assert set(shares) == {"cpu", "disk"} and sum(shares.values()) == size
    away = placing(None, {"": "disk"}, offload_folder=tmp_path / "not" / "there")
    monkeypatch.setattr(fits.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 7}))
    with pytest.raises(ModelError, match="are free on disk"):
        fits.require_fits(folder, True, torch.float32, away)


@pytest.mark.parametrize("how", ["word", "json", "file"])
def test_the_shell_takes_maps_too(folder: str, how: str, tmp_path: Path) -> None:
    places = {"": "cpu", "model.layers.1": "disk"}
    given = {"word": "auto", "json": json.dumps(places), "file": str(tmp_path / "map.json")}[how]
    (tmp_path / "map.json").write_text(json.dumps(places))
    done = CliRunner().invoke(group, ["check", folder, "--device-map", given])
    assert done.exit_code == 0, done.output
    assert ("its parts on cpu, disk" in done.stderr) == (how != "word")
    broken = CliRunner().invoke(group, ["check", folder, "--device-map", "{"])
    assert isinstance(broken.exception, ModelError | ValueError)
    assert "--device-map: no JSON" in str(broken.exception)
