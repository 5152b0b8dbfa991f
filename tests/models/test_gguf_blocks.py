"""4-bit blocks of a GGUF file, kept as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

import lengthwise
from lengthwise._utils.embedded_file import find_gguf
from lengthwise.models import gguf_blocks
from lengthwise.models.gguf_blocks import READERS, low_bit_of
from lengthwise.models.gguf_files import load_gguf_model
from lengthwise.models.low_bit import LowBit
from lengthwise.models.quantised import LowBitLinear, is_linear, matrix, quantise
from tests.models.gguf_cases import ROPE_BASE, small_llama, write_gguf


def blocks_of(kind: str, rows: int, inputs: int) -> tuple[Any, torch.Tensor]:
    """Bytes of random weights in blocks, and what GGUF's own reader makes of them."""
    generator = np.random.default_rng(0)
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    raw = generator.integers(0, 256, (rows, inputs // block, size), dtype=np.uint8)
    halves = generator.uniform(0.01, 0.1, (rows, inputs // block, 2)).astype(np.float16)
    # Random bytes are no scales: some are infinite.
    count = 1 if kind == "Q4_0" else 2
    raw[..., : 2 * count] = halves[..., :count].copy().view(np.uint8)
    wide = gguf.dequantize(raw.reshape(rows, -1), gguf.GGMLQuantizationType[kind])
    return raw, torch.from_numpy(wide.reshape(rows, inputs).copy())


@pytest.mark.parametrize("inputs", [256, 768])
@pytest.mark.parametrize("kind", sorted(READERS))
def test_blocks_are_read_as_gguf_reads_them(kind: str, inputs: int) -> None:
    raw, wide = blocks_of(kind, 5, inputs)
    whole, scale, zero = READERS[kind](raw)
    assert whole.flatten(1).shape == wide.shape and scale.flatten(1).shape == (5, inputs // 32)
    groups = whole.reshape(5, -1, 32)
    found = (groups - 8) * scale.reshape(5, -1, 1) + zero.reshape(5, -1, 1)
    assert torch.allclose(found.view(5, inputs), wide, atol=1e-5)


def test_rows_are_found_in_whatever_order_the_family_has_them() -> None:
    raw, wide = blocks_of("Q4_0", 64, 256)
    whole, scale, zero = (part.flatten(1) for part in READERS["Q4_0"](raw))
    turned = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    order = gguf_blocks._order(whole, scale, zero, wide[turned])
    assert order is not None and torch.equal(order, turned)
    assert gguf_blocks._order(whole, scale, zero, wide + 1) is None


@pytest.mark.parametrize(("kind", "held"), [("Q4_0", "int4"), ("Q8_0", "int8"), ("F32", None)])
def test_layers_are_read_one_by_one_in_the_place_of_wide_ones(
    tmp_path: Path, kind: str, held: str | None
) -> None:
    path = tmp_path / "small.gguf"
    write_gguf(path, small_llama({**ROPE_BASE, "rope_type": "default"}), {}, {}, kind)
    model = load_gguf_model(path, torch.float32)
    wide = {name: layer for name, layer in model.named_modules() if is_linear(layer)}
    weights = {name: matrix(layer).detach().clone() for name, layer in wide.items()}
    asked: list[str] = []
    low_bit = low_bit_of(model, path)

    def watched(name: str) -> LowBit | None:
        # What was asked for before is wide no more.
        assert all(isinstance(model.get_submodule(each), LowBitLinear) for each in asked)
        asked.append(name)
        found = low_bit(name)
        assert (found and found.name) == held
        return found

    quantise(model, "int4", held=watched)
    assert asked == list(wide) and len(asked) == 6
    for name, weight in weights.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, LowBitLinear)
        # Blocks are kept as they are; what is rounded anew is near.
        near = 1e-6 if kind == "Q4_0" else 0.1 * float(weight.abs().max())
        assert torch.allclose(layer.weight, weight, atol=near)


@pytest.mark.slow
def test_load_holds_a_file_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    path = find_gguf()
    if path is None:
        pytest.skip("the embedded model is not here")
    wide: dict[str, torch.Tensor] = {}

    kinds: list[str] = []

    def watched(model: Any, *args: Any) -> Any:
        low_bit = low_bit_of(model, *args)

        def held(name: str) -> LowBit | None:
            if ".layers.3." in name:
                wide[name] = model.get_submodule(name).weight.clone()
            if (found := low_bit(name)) is not None:
                kinds.append(found.name)
            return found

        return held

    monkeypatch.setattr("lengthwise.models.load.low_bit_of", watched)
    model = lengthwise.load(path, "float32", "cpu", weights="int4")
    assert len(wide) == 7 and kinds == ["int4"] * 7 * 30
    for name, weight in wide.items():
        layer = model.adapted.model.get_submodule(name)
        assert isinstance(layer, LowBitLinear)
        assert torch.allclose(layer.weight, weight, atol=1e-6)
    assert model.provenance.weights == "int4"
    assert model.generate("The capital of France is", max_new_tokens=2).text.strip() == "Paris."
