"""The 4-bit blocks of a GGUF file as int4 weights, without rounding them a second time.

- `Q4_0`: 32 weights share a scale d, w = d (q - 8);
- `Q4_1`: and an offset m, w = d q + m;
- `Q4_K`: 8 such blocks of 32 share two 16-bit numbers, their own scales and offsets have 6 bits.

All are what `low_bit.from_int4` holds: w = (q - 8) * scale + zero. Scales and zeros are rounded to
the model's dtype, which moves a weight by 1/32 of a step at most. Tensors of more bits (`Q5_K`,
`Q6_K`, `Q8_0`) are held in int8; PyTorch multiplies by no other blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lengthwise.models.low_bit import LowBit, from_int4, low_bit
from lengthwise.models.quantised import Held, matrix

Blocks = npt.NDArray[np.uint8]
# Whole numbers `[rows, in]`, and of each 32 of them the scale and the zero, float32.
Parts = tuple[Tensor, Tensor, Tensor]


def _q4_0(blocks: Blocks) -> Parts:
    scale = _half(blocks[..., :2])
    return _nibbles(blocks[..., 2:], 16), scale, torch.zeros_like(scale)


def _q4_1(blocks: Blocks) -> Parts:
    scale, offset = _half(blocks[..., :2]), _half(blocks[..., 2:4])
    return _nibbles(blocks[..., 4:], 16), scale, offset + 8 * scale


def _q4_k(blocks: Blocks) -> Parts:
    flat = blocks.reshape(-1, blocks.shape[-1])
    small, least = gguf.quants.Q4_K.get_scale_min(flat[:, 4:16])
    shape = (*blocks.shape[:-1], 8)
    scale = _half(blocks[..., :2])[..., None] * _tensor(small).view(shape)
    offset = -_half(blocks[..., 2:4])[..., None] * _tensor(least).view(shape)
    whole = _nibbles(blocks[..., 16:], 32)
    return whole, scale.flatten(-2), (offset + 8 * scale).flatten(-2)


READERS: Mapping[str, Callable[[Blocks], Parts]] = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q4_K": _q4_k}


def low_bit_of(model: PreTrainedModel, path: Path, device: torch.device | None = None) -> Held:
    """The linear layers of a model that a GGUF file gave, in the bits that the file holds them in.

    Each is made when it is asked for, so that it may take the place of the wide one.

    Args:
        model: as transformers unpacked it, on the CPU; its weights say what order the rows have.
        path: the file.
        device: where the weights are to be; None is the CPU.

    Returns:
        The weight of a linear layer by its name; None where the file holds it wide, or where what
        it holds is not what the model has.
    """
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    names = _names(reader, model)

    def held(name: str) -> LowBit | None:
        tensor = tensors.get(names(name) or "")
        return None if tensor is None else _held(tensor, matrix(model.get_submodule(name)), device)

    return held


def _held(tensor: gguf.ReaderTensor, wide: Tensor, device: torch.device | None) -> LowBit | None:
    """What a file holds of a layer's weight; None as above."""
    kind = tensor.tensor_type.name
    if kind not in READERS:
        small = kind not in ("F32", "F16", "BF16")
        return low_bit(wide.to(device), "int8") if small else None
    rows = tensor.data.reshape(len(wide), -1, _block_bytes(tensor))
    whole, scales, zeros = (part.flatten(1) for part in READERS[kind](rows))
    if whole.shape != wide.shape or (order := _order(whole, scales, zeros, wide)) is None:
        return None
    scales, zeros = (part[order].to(device, wide.dtype) for part in (scales, zeros))
    return from_int4(whole[order].to(device), scales, zeros)


def _names(reader: gguf.GGUFReader, model: PreTrainedModel) -> Callable[[str], str | None]:
    """The tensor of a layer, as GGUF calls it."""
    field = reader.get_field("general.architecture")
    architecture = "" if field is None else field.contents()
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in kinds:
        return lambda name: None
    layers = model.config.get_text_config().num_hidden_layers
    table = gguf.get_tensor_name_map(kinds[architecture], layers)

    def name_of(layer: str) -> str | None:
        found = table.get_name(layer)
        return None if found is None else f"{found}.weight"

    return name_of


def _order(whole: Tensor, scales: Tensor, zeros: Tensor, wide: Tensor) -> Tensor | None:
    """Which row of the file each row of the model is: some families turn those of queries and keys
    about. None where they are not the same rows."""
    groups = whole.view(*scales.shape, -1)
    ours = ((groups - 8) * scales[..., None]).add_(zeros[..., None]).view(wide.shape)
    ours, theirs = ours.to(wide.dtype), wide
    order = torch.arange(len(wide))
    if not _alike(ours, theirs):
        # A row is known by what it gives for some numbers; sorted by that, both are in one order.
        drawn = torch.randn(wide.shape[1], generator=torch.Generator().manual_seed(0)).double()
        order[(theirs.double() @ drawn).argsort()] = (ours.double() @ drawn).argsort()
        if not _alike(ours[order], theirs):
            return None
    return order


def _alike(ours: Tensor, theirs: Tensor) -> bool:
    """Whether weights are the same but for the dtype that one of them was rounded to."""
    off = (ours - theirs).float().norm()
    return bool(off <= 1e-2 * theirs.float().norm())


def _block_bytes(tensor: gguf.ReaderTensor) -> int:
    return int(gguf.GGML_QUANT_SIZES[tensor.tensor_type][1])


def _half(pairs: Blocks) -> Tensor:
    """16-bit floats `[..., 2]` bytes -> float32 `[...]`."""
    return _tensor(np.ascontiguousarray(pairs).view(np.float16)[..., 0].astype(np.float32))


def _nibbles(packed: Blocks, run: int) -> Tensor:
    """int32 `[rows, blocks, weights]`: of `run` bytes all the low halves, then all the high."""
    runs = packed.reshape(*packed.shape[:-1], -1, run)
    whole = np.stack((runs & 15, runs >> 4), -2)
    return torch.from_numpy(whole.reshape(*packed.shape[:-1], -1).astype(np.int32))


def _tensor(numbers: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.asarray(numbers, dtype=np.float32).copy())


__all__ = ["READERS", "low_bit_of"]
