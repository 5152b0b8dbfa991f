"""Runs under the windows of a recipe: what is trained is what the engine reads by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import lengthwise
from lengthwise.methods.base import Method
from lengthwise.training.config import TrainingError, read_config
from lengthwise.training.export import ORIGIN
from lengthwise.training.trainer import train
from lengthwise.training.windows import Window, attach_windows, window_method, windows_of
from tests.training_runs import LLAMA, build_set, config, texts

SIZES = {**LLAMA, "num_hidden_layers": 3}
WINDOWS = {"name": "longgen", "sinks": 2, "window": 8}


def model_of(seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    sizes = {**SIZES, "vocab_size": 257, "initializer_range": 0.2, **settings}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(sizes.pop("family"), **sizes))


def longgen(**settings: Any) -> Method:
    return window_method("longgen", {"sinks": 2, "window": 8, **settings})


def test_a_training_forward_is_the_recipes() -> None:
    model, ids = model_of().eval(), torch.randint(0, 257, (1, 50))
    wanted = lengthwise.wrap(model).score(ids[0].tolist(), "longgen(sinks=2, window=8)")
    stock = model(input_ids=ids).logits
    attach_windows(model, longgen())
    logits = model(input_ids=ids, use_cache=False).logits
    found = logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    torch.testing.assert_close(found, wanted.to(found.dtype), rtol=0, atol=1e-4)
    assert (logits - stock)[0, 12:].abs().max() > 1e-2
    torch.testing.assert_close(logits[0, :8], stock[0, :8])
    assert model.config._attn_implementation == "sdpa"


def test_documents_of_one_row_have_their_own_first_tokens() -> None:
    model = model_of().eval()
    attach_windows(model, longgen())
    one, two = torch.randint(0, 257, (1, 30)), torch.randint(0, 257, (1, 25))
    positions = torch.tensor([[*range(30), *range(25)]])
    row = torch.cat([one, two], 1)
    found = model(input_ids=row, position_ids=positions, use_cache=False).logits[0]
    for part, alone in ((found[:30], one), (found[30:], two)):
        wanted = model(input_ids=alone, use_cache=False).logits[0]
        torch.testing.assert_close(part, wanted, rtol=0, atol=1e-4)


def test_the_middle_layer_alone_passes_gradients_from_afar() -> None:
    """To a token that no window reaches."""
    for full, reached in ((1 / 3, True), (0.0, False)):
        model = model_of()
        attach_windows(model, longgen(full=full, sinks=0))
        states = model.get_input_embeddings()(torch.randint(0, 257, (1, 60))).detach()
        states.requires_grad_()
        model(inputs_embeds=states, use_cache=False).logits[0, -1].sum().backward()
        assert bool(states.grad[0, 20].any()) == reached


def test_windows_are_those_of_layers_without_their_own() -> None:
    own = AutoConfig.for_model(
        "gemma2", num_hidden_layers=4, layer_types=["sliding_attention", "full_attention"] * 2
    )
    assert windows_of(own, longgen(full=0.5)) == {3: Window(2, 8)}
    assert windows_of(model_of().config, longgen()) == {0: Window(2, 8), 2: Window(2, 8)}
    assert windows_of(model_of().config, longgen(full=1.0)) == {}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("windows")
    build_set(place, "best-fit", texts(60, 60), "best-fit")
    return place


def run(place: Path, out: str, **other: Any) -> Path:
    model = {**SIZES, **other.pop("model", {})}
    data = {"train": "best-fit"}
    return train(config(place, "best-fit", out, steps=2, model=model, data=data, **other)).folder


def test_a_run_trains_under_them_and_says_how_to_read(place: Path) -> None:
    folder = run(place, "trained", retention=WINDOWS)
    plain = run(place, "plain")
    said = (folder / "model" / ORIGIN).read_text()
    assert "longgen(sinks=2, window=8)" in said
    assert "recipe" not in (plain / "model" / ORIGIN).read_text()
    one, two = (AutoModelForCausalLM.from_pretrained(each / "model") for each in (folder, plain))
    assert [*one.config.to_dict()] == [*two.config.to_dict()] and one.config.model_type == "llama"
    differing = [not torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(),
                                                       strict=True)]  # fmt: skip
    assert any(differing)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"retention": {"name": "snapkv"}}, "snapkv gives layers no window from the first token"),
        ({"retention": {"name": "longgen", "windows": 3}}, "did you mean 'window'|did you mean wi"),
        ({"retention": {"window": 3}}, 'add name = "longgen"'),
        ({"retention": {"name": "duo"}}, "divides the heads"),
        ({"retention": WINDOWS, "model": {"attention": "eager"}}, "leave model.attention out"),
        (
            {"retention": WINDOWS, "positions": {"name": "entropy_abf", "trained": 64}},
            "both need an attention of their own",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(other: dict[str, Any], reason: str, place: Path) -> None:
    with pytest.raises(TrainingError, match=reason):
        run(place, "refused", **other)
    assert not (place / "refused").exists()


def test_runs_without_windows_are_what_they_were() -> None:
    table = {"out": "x", "steps": 1, "model": LLAMA, "data": {"train": "y"}}
    assert "retention" not in read_config(table).deciding()
    assert "retention" in read_config({**table, "retention": WINDOWS}).deciding()
