"""What a class of ours says of itself, read from the text of its module, which is not imported.

Importing a method imports torch, and all of them take seconds; a list of names and papers should
not wait for that. Only what is written out in the body of the class, or of a class of ours that it
inherits, is read. That is literals, constants of the module and of ours that it imports, names that
the caller gives, their attributes and calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def declared(target: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a class by name, and `__doc__`, the docstring of its module.

    Args:
        target: `module:Class`.
        names: what the text may refer to, by the name it has there.

    Returns:
        The attributes whose values could be read, inherited ones included; none of a module that
        is not ours, or whose text is not installed.
    """
    module, _, name = target.partition(":")
    tree = _tree(module)
    if tree is None:
        return {}
    body = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    if body is None:
        # A module that only hands the name on, as `lengthwise.plugin` does.
        source = _imports(tree).get(name)
        return declared(source, names) if source else {}
    found: dict[str, Any] = {}
    for base in reversed(body.bases):
        if isinstance(base, ast.Name):
            found |= declared(_imports(tree).get(base.id, f"{module}:{base.id}"), names)
    found["__doc__"] = ast.get_docstring(tree)
    for attribute, node in _assigned(body.body):
        try:
            found[attribute] = _value(node, names, module)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # It is made in a way that only an import can follow.
    return found


@cache
def _tree(module: str) -> ast.Module | None:
    package, *rest = module.split(".")
    if package != ROOT.name:
        return None
    path = ROOT.joinpath(*rest).with_suffix(".py")
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


def _imports(tree: ast.Module) -> dict[str, str]:
    """Names that a module imports from others, each with its `module:name`."""
    return {
        alias.asname or alias.name: f"{statement.module}:{alias.name}"
        for statement in tree.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Names that statements give a value, with the expression."""
    for statement in body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value


def _value(node: ast.expr, names: Mapping[str, Any], module: str) -> Any:
    """What an expression of a module gives; raises where it is none of the simple ones."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Tuple():
            return tuple(_value(each, names, module) for each in node.elts)
        case ast.Name():
            if node.id in names:
                return names[node.id]
            return _constant(node.id, names, module)
        case ast.Attribute():
            return getattr(_value(node.value, names, module), node.attr)
        case ast.Call(func=ast.Name(id=function)):
            positional = [_value(each, names, module) for each in node.args]
            named = {str(k.arg): _value(k.value, names, module) for k in node.keywords}
            return names[function](*positional, **named)
    raise ValueError(f"{type(node).__name__} is not read")


def _constant(name: str, names: Mapping[str, Any], module: str) -> Any:
    """A constant of a module of ours, or one that it imports; raises KeyError for anything else."""
    tree = _tree(module)
    if tree is None:
        raise KeyError(name)
    own = dict(_assigned(tree.body)).get(name)
    if own is not None:
        return _value(own, names, module)
    source, _, there = _imports(tree)[name].partition(":")
    return _constant(there, names, source)


__all__ = ["declared"]
