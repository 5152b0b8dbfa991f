"""`[positions]`: weights trained under changed frequencies, which the exported model carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.testing.tiny import tiny_model
from lengthwise.training.config import TrainingError
from lengthwise.training.model import open_model
from lengthwise.training.trainer import train
from tests.training_runs import GPT2, build_sets, config

TRAINED, ROWS = 16, 64
MANIFEST = {
    "tokenizer": {"vocab_size": 257, "end_id": 256}, "max_length": ROWS,
}  # fmt: skip
# What [positions] says, the same as a recipe, and what transformers calls it.
RULES = [
    ({"name": "pi", "factor": 2}, "pi(factor=2)", "linear"),
    ({"name": "ntk", "factor": 4}, "ntk(factor=4)", "default"),
    ({"name": "abf"}, "abf", "default"),
    ({"name": "yarn", "factor": 4}, "yarn(factor=4)", "yarn"),
    ({"name": "yarn", "factor": 4.0, "beta_fast": 4.0}, "yarn(factor=4, beta_fast=4)", "yarn"),
    ({"name": "giraffe"}, "giraffe", "linear"),
    ({"name": "giraffe", "power": 0.5, "scale": 2}, "giraffe(power=0.5, scale=2)", "longrope"),
    ({"name": "giraffe", "truncate": 8, "scale": 1}, "giraffe(truncate=8, scale=1)", "longrope"),
    ({"name": "dynamic_ntk", "length": 64}, "dynamic_ntk(length=64)", "default"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = build_sets(tmp_path_factory.mktemp("positions"))
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=257, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=TRAINED,
        eos_token_id=256, initializer_range=0.2,
    ))  # fmt: skip
    model.save_pretrained(place / "base")
    return place


def run(place: Path, positions: dict[str, Any], out: str, **other: Any) -> Path:
    table = {"steps": 5, "model": {"checkpoint": "base"}, "positions": positions, **other}
    return train(config(place, "concat", out, **table)).folder


def text(count: int, seed: int = 0) -> list[int]:
    return torch.randint(97, 123, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def stock(model: Any, ids: list[int]) -> torch.Tensor:
    """log p of every token but the first, by transformers alone."""
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([ids])).logits[0].float()
    return logits.log_softmax(-1)[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]


@pytest.mark.parametrize(("positions", "recipe", "kind"), RULES, ids=lambda x: str(x)[:40])
def test_the_exported_model_is_the_recipe_on_its_weights(
    place: Path, positions: dict[str, Any], recipe: str, kind: str
) -> None:
    folder = run(place, positions, f"run-{recipe}") / "model"
    exported = AutoModelForCausalLM.from_pretrained(folder)
    parameters = exported.config.rope_parameters
    assert parameters["rope_type"] == kind
    assert exported.config.max_position_embeddings == ROWS
    # The trained weights in a model that knows nothing of the rule, read by our recipe.
    plain = AutoModelForCausalLM.from_pretrained(place / "base")
    before = [each.clone() for each in plain.parameters()]
    plain.load_state_dict(exported.state_dict())
    assert any(not torch.equal(a, b) for a, b in zip(before, plain.parameters(), strict=True))
    ids = text(ROWS)
    ours = lengthwise.wrap(plain)
    theirs = stock(exported, ids)
    assert torch.allclose(ours.score(ids, recipe), theirs, atol=2e-4)
    assert not torch.allclose(ours.score(ids), theirs, atol=1e-2)


@pytest.mark.parametrize(("positions", "recipe", "kind"), RULES[:7:2], ids=lambda x: str(x)[:40])
def test_the_loss_begins_where_the_recipe_leaves_the_untuned_model(
    place: Path, positions: dict[str, Any], recipe: str, kind: str
) -> None:
    run_ = config(place, "concat", positions=positions, model={"checkpoint": "base"})
    model = open_model(run_.model, MANIFEST, place, torch.device("cpu"), run_.positions.method())
    untuned = lengthwise.wrap(AutoModelForCausalLM.from_pretrained(place / "base"))
    ids = text(ROWS, 1)
    assert torch.allclose(stock(model, ids), untuned.score(ids, recipe), atol=2e-4)


def test_a_run_without_positions_keeps_the_models_own(place: Path) -> None:
    folder = run(place, {}, "own")
    found = json.loads((folder / "model" / "config.json").read_text())
    assert found["rope_parameters"]["rope_type"] == "default"
    assert found["max_position_embeddings"] == TRAINED
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[0])["positions"] is None


def test_a_new_model_can_be_trained_under_them_too(place: Path) -> None:
    shape = {
        "family": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 32,
    }  # fmt: skip
    folder = run(place, {"name": "yarn", "factor": 2}, "new", model=shape)
    found = json.loads((folder / "model" / "config.json").read_text())
    assert found["rope_parameters"]["original_max_position_embeddings"] == 32
    assert found["max_position_embeddings"] == ROWS


def test_layers_with_a_window_keep_their_frequencies(tmp_path: Path) -> None:
    tiny_model("gemma3_text", max_position_embeddings=TRAINED).save_pretrained(tmp_path / "gemma")
    options = config(tmp_path, model={"checkpoint": "gemma"}, positions={"name": "pi"})
    manifest = {**MANIFEST, "tokenizer": {"vocab_size": 8}}
    args = options.model, manifest, tmp_path, torch.device("cpu")
    model = open_model(*args, options.positions.method())
    own = open_model(*args)
    found, before = model.config.rope_parameters, own.config.rope_parameters
    assert found["sliding_attention"] == before["sliding_attention"]
    assert found["full_attention"]["rope_type"] == "linear"
    ids = torch.randint(3, 100, (48,), generator=torch.Generator().manual_seed(0)).tolist()
    ours = lengthwise.wrap(own).score(ids, "pi")
    assert torch.allclose(stock(model, ids), ours, atol=2e-4)


def test_a_run_goes_on_only_under_the_same_positions(place: Path) -> None:
    folder = run(place, {"name": "pi", "factor": 2}, "again", checkpoint={"every": 2})
    with pytest.raises(TrainingError, match="positions.settings.factor=2 and not 4"):
        run(place, {"name": "pi", "factor": 4}, "again")
    with pytest.raises(TrainingError, match="positions.name=pi and not yarn"):
        run(place, {"name": "yarn", "factor": 2}, "again")
    whole = json.loads((folder / "model" / "config.json").read_text())
    for name in ("model", "checkpoints/step-00000005"):
        for each in sorted((folder / name).rglob("*"), reverse=True):
            each.unlink() if each.is_file() else each.rmdir()
        (folder / name).rmdir()
    run(place, {"name": "pi", "factor": 2}, "again", checkpoint={"every": 2})
    assert json.loads((folder / "model" / "config.json").read_text()) == whole


@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        ({"name": "self_extend"}, "changes no rotary frequency"),
        ({"name": "lm_infinite"}, "changes no rotary frequency"),
        ({"name": "snapkv"}, "answers another question"),
        ({"name": "yrn"}, "did you mean 'yarn'"),
        ({"name": "yarn", "factr": 2}, "did you mean 'factor'"),
        ({"name": "yarn", "factor": 0.5}, "at least 1"),
        ({"factor": 2}, "no method"),
        ("yarn", "is a section"),
    ],
)
def test_positions_that_cannot_be_trained_with_are_refused(
    place: Path, positions: Any, reason: str
) -> None:
    with pytest.raises(LengthwiseError, match=reason):
        config(place, positions=positions)


@pytest.mark.parametrize(
    ("positions", "model", "reason"),
    [
        ({"name": "dynamic_ntk"}, {"checkpoint": "base"}, "order of the rows.*length = 64"),
        ({"name": "pi"}, GPT2, "family 'gpt2' has none"),
        ({"name": "pi"}, {"checkpoint": "scaled"}, "of its own .rope type 'linear'"),
        ({"name": "pi"}, {"checkpoint": "windowed"}, "keep a window of their own"),
    ],
)
def test_models_that_cannot_have_them_are_refused_before_the_first_step(
    place: Path, positions: dict[str, Any], model: dict[str, Any], reason: str
) -> None:
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    tiny_model("llama", vocab_size=257, rope_parameters=scaled).save_pretrained(place / "scaled")
    tiny_model("mistral", vocab_size=257).save_pretrained(place / "windowed")
    with pytest.raises(TrainingError, match=reason):
        run(place, positions, f"refused-{reason[:6]}", model=model)
    assert not (place / f"refused-{reason[:6]}").exists()


def test_a_refused_run_leaves_its_folder_to_a_right_one(place: Path) -> None:
    for wrong in ({"positions": {"name": "pi"}, "model": GPT2}, {"model": {"checkpoint": "none"}}):
        with pytest.raises(TrainingError):
            train(config(place, "concat", "once", **wrong))
    assert (run(place, {"name": "pi"}, "once") / "model").exists()
    with pytest.raises(TrainingError, match="set it back to go on"):
        run(place, {"name": "ntk"}, "once")
    assert (place / "once" / "run.json").exists()
