"""Every module can be the first one of ours that a program imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lengthwise

ROOT = Path(lengthwise.__file__).parent


def modules(root: Path) -> dict[str, Path]:
    """Files by the names that they are imported by."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def at_once(body: list[ast.stmt]) -> Iterator[str]:
    """What is imported when a module is, and not later by a function or for types alone."""
    for each in body:
        if isinstance(each, ast.Import):
            yield from (name.name for name in each.names)
        elif isinstance(each, ast.ImportFrom) and each.module:
            yield from (f"{each.module}.{name.name}" for name in each.names)
        elif isinstance(each, ast.If) and "TYPE_CHECKING" not in ast.dump(each.test):
            yield from at_once([*each.body, *each.orelse])
        elif isinstance(each, ast.Try | ast.With | ast.ClassDef):
            yield from at_once(each.body)


def order(root: Path) -> list[str]:
    """An order to import modules in. Raises CycleError where there is none."""
    files = modules(root)
    needs: dict[str, set[str]] = {}
    for name, path in files.items():
        needs[name] = set()
        for each in at_once(ast.parse(path.read_text(encoding="utf-8")).body):
            # What is imported from a package needs that package, and those that it lies in. A
            # module's own are there, or on their way, when it begins.
            whole = {each.rsplit(".", cut)[0] for cut in range(each.count(".") + 1)}
            needs[name] |= {
                it for it in whole & files.keys() if not f"{name}.".startswith(f"{it}.")
            }
    return list(TopologicalSorter(needs).static_order())


def test_no_module_needs_another_to_be_imported_first() -> None:
    assert set(order(ROOT)) == modules(ROOT).keys()


def test_a_circle_is_found(tmp_path: Path) -> None:
    for name, text in {"p/__init__.py": "", "p/a.py": "from p.q.b import B",
                       "p/q/__init__.py": "from p.q.c import C", "p/q/b.py": "B = 1",
                       "p/q/c.py": "def f():\n    from p.a import A"}.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    order(tmp_path / "p")
    (tmp_path / "p" / "q" / "c.py").write_text("from p.a import A")
    with pytest.raises(CycleError):
        order(tmp_path / "p")
