"""What is registered: known by name at once, imported one by one, harmless when broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lengthwise._utils.declared import declared
from lengthwise._utils.registry import OURS, Registry
from lengthwise.recipes.registry import METHODS, registered

GROUP = "lengthwise.toys"


def run(code: str) -> str:
    """What a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


def test_one_name_imports_one_method() -> None:
    room = "lengthwise.methods."
    code = f"""import sys
from lengthwise.recipes import parse
before = {{name for name in sys.modules if name.startswith({room!r})}}
parse("lookup")
print(*sorted(name for name in sys.modules if name.startswith({room!r}) and name not in before))
print(*sorted(before))"""
    new, before = run(code).splitlines()
    assert set(before.split()) == {
        room + name for name in ("base", "budget", "nested", "options", "slots")
    }
    ours = {each.target.partition(":")[0] for each in METHODS.entries()}
    assert ours & set(new.split()) == {room + "drafting.lookup"} and len(new.split()) <= 4


def test_names_questions_and_papers_are_known_without_torch() -> None:
    code = """import sys
from lengthwise.recipes.registry import registered
from lengthwise.recipes import parse
try:
    parse("lokup")
except ValueError as error:
    print(str(error).splitlines()[0])
print(len([item for item in registered() if item.question and item.paper]))
assert not {"torch", "transformers"} & set(sys.modules)"""
    error, count = run(code).splitlines()
    assert "did you mean 'lookup'?" in error
    assert int(count) == len([item for item in registered() if item.package == OURS])


@pytest.mark.parametrize("item", [i for i in registered() if i.package == OURS],
                         ids=lambda item: item.name)  # fmt: skip
def test_what_the_text_says_is_what_the_class_says(item: Any) -> None:
    assert {"question", "paper"} <= set(item._text)
    assert item.cls is not None, item.error
    assert item.question == item.cls.question and item.paper == item.cls.paper


def test_what_the_text_does_not_say_is_left_to_an_import() -> None:
    target = "lengthwise.methods.drafting.aded:ADED"
    assert "question" not in declared(target, {}), "a name that is not given is not read"
    assert declared("lengthwise.methods.nowhere:Gone", {}) == {}
    assert declared("json:JSONDecoder", {}) == {}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[int]]:
    """A registry of numbers above zero: a good one, and three that are not."""
    (tmp_path / "toy_good.py").write_text("one = 1")
    (tmp_path / "toy_zero.py").write_text("zero = 0")
    (tmp_path / "toy_exits.py").write_text("raise SystemExit('goodbye')")
    info = tmp_path / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\none = toy_good:one\nzero = toy_zero:zero\nexits = toy_exits:x\n"
        "gone = toy_gone:x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry(GROUP, positive)
    for name in ("toy_good", "toy_zero", "toy_exits"):
        sys.modules.pop(name, None)


def positive(name: str, found: object) -> int:
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"{name} is not above zero")
    return found


def test_a_name_is_known_before_it_is_imported_and_a_broken_one_harms_nobody(
    toys: Registry[int],
) -> None:
    assert set(toys) == {"one", "zero", "exits", "gone"} and len(toys) == 4 and "one" in toys
    assert not [name for name in sys.modules if name.startswith("toy_")]
    assert toys.get("one") == 1
    assert [name for name in sys.modules if name.startswith("toy_")] == ["toy_good"]
    assert toys.usable() == {"one": 1} and toys.get("zero") is None and toys.get("two") is None
    assert {each.name: each.error for each in toys.entries()} == {
        "one": None,
        "zero": "ValueError: zero is not above zero",
        "exits": "SystemExit: goodbye",
        "gone": "ModuleNotFoundError: No module named 'toy_gone'",
    }


def test_packages_installed_later_are_found_by_looking_again(
    toys: Registry[int], tmp_path: Path
) -> None:
    assert "two" not in toys
    points = tmp_path / "toys-1.0.dist-info" / "entry_points.txt"
    points.write_text(f"[{GROUP}]\ntwo = toy_good:one\n")
    assert "two" not in toys
    toys.refresh()
    assert list(toys) == ["two"] and toys.get("two") == 1


def test_the_package_costs_nothing_until_a_name_of_it_is_used() -> None:
    code = """import sys
before = set(sys.modules)
import lengthwise
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
lengthwise.Recipe
assert not {"torch", "transformers"} & set(sys.modules)"""
    assert set(run(code).split()) <= {"__future__", "lengthwise"}
