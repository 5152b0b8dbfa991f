"""`clex` in a run: weights and a scale network, trained together at random scales."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.methods.positions.clex import CLEX
from lengthwise.methods.positions.scale_network import FILE, ScaleNetwork
from lengthwise.testing.tiny import tiny_model
from lengthwise.training.config import TrainingError
from lengthwise.training.data import Batch
from lengthwise.training.scale_network import TrainedRotary, attach_network, drawn_positions
from lengthwise.training.step import token_losses
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import build_sets, config

TRAINED = 64
ASKED = {"name": "clex", "max_factor": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = build_sets(tmp_path_factory.mktemp("clex"))
    torch.manual_seed(3)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=257, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=TRAINED,
        eos_token_id=256, initializer_range=0.2,
    )).save_pretrained(place / "base")  # fmt: skip
    return place


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path / "cache"))


def run(place: Path, out: str, data: str = "concat", **other: Any) -> Path:
    table = {"steps": 5, "model": {"checkpoint": "base"}, "positions": ASKED,
             "optimizer": {"lr": 0.02}, **other}  # fmt: skip
    return train(config(place, data, out, **table)).folder


def text(count: int, seed: int = 0) -> list[int]:
    return torch.randint(97, 123, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def own_score(model: nn.Module, ids: list[int]) -> Tensor:
    """log p of every token but the first, as the run's own model evaluates it."""
    row = torch.tensor([ids])
    with torch.no_grad():
        return -token_losses(model.eval(), Batch(row[:, :-1], row[:, 1:]))[0]


def test_what_a_run_leaves_is_read_by_its_recipe(place: Path) -> None:
    """Weights and network, in the run's own model and in the engine, at every scale."""
    trainer = Trainer(config(place, "concat", "read", steps=5, model={"checkpoint": "base"},
                             positions=ASKED, optimizer={"lr": 0.02}))  # fmt: skip
    trainer.run()
    folder = place / "read" / "model"
    assert json.loads((folder / "trained.json").read_text())["recipe"] == "clex(max_factor=3)"
    network = ScaleNetwork.of(json.loads((folder / FILE).read_text()))
    assert network.down.any() and (network.trained, network.largest) == (TRAINED, 3)
    ours = lengthwise.load(str(folder), dtype="float32")
    model = trainer.ranks.plain(trainer.model)
    for count in (TRAINED, 2 * TRAINED, 4 * TRAINED):
        ids = text(count)
        # A row's last token is no input, so both have texts of one length.
        own = own_score(model, [*ids, 97])[:-1]
        torch.testing.assert_close(ours.score(ids, "clex(max_factor=3)"), own, rtol=0, atol=3e-4)
    law = ours.score(ids, "clex(max_factor=3, network=false)")
    assert (law - own)[TRAINED:].abs().max() > 1e-3


def test_transformers_finds_nothing_strange_in_the_folder(place: Path) -> None:
    folder = run(place, "stock") / "model"
    _, said = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not said["unexpected_keys"] and not said["missing_keys"]
    found = json.loads((folder / "config.json").read_text())
    assert found["max_position_embeddings"] == TRAINED
    assert found["rope_parameters"]["rope_type"] == "default"


def test_a_run_goes_on_as_if_it_had_not_been_stopped(place: Path) -> None:
    whole = run(place, "whole", checkpoint={"every": 2, "keep": 9})
    part = run(place, "part", checkpoint={"every": 2, "keep": 9})
    for name in ("model", "checkpoints/step-00000005", "checkpoints/step-00000004"):
        for each in sorted((part / name).rglob("*"), reverse=True):
            each.unlink() if each.is_file() else each.rmdir()
        (part / name).rmdir()
    run(place, "part", checkpoint={"every": 2, "keep": 9})
    one, other = (AutoModelForCausalLM.from_pretrained(f / "model") for f in (whole, part))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    first, second = ((f / "model" / FILE).read_text() for f in (whole, part))
    assert first == second


def test_a_network_in_halves_keeps_its_numbers(place: Path) -> None:
    whole = run(place, "fp32")
    half = run(place, "fp16", model={"checkpoint": "base", "export_dtype": "fp16"})
    first, second = ((f / "model" / FILE).read_text() for f in (whole, half))
    assert first == second


def test_a_second_run_begins_with_the_network_of_the_first(place: Path) -> None:
    first = run(place, "first")
    trainer = Trainer(config(place, "concat", "second", steps=1, positions=ASKED,
                             model={"checkpoint": "first/model"}))  # fmt: skip
    (rotary,) = (m for m in trainer.model.modules() if isinstance(m, TrainedRotary))
    kept = ScaleNetwork.of(json.loads((first / "model" / FILE).read_text()))
    assert torch.equal(rotary.network.down, kept.down)
    trainer.close()


def test_positions_are_drawn_with_both_ends() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        found = drawn_positions(16, 64)
        assert len(found) == 16 and found[0] == 0 and found[-1] == 63
        assert bool((found.diff() > 0).all())
    assert torch.equal(drawn_positions(16, 16), torch.arange(16))
    assert drawn_positions(1, 16).tolist() == [0]


def test_training_draws_and_evaluation_does_not(place: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(place / "base")
    ids = torch.tensor([text(TRAINED)])
    stock = model.eval()(input_ids=ids).logits
    attach_network(model, CLEX(max_factor=4), None)
    torch.testing.assert_close(model.eval()(input_ids=ids).logits, stock)
    model.train()
    torch.manual_seed(0)
    found = [model(input_ids=ids).logits for _ in range(6)]
    assert any((each - stock).abs().max() > 1e-2 for each in found)
    found[-1].sum().backward()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"data": "best-fit"}, "rows of this data hold several"),
        ({"model": {"checkpoint": "short"}}, "rows of the trained length, 32 tokens"),
        ({"model": {"checkpoint": "scaled"}}, "of its own .rope type 'linear'"),
        ({"model": {"checkpoint": "gemma"}}, "does not rotate all layers alike"),
        ({"growth": {"at_step": 2}}, "which growth would leave behind"),
        ({"positions": {"name": "clex", "network": False}}, "takes max_factor alone"),
        ({"positions": {"name": "clex", "length": 9}}, "takes max_factor alone"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    place: Path, other: dict[str, Any], reason: str
) -> None:
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    for name, family, changes in (
        ("short", "llama", {"max_position_embeddings": 32}),
        ("scaled", "llama", {"rope_parameters": scaled}), ("gemma", "gemma3_text", {}),
    ):  # fmt: skip
        made = tiny_model(family, vocab_size=257, **{"max_position_embeddings": TRAINED, **changes})
        made.save_pretrained(place / name)
    with pytest.raises(LengthwiseError, match=reason):
        run(place, "refused", **other)
    assert not (place / "refused").exists()


def test_a_damaged_network_is_told(place: Path) -> None:
    folder = run(place, "damaged") / "model"
    (folder / FILE).write_text("{")
    with pytest.raises(TrainingError, match=f"{FILE} is damaged or of another model"):
        run(place, "after", model={"checkpoint": "damaged/model"})
