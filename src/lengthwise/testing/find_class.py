"""A method's class by what is written on the command line, registered or not."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method
from lengthwise.recipes.registry import find


def method_at(place: str) -> type[Method]:
    """The class that NAME, `module:Class` or `path.py:Class` stands for. Raises RecipeError."""
    where, colon, name = place.rpartition(":")
    if not colon:
        return find(place)
    try:
        module = _from_file(Path(where)) if where.endswith(".py") else _module(where)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise RecipeError(f"{where} cannot be imported: {type(error).__name__}: {line}") from None
    cls = getattr(module, name, None)
    if cls is None:
        methods = [each.__name__ for each in vars(module).values() if _is_method(each, module)]
        known = f"; its methods are {', '.join(methods)}" if methods else ""
        raise RecipeError(f"{where} has no {name!r}{known}")
    if not (isinstance(cls, type) and issubclass(cls, Method) and dataclasses.is_dataclass(cls)):
        raise RecipeError(f"{place} is not a dataclass that inherits lengthwise's Method")
    missing = [each for each in ("name", "question", "paper") if not hasattr(cls, each)]
    if missing:
        raise RecipeError(f"{place} lacks the class attribute {' and '.join(missing)}")
    return cls


def _is_method(each: object, module: ModuleType) -> bool:
    ours = isinstance(each, type) and issubclass(each, Method)
    return ours and getattr(each, "__module__", "") == module.__name__


def _module(name: str) -> ModuleType:
    """A module, also one of the folder that the command is run in."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    """The module of a file; what stands beside it can be imported by it."""
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve(strict=True))
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


__all__ = ["method_at"]
