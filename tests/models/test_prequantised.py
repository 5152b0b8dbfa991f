"""Models that were quantised before they came to us: they run as in transformers, or it is said
why not.

Each library is tested where it is installed (`pip install lengthwise[quantised]`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import lengthwise
from lengthwise.errors import ModelError, UnsuitableModel
from lengthwise.methods.calibration import fingerprint
from lengthwise.models import fits, prequantised
from lengthwise.models.fits import is_quantised, weight_bytes
from tests.evaluation.drafting_cases import saved_model

TEXT = list(range(5, 45))


def bits_and_bytes(folder: str, **options: Any) -> Any:
    pytest.importorskip("bitsandbytes")
    return transformers.BitsAndBytesConfig(**options)


def torchao(folder: str, name: str, **options: Any) -> Any:
    quantization = pytest.importorskip("torchao.quantization")
    return transformers.TorchAoConfig(getattr(quantization, name)(**options))


def quanto(folder: str, weights: str) -> Any:
    pytest.importorskip("optimum.quanto")
    return transformers.QuantoConfig(weights=weights)


def gptq(folder: str) -> Any:
    pytest.importorskip("gptqmodel")
    return transformers.GPTQConfig(
        bits=4, dataset=["Keepers wrote down each ship that passed"] * 4, tokenizer=folder,
        group_size=32,
    )  # fmt: skip


# How each is made, and how far scores may be from those of the stock model: rounding of float32
# where products are done in that, and more where a layer rounds what it reads to fewer bits.
EXACT, ROUNDED = 3e-5, 0.15
MADE: dict[str, tuple[Callable[[str], Any], float]] = {
    "bitsandbytes, 8 bits": (lambda f: bits_and_bytes(f, load_in_8bit=True), ROUNDED),
    "bitsandbytes, 4 bits": (lambda f: bits_and_bytes(f, load_in_4bit=True), ROUNDED),
    "bitsandbytes, nf4": (
        lambda f: bits_and_bytes(
            f, load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        ),
        ROUNDED,
    ),
    "torchao, int8": (lambda f: torchao(f, "Int8WeightOnlyConfig"), EXACT),
    "torchao, int8 activations": (
        lambda f: torchao(f, "Int8DynamicActivationInt8WeightConfig"), ROUNDED,
    ),
    "quanto, int8": (lambda f: quanto(f, "int8"), EXACT),
    "quanto, int4": (lambda f: quanto(f, "int4"), EXACT),
    "gptq": (gptq, EXACT),
}  # fmt: skip
# Those that transformers does not save.
UNSAVED = ("quanto, int8", "quanto, int4")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Large enough for the groups and kernels of every library."""
    place = saved_model(tmp_path_factory.mktemp("models") / "plain")
    config = LlamaConfig.from_pretrained(
        place, num_hidden_layers=2, hidden_size=128, intermediate_size=256, head_dim=64
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(place)
    return str(place)


def quantise(plain: str, kind: str) -> Any:
    config = MADE[kind][0](plain)
    return AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"}
    ).eval()


def check_same(ours: lengthwise.Model, stock: Any, most: float) -> None:
    """Scores and greedy text are those of transformers."""
    with torch.no_grad():
        logits = stock(input_ids=torch.tensor([TEXT]), use_cache=False).logits[0, :-1].float()
    theirs = torch.log_softmax(logits, -1).gather(1, torch.tensor(TEXT)[1:, None])[:, 0]
    assert float((ours.score(TEXT) - theirs).abs().max()) <= most
    said = stock.generate(
        torch.tensor([TEXT]), max_new_tokens=8, do_sample=False, eos_token_id=None
    )[0, len(TEXT) :].tolist()
    for recipe in ("full", "streaming(window=100) + lookup"):
        assert ours.generate(TEXT, recipe, max_new_tokens=8, stop_ids=[]).token_ids == said


@pytest.mark.parametrize("kind", MADE)
def test_a_quantised_model_says_what_transformers_says(
    plain: str, kind: str, tmp_path: Path
) -> None:
    stock = quantise(plain, kind)
    wrapped = lengthwise.wrap(stock)
    check_same(wrapped, stock, MADE[kind][1])
    assert fingerprint(wrapped.adapted) and "supported" in str(wrapped.check())
    if kind in UNSAVED:
        return
    stock.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(plain).save_pretrained(tmp_path)
    loaded = lengthwise.load(tmp_path, "float32", "cpu")
    again = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, device_map={"": "cpu"}
    )
    check_same(loaded, again, MADE[kind][1])
    files = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert is_quantised(str(tmp_path), True)
    assert weight_bytes(str(tmp_path), True, torch.float32) == files


def test_compressed_tensors_are_unpacked_before_they_are_asked(plain: str, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        QuantizationStatus,
        apply_quantization_config,
    )

    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    weights = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="channel")
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    groups = {"all": scheme}
    apply_quantization_config(
        model, QuantizationConfig(config_groups=groups, ignore=["lm_head"], format="pack-quantized")
    )
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            most = module.weight.data.abs().amax(1, keepdim=True) / 127
            module.weight_scale.data.copy_(most.reshape(module.weight_scale.shape))
            module.quantization_status = QuantizationStatus.FROZEN
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(tmp_path, state_dict=model.state_dict())
    compressor.update_config(tmp_path)
    AutoTokenizer.from_pretrained(plain).save_pretrained(tmp_path)
    loaded = lengthwise.load(tmp_path, "float32", "cpu")
    check_same(loaded, AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32), EXACT)


def test_a_model_whose_own_forward_fails_is_said(plain: str) -> None:
    model = LlamaForCausalLM.from_pretrained(plain, dtype=torch.float32)
    model.config.quantization_config = {"quant_method": "of a GPU"}
    model.lm_head.forward = lambda x: torch.ops.aten.of_nobody(x)
    with pytest.raises(UnsuitableModel, match="its own forward fails in float32 on cpu"):
        lengthwise.wrap(model)


def test_fp8_is_unpacked_where_there_is_no_gpu(plain: str, tmp_path: Path) -> None:
    """A file as large fp8 models have it: weights in float8 with a scale a block."""
    from safetensors.torch import load_file, save_file

    weights = load_file(Path(plain) / "model.safetensors")
    for name in [name for name in weights if name.endswith("proj.weight")]:
        weight = weights[name]
        scale = weight.abs().amax() / torch.finfo(torch.float8_e4m3fn).max
        weights[name] = (weight / scale).to(torch.float8_e4m3fn)
        blocks = [-(-size // 128) for size in weight.shape]
        weights[f"{name}_scale_inv"] = scale.expand(blocks).contiguous()
    AutoTokenizer.from_pretrained(plain).save_pretrained(tmp_path)
    config = json.loads((Path(plain) / "config.json").read_text())
    said = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    assert not is_quantised(str(tmp_path), True)
    loaded = lengthwise.load(tmp_path, "float32", "cpu")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    check_same(loaded, stock, EXACT)


# What cannot be read here.


def claims(folder: Path, plain: str, **said: Any) -> str:
    """A folder whose configuration says how its weights were quantised."""
    config = json.loads((Path(plain) / "config.json").read_text())
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
    return str(folder)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(prequantised, "find_spec", lambda name: None)
    yield


@pytest.mark.parametrize("method", prequantised.LIBRARIES)
def test_a_missing_library_is_named(
    plain: str, method: str, nothing_installed: None, tmp_path: Path
) -> None:
    folder = claims(tmp_path / "model", plain, quant_method=method, bits=4)
    with pytest.raises(ModelError) as caught:
        lengthwise.load(folder)
    text, packages = str(caught.value), prequantised.LIBRARIES[method].values()
    assert f"quantised by {method!r}" in text and "\n" not in text
    assert f"pip install {' '.join(packages)}" in text


def test_older_configurations_of_bitsandbytes_are_known(
    plain: str, nothing_installed: None, tmp_path: Path
) -> None:
    folder = claims(tmp_path / "model", plain, load_in_4bit=True)
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        lengthwise.load(folder)


def test_a_method_that_transformers_does_not_read_is_named(plain: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'of_nobody', which this release of transformers"):
        lengthwise.load(claims(tmp_path / "model", plain, quant_method="of_nobody"))


def test_every_library_is_one_that_transformers_knows() -> None:
    known = importlib.import_module("transformers.quantizers.auto").AUTO_QUANTIZER_MAPPING
    for method in (*prequantised.LIBRARIES, *prequantised.UNPACKED):
        assert any(name.startswith(method) for name in known), method


def test_quantised_weights_are_as_large_as_their_files(
    plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = claims(tmp_path / "model", plain, quant_method="gptq", bits=4)
    assert weight_bytes(folder, True, torch.float32) is None
    (Path(folder) / "model.safetensors").write_bytes(bytes(1000))
    assert weight_bytes(folder, True, torch.float32) == 1000
    monkeypatch.setattr(fits, "free_memory", lambda swap: 999)
    with pytest.raises(ModelError, match="as they are, .* device_map='auto' puts the rest on"):
        lengthwise.load(folder, "float32", "cpu")
    monkeypatch.setattr(fits, "free_memory", lambda swap: 1000)
    monkeypatch.setattr(prequantised, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install gptqmodel optimum"):
        lengthwise.load(folder, "float32", "cpu")
