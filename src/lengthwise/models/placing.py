"""Where the parts of a model go: one device, or a map of transformers over several, CPU memory and
disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

import accelerate
import torch
from accelerate.utils import get_balanced_memory, get_max_memory
from torch import nn
from transformers import PreTrainedModel

from lengthwise._utils.devices import fastest_device
from lengthwise._utils.messages import first_line
from lengthwise.errors import ModelError
from lengthwise.models.quantised import require_format

# Maps that transformers makes by itself, of what is free.
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
# Where weights wait to be brought to a device that computes. Parts "cpu" compute there where no
# accelerator takes part.
STORES = ("cpu", "disk")

DeviceMap = str | int | torch.device | Mapping[str, str | int | torch.device]
MaxMemory = Mapping[str | int, str | int]


@dataclass(frozen=True)
class Placing:
    """Where the parts of a model go.

    device: where tokens go first, and what a dtype is chosen for. map: None for all of it on that
    device, one of STRATEGIES, or places by the names of modules. max_memory: the most that
    a strategy may use of each device. offload_folder: takes weights for which the map says "disk",
    where they cannot stay in the model's own files. weights: of `low_bit.FORMATS`, what linear
    layers hold theirs in; None leaves them as they come.
    """

    device: torch.device
    map: str | dict[str, Any] | None = None
    max_memory: MaxMemory | None = None
    offload_folder: str | None = None
    weights: str | None = None

    def arguments(self, quantised: bool) -> dict[str, Any]:
        """What `from_pretrained` is told.

        Args:
            quantised: whether weights are quantised: those are put in place while they are read, as
                some cannot be moved.
        """
        if self.map is None:
            return {"device_map": {"": self.device}} if quantised else {}
        found = {
            "device_map": self.map, "max_memory": self.max_memory,
            "offload_folder": self.offload_folder,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    def over(self, model: nn.Module) -> Placing:
        """The same for one model: of parts that lie in one another the inner ones are taken out of
        the outer, as accelerate wants it.

        Args:
            model: whose parts are named; it needs no values.

        Raises:
            ModelError: for names that are no parts, and for parts without a place.
        """
        if not isinstance(self.map, dict):
            return self
        parts = {name for name, _ in [*model.named_modules(), *model.named_parameters()]}
        if unknown := [name for name in self.map if name not in parts]:
            raise ModelError(f"device_map: {unknown[0]!r} is no part of this model")
        found: dict[str, Any] = {}
        _take_apart("", model, self.map, None, found)
        if left := [name for name, place in found.items() if place is None]:
            raise ModelError(f"device_map gives no place to {left[0]!r}; give it one, or '' to all")
        return replace(self, map=found)

    def dispatch(self, model: PreTrainedModel) -> None:
        """Puts a model that lies in CPU memory where it goes; or raises ModelError."""
        if self.map is None:
            model.to(self.device)  # type: ignore[arg-type]
            return
        try:
            mine = self.over(model).map
            places = mine if isinstance(mine, dict) else self._infer(model)
            accelerate.dispatch_model(model, places, offload_dir=self.offload_folder)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"device_map does not fit this model ({first_line(error)})") from error

    def _infer(self, model: PreTrainedModel) -> dict[str, Any]:
        whole: list[str] = list(model._no_split_modules or ())
        most = dict(self.max_memory) if self.max_memory is not None else None
        room = get_max_memory(most)
        if self.map != "sequential":
            low = self.map == "balanced_low_0"
            room = get_balanced_memory(model, room, whole, dtype=model.dtype, low_zero=low)
        found: dict[str, Any] = accelerate.infer_auto_device_map(
            model, room, whole, dtype=model.dtype
        )
        return found


def _take_apart(
    name: str, part: nn.Module, places: dict[str, Any], outer: Any, found: dict[str, Any]
) -> None:
    """Fills found with the places of a part, or of what is in it where that has places of its own.
    outer: the place of what the part is in."""
    place = places.get(name, outer)
    below = f"{name}." if name else ""
    if name in places or outer is not None:
        if not any(other.startswith(below) and other != name for other in places):
            found[name] = place
            return
    elif not any(other.startswith(below) for other in places):
        if next(part.parameters(), None) is not None:
            found[name] = None
        return
    for own, _ in part.named_parameters(recurse=False):
        found[below + own] = places.get(below + own, place)
    for child, inner in part.named_children():
        _take_apart(below + child, inner, places, place, found)


def find_device(device: str | int | torch.device | None = None) -> torch.device:
    """`device` if this machine has it; for None its accelerator, or else the CPU."""
    if device is None:
        return fastest_device()
    try:
        place = torch.device(device)
        if place.type == "meta" or (place.type == "cpu" and place.index):
            there = "it holds no numbers" if place.type == "meta" else "there is one CPU, 'cpu'"
            raise ModelError(f"device {str(device)!r} is not to be had here ({there})")
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        cause = first_line(error)
        raise ModelError(f"device {str(device)!r} is not to be had here ({cause})") from error
    return place


def placing(
    device: str | torch.device | None = None, device_map: DeviceMap | None = None,
    max_memory: MaxMemory | None = None, offload_folder: str | PathLike[str] | None = None,
    weights: str | None = None,
) -> Placing:  # fmt: skip
    """Reads where a model is to go.

    Args:
        device: for all of it; None is the accelerator if there is one, else the CPU.
        device_map: instead, one of STRATEGIES, a device, or places by the names of modules:
            devices, their numbers, "cpu" or "disk".
        max_memory: the most that a strategy may use, by device: bytes, or text such as "10GiB".
        offload_folder: for weights on disk that cannot stay in the model's own files.
        weights: "int8" or "int4", what linear layers hold theirs in; None leaves them as they come.

    Raises:
        ModelError: for what is not to be had here, or no such map.
        LengthwiseError: for a format of weights that there is not.
    """
    require_format(weights)
    if device_map is None:
        if max_memory is not None or offload_folder is not None:
            name = "max_memory" if max_memory is not None else "offload_folder"
            raise ModelError(f"{name} is of use with a device_map alone; give device_map='auto'")
        return Placing(find_device(device), weights=weights)
    if weights is not None:
        raise ModelError("weights= and device_map are both given; give one of them")
    if device is not None:
        raise ModelError("device and device_map are both given; give one of them")
    most = None if max_memory is None else _memory(max_memory)
    folder = None if offload_folder is None else fspath(offload_folder)
    if isinstance(device_map, str) and device_map in STRATEGIES:
        return Placing(find_device(), device_map, most, folder)
    if isinstance(device_map, str | int | torch.device):
        device_map = {"": device_map}
    if not isinstance(device_map, Mapping) or not device_map:
        raise ModelError(
            f"device_map={device_map!r}: give one of {', '.join(STRATEGIES)}, a device, or devices "
            'by the names of modules, such as {"model.embed_tokens": 0, "model.layers.0": "cpu"}'
        )
    places = {name: _place(name, value) for name, value in device_map.items()}
    if most is not None:
        raise ModelError(
            "max_memory is of use with a strategy alone, and this device_map says where each part "
            f"goes; leave it out, or give device_map={STRATEGIES[0]!r}"
        )
    running = [value for value in places.values() if isinstance(value, torch.device)]
    return Placing(running[0] if running else torch.device("cpu"), places, None, folder)


def _place(name: Any, value: Any) -> torch.device | str:
    """A device of a map, or one of STORES."""
    if not isinstance(name, str):
        raise ModelError(f"device_map: {name!r} is no name of a module")
    if isinstance(value, bool) or not isinstance(value, str | int | torch.device):
        raise ModelError(f"device_map: {value!r} of {name!r} is no device; give 0, 'cpu' or 'disk'")
    if str(value) in STORES:
        return str(value)
    try:
        return find_device(f"cuda:{value}" if isinstance(value, int) else value)
    except ModelError as error:
        raise ModelError(f"device_map of {name or 'the model'!r}: {error}") from error


def _memory(given: Any) -> MaxMemory:
    if not isinstance(given, Mapping) or not given:
        raise ModelError(f"max_memory={given!r}: give memory by device, such as {{0: '10GiB'}}")
    return given


__all__ = [
    "STORES", "STRATEGIES", "DeviceMap", "MaxMemory", "Placing", "find_device", "placing"
]  # fmt: skip
