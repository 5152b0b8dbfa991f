"""What objects hold, as plain data and tensors, and back: no code is read from a file.

    None, bool, int, float, str      as they are
    tensor, dtype                    {"tensor": name}, {"dtype": name}
    list, tuple, dict                {"list": ...}, {"tuple": ...}, {"items": pairs}
    a dataclass of the recipe's      {"class": name, "fields": ...}
    an object inside an object       {"object": ...}, put into the one that the recipe made

Classes are looked up by name among the dataclasses that the modules of a recipe's own objects know,
and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

Classes = dict[str, type[Any]]
_PLAIN = (type(None), bool, int, float, str)


class Unstorable(Exception):
    """Something that is no plain data: what holds it, and what it is."""


class Damaged(Exception):
    """Data that no object was packed into."""


def classes_of(objects: Iterable[object]) -> Classes:
    """Dataclasses by name that the modules of some objects, and of what these hold, know.

    Args:
        objects: such as a codec; None is left out.
    """
    found: Classes = {}
    for each in objects:
        if each is None:
            continue
        inside = vars(each).values() if hasattr(each, "__dict__") else ()
        for module in {type(part).__module__ for part in (each, *inside)}:
            names = vars(sys.modules[module]) if module in sys.modules else {}
            found |= {
                cls.__name__: cls
                for cls in names.values()
                if isinstance(cls, type) and is_dataclass(cls)
            }
    return found


class Packer:
    """Packs values; their tensors are gathered in `tensors`, by name."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def tensor(self, value: Tensor) -> dict[str, str]:
        """A tensor, in memory of its own that holds nothing else."""
        name = f"t{len(self.tensors)}"
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        self.tensors[name] = value if whole and value.is_contiguous() else value.clone(
            memory_format=torch.contiguous_format
        )  # fmt: skip
        return {"tensor": name}

    def pack(self, value: Any, where: str, classes: Classes) -> Any:
        """A value as plain data.

        Args:
            value: anything.
            where: who holds it, for the error.
            classes: dataclasses that may be named.

        Raises:
            Unstorable: for what is no such data.
        """
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if type(value) in (list, tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self.pack(each, where, classes) for each in value]}
        if type(value) is dict:
            pairs = [[self.pack(x, where, classes) for x in pair] for pair in value.items()]
            return {"items": pairs}
        name = type(value).__name__
        if is_dataclass(value) and classes.get(name) is type(value):
            return {"class": name, "fields": {
                each.name: self.pack(getattr(value, each.name), where, classes)
                for each in fields(value)
            }}  # fmt: skip
        raise Unstorable(f"{where} holds a {name}")

    def state(self, held: object, fresh: object, where: str, classes: Classes) -> dict[str, Any]:
        """What an object holds that a fresh one does not.

        Args:
            held: an object that a recipe made, some time ago.
            fresh: one that it makes now.
            where: who it belongs to, for the error.
            classes: dataclasses that may be named.

        Raises:
            Unstorable: for attributes that are no plain data.
        """
        if not hasattr(held, "__dict__"):
            raise Unstorable(f"{where}: a {type(held).__name__} shows no attributes")
        before, found = vars(fresh), {}
        for name, value in vars(held).items():
            mine = before.get(name)
            if _same(value, mine):
                continue
            if mine is not None and type(mine) is type(value) and _opaque(value, classes):
                found[name] = {"object": self.state(value, mine, where, classes)}
            else:
                found[name] = self.pack(value, f"{where}.{name}", classes)
        return found


def unpack(data: Any, read: Callable[[str], Tensor], classes: Classes) -> Any:
    """The value that was packed.

    Args:
        data: as `Packer.pack` gave it.
        read: a tensor by its name.
        classes: dataclasses that may be named.

    Raises:
        Damaged: for data of another form.
    """
    if type(data) in _PLAIN:
        return data
    match data:
        case {"tensor": str(name)}:
            return read(name)
        case {"dtype": str(name)} if isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        case {"list": list(values)}:
            return [unpack(each, read, classes) for each in values]
        case {"tuple": list(values)}:
            return tuple(unpack(each, read, classes) for each in values)
        case {"items": list(pairs)}:
            return {unpack(k, read, classes): unpack(v, read, classes) for k, v in pairs}
        case {"class": str(name), "fields": dict(values)} if name in classes:
            cls = classes[name]
            if set(values) != {each.name for each in fields(cls)}:
                raise Damaged(f"{name} has other fields")
            return cls(**{key: unpack(value, read, classes) for key, value in values.items()})
    raise Damaged(f"there is no such value: {str(data)[:60]}")


def restore(
    fresh: object, data: dict[str, Any], read: Callable[[str], Tensor], classes: Classes
) -> None:
    """Puts what an object held into a fresh one.

    Args:
        fresh: which the recipe made.
        data: as `Packer.state` gave it.
        read: a tensor by its name.
        classes: dataclasses that may be named.

    Raises:
        Damaged: for attributes that it has not, and values that are none.
    """
    for name, value in data.items():
        if name not in vars(fresh):
            raise Damaged(f"{type(fresh).__name__} has no {name}")
        if isinstance(value, dict) and set(value) == {"object"}:
            restore(getattr(fresh, name), value["object"], read, classes)
        else:
            object.__setattr__(fresh, name, unpack(value, read, classes))


def _same(value: object, mine: object) -> bool:
    """Whether two values are the same; tensors are where they are one."""
    if value is mine:
        return True
    if isinstance(value, Tensor) or isinstance(mine, Tensor) or type(value) is not type(mine):
        return False
    try:
        return bool(value == mine)
    except (RuntimeError, ValueError, TypeError):
        # Tensors inside, which are equal number by number.
        return False


def _opaque(value: object, classes: Classes) -> bool:
    """Whether a value is an object that is no data."""
    plain = isinstance(value, (*_PLAIN, Tensor, torch.dtype, list, tuple, dict))
    return not plain and hasattr(value, "__dict__") and type(value).__name__ not in classes
