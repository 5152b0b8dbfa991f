"""Models whose layers lie on several devices, which accelerate spreads: each layer's entries are
where it attends, and what comes out is what the model on one device gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch

import lengthwise
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.cut import cut_model
from lengthwise.models.one_layer import in_float32
from lengthwise.models.plain_attention import plain_attention
from lengthwise.testing import check_method, laws
from lengthwise.testing.tiny import tiny_model, tokens
from tests.cache_recipes import RECIPES

pytest.importorskip("torch.utils.backend_registration")
second_devices = pytest.importorskip("tests.second_devices")
FIRST, SECOND = second_devices.FIRST, second_devices.SECOND
TEXT = [min(token, 119) for token in tokens(70)]


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    with second_devices.SecondDevices():
        yield


def split(family: str, **changes: Any) -> Any:
    """A tiny model whose layers lie on two devices in turn."""
    model = tiny_model(family, **changes)
    count = model.config.num_hidden_layers
    return second_devices.spread(model, [FIRST, SECOND, FIRST, SECOND][:count])


def test_the_devices_that_are_not_there_do_not_mix() -> None:
    here, there = torch.ones(3, device=FIRST), torch.ones(3, device=SECOND)
    for other in (there, torch.ones(3)):
        with pytest.raises(RuntimeError, match="several devices"):
            here + other
    with pytest.raises(RuntimeError, match="several devices"):
        here[torch.tensor([1], device=SECOND)]
    here[1:] = there.to(FIRST)[1:] * 2
    assert here.tolist() == [1, 2, 2] and here[torch.tensor([1])].device == FIRST


CASES = [*(("llama", recipe) for recipe in RECIPES),
         *(("gemma2", recipe) for recipe in RECIPES[1:3])]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("family", "recipe"), CASES)
def test_layers_on_two_devices_say_what_they_say_on_one(family: str, recipe: str) -> None:
    # Gates are trained, and autograd knows no devices that are not there: these need none.
    recipe = recipe.replace("duo(", "duo(heads=0, ").replace("lserve(", "lserve(heads=0, ")
    model, given = lengthwise.wrap(tiny_model(family)), split(family)
    wrapped = lengthwise.wrap(given)
    places = [layer.device for layer in wrapped.adapted.layers]
    assert set(places) == {FIRST, SECOND} and wrapped.adapted.device == FIRST
    assert [a.window for a in wrapped.adapted.layers] == [b.window for b in model.adapted.layers]
    theirs = model.score(TEXT, recipe, prompt=60)
    assert float((wrapped.score(TEXT, recipe, prompt=60) - theirs).abs().max()) <= 3e-5
    said = {"recipe": f"{recipe} + lookup", "max_new_tokens": 8, "stop_ids": []}
    batch = [TEXT[:40], TEXT[30:]]
    ours = [row.token_ids for row in wrapped.generate_batch(batch, **said)]
    assert ours == [row.token_ids for row in model.generate_batch(batch, **said)]


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_what_a_layer_keeps_is_where_it_attends(family: str) -> None:
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.engine.loop import prefill

    adapted = adapt(split(family))
    sequence = Sequence(adapted)
    prefill(sequence, TEXT)
    for facts, layer in zip(adapted.layers, sequence.layers, strict=True):
        (group,) = layer.groups
        assert group.near.tail is not None
        assert {t.device for t in group.near.tail.tensors()} == {facts.device}


@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("gemma2", {"sliding_window": 99})])
def test_an_edit_moves_entries_where_they_are(family: str, changes: dict[str, int]) -> None:
    found = []
    for model in (
        lengthwise.wrap(tiny_model(family, **changes)),
        lengthwise.wrap(split(family, **changes)),
    ):
        session = model.read(TEXT)
        session.edit((20, 23), [5, 6, 7, 8])
        found.append(session.score(TEXT[:9]))
    assert torch.allclose(found[0], found[1], atol=3e-5)


METHODS = ["razor", "layers", "medusa", "sirllm", "squeezed"]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_laws_hold_over_two_devices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def there(family: str) -> AdaptedModel:
        settings = {"initializer_range": 0.15, "max_position_embeddings": laws.TRAINED}
        return adapt(split(family, **settings))

    monkeypatch.setattr(laws, "law_model", there)
    check_method(name, ("llama",)).require()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_chosen_rows_are_read_by_the_head_where_it_is(family: str) -> None:
    given = tiny_model(family) if family == "gpt2" else split(family)
    if family == "gpt2":
        given = accelerate.cpu_offload(given, execution_device="cpu")
    adapted = adapt(given)
    ids = torch.tensor(TEXT[:9], device=adapted.device)
    here = torch.arange(9, device=adapted.device)
    keep = torch.tensor([2, 8], device=adapted.device)
    attention = plain_attention(adapted, here)
    every: list[torch.Tensor] = []
    some: list[torch.Tensor] = []
    whole = adapted.forward(ids, here, attention, None, every)
    chosen = adapted.forward(ids, here, attention, keep, some)
    assert chosen.device == some[0].device == adapted.device and len(chosen) == len(some[0]) == 2
    assert float((chosen - whole[keep]).abs().max()) <= 1e-5
    assert float((some[0] - every[0][keep]).abs().max()) <= 1e-5


@pytest.mark.parametrize("place", ["spread", "cpu", "disk"])
def test_a_layer_of_a_16_bit_model_is_verified_in_float32(place: str, tmp_path: Path) -> None:
    model: Any = tiny_model("llama").to(torch.bfloat16)  # type: ignore[arg-type]
    if place == "spread":
        given = second_devices.spread(model, [FIRST, SECOND])
    elif place == "cpu":
        given = accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    else:
        given = accelerate.disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
    adapted = adapt(given)
    assert not adapted.notes
    for index, layer in enumerate(adapted.layers):
        alone = in_float32(adapted, index)
        assert alone is not None and alone.dtype == torch.float32
        assert alone.devices == [layer.device]


@pytest.mark.parametrize("place", ["spread", "cpu"])
def test_some_layers_of_a_model_run_where_they_lie(place: str) -> None:
    model = tiny_model("llama", num_hidden_layers=4)
    right = adapt(cut_model(model, [0, 2]), verify=False)
    if place == "spread":
        given = split("llama", num_hidden_layers=4)
    else:
        given = accelerate.cpu_offload(
            tiny_model("llama", num_hidden_layers=4), execution_device="cpu"
        )
    ours = adapt(cut_model(given, [0, 2]), verify=False)
    ids, found = torch.tensor(TEXT[:12]), []
    for each in (right, ours):
        here = torch.arange(12, device=each.device)
        attention = plain_attention(each, here)
        found.append(each.forward(ids.to(each.device), here, attention).to("cpu"))
    assert float((found[0] - found[1]).abs().max()) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_that_wait_in_cpu_memory_run_on_their_device(dtype: torch.dtype) -> None:
    places: dict[str, Any] = {
        "model.embed_tokens": FIRST, "model.rotary_emb": FIRST, "model.layers.0": "cpu",
        "model.layers.1": SECOND, "model.norm": FIRST, "lm_head": "cpu",
    }  # fmt: skip
    model: Any = tiny_model("llama").to(dtype)  # type: ignore[arg-type]
    whole = lengthwise.wrap(tiny_model("llama"))
    given = accelerate.dispatch_model(model, places, main_device=FIRST)
    assert any(weight.is_meta for weight in given.parameters())
    wrapped = lengthwise.wrap(given)
    assert set(wrapped.adapted.devices) == {FIRST, SECOND} and not wrapped.adapted.notes
    assert [layer.device for layer in wrapped.adapted.layers] == [FIRST, SECOND]
    most = 3e-5 if dtype == torch.float32 else 0.3
    assert float((wrapped.score(TEXT) - whole.score(TEXT)).abs().max()) <= most
