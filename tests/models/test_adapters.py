"""Adapters of peft: from a folder, merged and not, several, switched between requests, DoRA."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import lengthwise
from lengthwise.errors import ModelError, UnsuitableModel
from tests.evaluation.drafting_cases import saved_model

peft = pytest.importorskip("peft")
TEXT = list(range(5, 35))
KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {"target_modules": ["q_proj", "down_proj"]},
    "DoRA": {"target_modules": ["v_proj", "up_proj"], "use_dora": True},
    "rsLoRA": {"target_modules": "all-linear", "use_rslora": True},
    "one layer": {"target_modules": ["k_proj"], "layers_to_transform": [0]},
    "with a head": {"target_modules": ["o_proj"], "modules_to_save": ["lm_head"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("models") / "base")


def lora(**options: Any) -> Any:
    return peft.LoraConfig(
        task_type="CAUSAL_LM", init_lora_weights=False, r=4, lora_alpha=32, **options
    )


def plain(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def adapter(base: Path, folder: Path, seed: int = 0, **options: Any) -> Path:
    """A folder as peft saves an adapter of a model."""
    torch.manual_seed(seed)
    peft.get_peft_model(plain(base), lora(**options)).save_pretrained(folder)
    return folder


@torch.no_grad()
def stock(model: Any) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([TEXT]), use_cache=False).logits[0, :-1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(TEXT)[1:, None])[:, 0]


def check_same(ours: lengthwise.Model, theirs: Any) -> None:
    """Scores and greedy text are those of peft."""
    assert float((ours.score(TEXT) - stock(theirs)).abs().max()) <= 3e-5
    said = theirs.generate(
        input_ids=torch.tensor([TEXT]), max_new_tokens=8, do_sample=False, eos_token_id=None
    )[0, len(TEXT) :].tolist()
    for recipe in ("full", "streaming(window=100) + lookup"):
        assert ours.generate(TEXT, recipe, max_new_tokens=8, stop_ids=[]).token_ids == said


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_loaded_from_its_folder(base: Path, kind: str, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter", **KINDS[kind])
    loaded = lengthwise.load(folder, "float32", "cpu")
    theirs = peft.PeftModel.from_pretrained(plain(base), folder).eval()
    check_same(loaded, theirs)
    assert float((loaded.score(TEXT) - stock(plain(base))).abs().max()) > 0.05
    assert "adapter" in loaded.provenance.source and "supported" in str(loaded.check())
    check_same(loaded, theirs.merge_and_unload())


def test_a_merged_model_is_a_plain_one(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter", **KINDS["LoRA"])
    merged = peft.PeftModel.from_pretrained(plain(base), folder).merge_and_unload()
    wrapped = lengthwise.wrap(merged)
    assert wrapped.adapted.fast is not None
    check_same(wrapped, merged)


def test_adapters_are_switched_between_requests(base: Path, tmp_path: Path) -> None:
    first = adapter(base, tmp_path / "first", **KINDS["LoRA"])
    second = adapter(base, tmp_path / "second", 1, **KINDS["DoRA"])
    given = peft.PeftModel.from_pretrained(plain(base), first, adapter_name="first")
    given.load_adapter(second, adapter_name="second")
    wrapped = lengthwise.wrap(given.eval())
    alone = {}
    for name in ("first", "second", "first"):
        given.set_adapter(name)
        check_same(wrapped, given)
        alone[name] = wrapped.score(TEXT)
    assert float((alone["first"] - alone["second"]).abs().max()) > 0.05
    given.base_model.set_adapter(["first", "second"])
    check_same(wrapped, given)
    with given.disable_adapter():
        check_same(wrapped, plain(base))
    given.merge_adapter()
    check_same(wrapped, given)


def test_weighted_adapters_run(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "first", **KINDS["LoRA"])
    given = peft.PeftModel.from_pretrained(plain(base), folder, adapter_name="first")
    given.add_adapter("second", lora(**KINDS["LoRA"]))
    given.add_weighted_adapter(["first", "second"], [0.7, 0.4], "both", "linear")
    given.set_adapter("both")
    check_same(lengthwise.wrap(given.eval()), given)


def test_adapters_of_transformers_itself_run(base: Path, tmp_path: Path) -> None:
    model = plain(base)
    model.load_adapter(str(adapter(base, tmp_path / "adapter", **KINDS["LoRA"])))
    wrapped = lengthwise.wrap(model.eval())
    check_same(wrapped, model)
    model.disable_adapters()
    check_same(wrapped, plain(base))


def test_an_adapter_of_a_placed_model(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "adapter", **KINDS["LoRA"])
    whole = lengthwise.load(folder, "float32", "cpu")
    placed = lengthwise.load(folder, "float32", device_map="auto")
    assert torch.allclose(placed.score(TEXT), whole.score(TEXT), atol=3e-5)
    with pytest.raises(ModelError, match="where peft puts no adapter; merge it"):
        lengthwise.load(folder, "float32", device_map={"": "cpu", "model.layers.0.mlp": "disk"})


def test_the_base_may_be_named_from_the_folder_of_the_adapter(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    folder = adapter(base, tmp_path / "adapter", **KINDS["LoRA"])
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "../base"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    theirs = peft.PeftModel.from_pretrained(plain(base), folder).eval()
    check_same(lengthwise.load(folder, "float32", "cpu"), theirs)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ('{"peft_type": "LORA"}', "names no base_model_name_or_path"),
        ("[]", "names no base_model_name_or_path"),
        ("{", "cannot be read"),
        pytest.param("[" * 100_000, "cannot be read", id="deep"),
        ('{"base_model_name_or_path": "no/where/to be found"}', "an adapter of 'no/where/to be"),
    ],
)
def test_an_adapter_without_its_base_is_said(said: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(said)
    with pytest.raises(ModelError) as caught:
        lengthwise.load(tmp_path)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


def test_without_peft_it_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = adapter(base, tmp_path / "adapter", **KINDS["LoRA"])
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match="pip install peft"):
        lengthwise.load(folder)


def test_adapters_that_do_not_fit_or_do_not_live_in_layers_are_said(
    base: Path, tmp_path: Path
) -> None:
    tokens = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    peft.get_peft_model(plain(base), tokens).save_pretrained(tmp_path / "prompt")
    with pytest.raises(UnsuitableModel, match="3 virtual tokens"):
        lengthwise.load(tmp_path / "prompt", "float32", "cpu")
    folder = adapter(base, tmp_path / "adapter", **KINDS["LoRA"])
    (folder / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be put into its model"):
        lengthwise.load(folder, "float32", "cpu")
