"""`entropy_abf` in a run: logits that grow with the position while weights are trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import lengthwise
from lengthwise.testing.tiny import tiny_model
from lengthwise.training.config import TrainingError
from lengthwise.training.data import Batch
from lengthwise.training.positions import frequency_method, positioned, read_with
from lengthwise.training.query_scale import NAME
from lengthwise.training.step import token_losses
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import build_sets, config

TRAINED, ROWS = 16, 64
ASKED = {"name": "entropy_abf", "trained": TRAINED, "exempt": 1}
RECIPE = f"entropy_abf(base=none, trained={TRAINED}, exempt=1)"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = build_sets(tmp_path_factory.mktemp("query-scale"))
    torch.manual_seed(3)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=257, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=TRAINED,
        eos_token_id=256, initializer_range=0.2,
    )).save_pretrained(place / "base")  # fmt: skip
    return place


def run(place: Path, out: str, data: str = "concat", **other: Any) -> Path:
    table = {"steps": 5, "model": {"checkpoint": "base"}, "positions": ASKED, **other}
    return train(config(place, data, out, **table)).folder


def text(count: int, seed: int = 0) -> list[int]:
    return torch.randint(97, 123, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def trained_loss(model: Any, ids: list[int]) -> Tensor:
    """log p of every token but the first, as a run computes it."""
    row = torch.tensor([ids])
    with torch.no_grad():
        return -token_losses(model.eval(), Batch(row[:, :-1], row[:, 1:]))[0]


def test_a_run_computes_what_its_recipe_reads(place: Path) -> None:
    """The trained weights in the run's own model, and in the engine under the recipe it names."""
    trainer = Trainer(config(place, "concat", "same", steps=5, model={"checkpoint": "base"},
                             positions=ASKED))  # fmt: skip
    trainer.run()
    ids = text(ROWS)
    ours = lengthwise.load(str(place / "same" / "model"), dtype="float32")
    own = trained_loss(trainer.ranks.plain(trainer.model), ids)
    torch.testing.assert_close(ours.score(ids, RECIPE), own, rtol=0, atol=2e-4)
    assert (ours.score(ids) - own)[TRAINED:].abs().max() > 1e-2
    said = json.loads((place / "same" / "model" / "trained.json").read_text())
    assert said["recipe"] == RECIPE
    found = json.loads((place / "same" / "model" / "config.json").read_text())
    assert found["rope_parameters"]["rope_theta"] == pytest.approx(500_000, rel=1e-3)
    assert NAME not in json.dumps(found)


def test_documents_of_one_row_count_their_own_positions(place: Path) -> None:
    """Positions begin anew with each document, and so do the factors."""
    model = LlamaForCausalLM.from_pretrained(place / "base")
    trainer = Trainer(config(place, "best-fit", "packed", steps=1, model={"checkpoint": "base"},
                             positions={**ASKED, "base": 1e4}))  # fmt: skip
    trainer.run()
    model = trainer.ranks.plain(trainer.model)
    ids = text(40, 1)
    row = torch.tensor([[*ids, *ids]])
    twice = Batch(row[:, :-1], row[:, 1:], torch.tensor([[*range(40), *range(39)]]))
    with torch.no_grad():
        found = -token_losses(model.eval(), twice)[0]
    torch.testing.assert_close(found[:39], trained_loss(model, ids), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[40:], found[:39], rtol=0, atol=1e-5)


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


def test_stock_attention_is_back_after_every_forward(place: Path) -> None:
    trainer = Trainer(config(place, "concat", "hooked", steps=1, model={"checkpoint": "base"},
                             positions=ASKED))  # fmt: skip
    model = trainer.ranks.plain(trainer.model)
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[100_000]]))
    assert model.config._attn_implementation == "sdpa"
    trainer.close()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"positions": {"name": "entropy_abf"}}, "give the length before, as in trained = 16"),
        ({"positions": ASKED, "model": {"checkpoint": "base", "attention": "eager"}},
         "go with model.attention='sdpa' and not 'eager'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_first_step(
    place: Path, other: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TrainingError, match=reason):
        run(place, "refused", **other)
    assert not (place / "refused").exists()


def test_the_recipe_of_other_methods_is_none() -> None:
    assert read_with(None) is None and read_with(frequency_method("abf", {})) is None
    assert str(read_with(frequency_method("entropy_abf", {"trained": 16, "exempt": 1}))) == RECIPE
    config_ = positioned(tiny_model("llama", max_position_embeddings=TRAINED),
                         frequency_method("abf", {"base": 1e6}), ROWS)  # fmt: skip
    assert config_.rope_parameters["rope_theta"] == pytest.approx(1e6, rel=1e-4)
