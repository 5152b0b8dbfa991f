"""Whether a model's weights fit where they are to lie, asked before they are read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lengthwise._utils.machine import free_memory
from lengthwise.errors import ModelError
from lengthwise.models.low_bit import BITS, FORMATS
from lengthwise.models.placing import Placing
from lengthwise.models.prequantised import method_of, stays_packed
from lengthwise.models.quantised import is_linear, matrix

# Files that weights are in; transformers reads the first kind that is there.
WEIGHTS = ("*.safetensors", "*.bin")
SPREAD = "device_map='auto' puts the rest on other devices, in CPU memory and on disk"
PARTLY = "a folder of safetensors takes less here, with weights='int4' or device_map='auto'"
Place = torch.device | str


def require_fits(name: str, local: bool, dtype: torch.dtype, place: Placing) -> None:
    """Raises ModelError for a model larger than the memory that is free where it goes.

    A strategy such as "auto" leaves what does not fit on disk, so it refuses nothing. What cannot
    be told beforehand (a model that transformers does not know by itself, quantised weights of a
    hub, a device that does not say) is left to the loading.

    Args:
        name: a folder or a hub name.
        local: whether the hub is not to be asked.
        dtype: that the weights are loaded in; quantised ones are as large as their files.
        place: where they go.
    """
    if isinstance(place.map, str):
        return
    small = is_quantised(name, local)
    for where, size in _needs(name, local, dtype, place).items():
        free = _free(where, place)
        if free is None or size <= free:
            continue
        what = "its weights take" if place.map is None else f"what goes to {where} takes"
        kind = _named(dtype) if place.weights is None else place.weights
        how = "as they are" if small else f"in {kind}"
        remedy = "put fewer layers there, or give device_map='auto'"
        if place.map is None:
            remedy = (None if small else _smaller(name, local, dtype, place, free)) or SPREAD
        raise _too_large(f"{name}: {what}", size, how, free, where, remedy)


def require_unpacked_fits(path: Path, numbers: int, dtype: torch.dtype, place: Placing) -> None:
    """Raises ModelError for a GGUF file that is larger, unpacked, than the memory that is free.

    It is unpacked in CPU memory wherever it goes from there, and in however few bits.

    Args:
        path: the file.
        numbers: weights in it.
        dtype: that they are unpacked to.
        place: where they go.
    """
    size, cpu = numbers * dtype.itemsize, torch.device("cpu")
    # What a map or fewer bits put on a device is known behind the unpacking.
    whole = place.map is None and place.weights is None
    for where in dict.fromkeys((cpu, place.device) if whole else (cpu,)):
        free = free_on(where)
        if free is None or size <= free:
            continue
        remedy = PARTLY if where == cpu else SPREAD
        if dtype.itemsize > 2 and (half := 2 * numbers) <= free:
            remedy = f"dtype='bfloat16' takes {half / 1e9:.1f} GB, which fits"
        how = f"unpacked to {_named(dtype)}"
        raise _too_large(f"{path}: its weights take", size, how, free, where, remedy)


def _too_large(what: str, size: int, how: str, free: int, where: Place, remedy: str) -> ModelError:
    return ModelError(
        f"{what} {size / 1e9:.1f} GB {how}, and {free / 1e9:.1f} GB are free on {where}: "
        f"{(size - free) / 1e9:.1f} GB are missing; {remedy}"
    )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _smaller(name: str, local: bool, dtype: torch.dtype, place: Placing, free: int) -> str | None:
    """The first of the ways to hold the model in fewer bits that would fit."""
    half = torch.bfloat16 if dtype.itemsize > 2 else dtype
    ways: dict[str, tuple[torch.dtype, str | None]] = {}
    if half != dtype:
        ways["dtype='bfloat16'"] = half, place.weights
    for small in FORMATS if place.weights is None else ():
        ways[f"weights={small!r}"] = half, small
    for text, kind in ways.items():
        size = weight_bytes(name, local, *kind)
        if size is not None and size <= free:
            return f"{text} takes {size / 1e9:.1f} GB, which fits"
    return None


def _needs(name: str, local: bool, dtype: torch.dtype, place: Placing) -> dict[Place, int]:
    """Bytes that go to each place; none where that cannot be told."""
    places = {"": place.device} if place.map is None else place.map
    if isinstance(places, str):
        return {}
    if set(places) == {""}:
        size = weight_bytes(name, local, dtype, place.weights)
        return {} if size is None else {places[""]: size}
    model = None if is_quantised(name, local) else hollow(name, local)
    found: dict[Place, int] = {}
    for parameter, weight in () if model is None else model.named_parameters():
        where = next((places[above] for above in _above(parameter) if above in places), None)
        if where is not None:
            found[where] = found.get(where, 0) + weight.numel() * dtype.itemsize
    return found


def _above(name: str) -> Iterator[str]:
    """A parameter's name, then those of the modules it is in, the innermost first."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def _free(where: Place, place: Placing) -> int | None:
    """Bytes that are free in a place; None for a disk on which weights stay in their own files."""
    if where != "disk":
        return free_on(torch.device(where))
    if place.offload_folder is None:
        return None
    folder = Path(place.offload_folder).absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free


def free_on(device: torch.device) -> int | None:
    """Bytes that are free on a device, of a CPU with what may be swapped out; None where it does
    not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory(swap=True) if device.type == "cpu" else None


def weight_bytes(
    name: str, local: bool, dtype: torch.dtype, weights: str | None = None
) -> int | None:
    """Bytes of all weights of a model in a dtype, from its configuration alone; of quantised ones,
    of their files. None where that does not tell. weights: what linear layers hold theirs in,
    "int8" or "int4"."""
    if is_quantised(name, local):
        kinds = [[*Path(name).glob(kind)] for kind in WEIGHTS] if local else []
        files = next(filter(None, kinds), [])
        return sum(path.stat().st_size for path in files) or None
    model = hollow(name, local)
    if model is None:
        return None
    every: int = sum(weight.numel() for weight in model.parameters())
    if weights is None:
        return every * dtype.itemsize
    head = model.get_output_embeddings()
    small = {weights: 0, "int8": 0}
    for layer in filter(is_linear, model.modules()):
        small["int8" if layer is head else weights] += matrix(layer).numel()
    # A head that is tied gets weights of its own.
    tied = head is not None and model.config.get_text_config().tie_word_embeddings
    wide: int = every - sum(small.values()) + (matrix(head).numel() if tied else 0)
    return wide * dtype.itemsize + int(sum(small[name] * BITS[name] / 8 for name in small))


def is_quantised(name: str, local: bool) -> bool:
    """Whether weights were quantised before they were saved, and stay so in memory."""
    method = method_of(_config(name, local))
    return method is not None and stays_packed(method)


def _config(name: str, local: bool) -> Any:
    try:
        return AutoConfig.from_pretrained(name, local_files_only=local)
    except Exception:  # The loading finds the same, and says it.
        return None


def hollow(name: str, local: bool) -> Any:
    """The model of a configuration without values; None where transformers makes none."""
    config = _config(name, local)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except Exception:  # As above.
        return None


__all__ = [
    "free_on", "hollow", "is_quantised", "require_fits", "require_unpacked_fits", "weight_bytes"
]  # fmt: skip
