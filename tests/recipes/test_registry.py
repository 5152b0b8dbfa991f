"""What is registered: known by name at once, imported one by one, harmless when broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise._utils.declared import declared
from lengthwise._utils.registry import OURS, Registry
from lengthwise.cli import calibrate
from lengthwise.cli.calibrators import CALIBRATORS
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks import work
from lengthwise.evaluation.tasks.work import WORK, prompts
from lengthwise.methods import base
from lengthwise.recipes.registry import METHODS, registered
from lengthwise.scaling import LAWS, find_law
from lengthwise.sequences.builders.base import BUILDERS, make_builder
from lengthwise.sequences.curricula import Curriculum
from lengthwise.sequences.odds import ODDS
from lengthwise.soft_contexts.base import SOFT_CONTEXTS

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
        room + name for name in ("base", "budget", "nested", "options", "question", "slots")
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
print(len([item for item in registered() if item.question and "paper" in item._text]))
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
    assert declared("lengthwise.plugin:NoSuchName", {}) == {}
    assert declared("json:JSONDecoder", {}) == {}


@pytest.mark.parametrize("name", ["ScoredRetention", "ScoredSelection", "ChainDrafter"])
def test_what_a_class_inherits_is_read_from_the_text_of_its_base(name: str) -> None:
    """Also where another module hands the base on, which is where authors take it from."""
    said = declared(f"lengthwise.plugin:{name}", vars(base))
    cls = getattr(import_module("lengthwise.plugin"), name)
    assert said["question"] == cls.question and said["paper"] is None
    assert said["lossless"] is cls.lossless and said["raw_keys"] is False


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
    yield Registry(GROUP, "toy", positive)
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
    assert toys.usable() == {"one": 1} and toys.get("two") is None
    with pytest.raises(LengthwiseError, match="toy 'gone' of package 'toys' cannot be used: Mod"):
        toys.get("gone")
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


OTHERS = (LAWS, BUILDERS, ODDS, CALIBRATORS, WORK, SOFT_CONTEXTS)
TOYS = '''
from dataclasses import dataclass
import numpy as np
from lengthwise.cli.calibrators import Calibrator
from lengthwise.scaling.law import Parameter, law
from lengthwise.sequences.builders.concat import Concat
from lengthwise.evaluation.tasks.work import Kind, Material, Task

@law("toy_law", paper="a toy", inputs={"N": "size"}, output=("L", "loss"),
     parameters=(Parameter("a", (1.0,)),), constants={}, logarithmic=False)
def toy_law(x, p):
    """L(N) = a / N"""
    return p.a / x.N

@dataclass
class ToyBuilder(Concat):
    name = "toy-builder"

def long_only(i, n):
    return 1e9 ** i

WORK = Kind("toy-work", tuple(
    Task(f"part {n}", lambda: Material([f"line {i}" for i in range(500)]),
         ({"role": "user", "content": f"{{text}} Part {n}?"},)) for n in range(5)))

MEASURE = Calibrator("toy-measure", lambda model, asked, bar: print(model, asked.trials),
                     options=("trials",))
'''


@pytest.mark.parametrize("each", OTHERS, ids=lambda each: each.what)
def test_every_registry_holds_ours_whole(each: Registry[Any]) -> None:
    assert len(each) > 1 and [entry.error for entry in each.entries()] == [None] * len(each)
    assert list(each.usable()) == list(each)


@pytest.mark.parametrize("each", OTHERS, ids=lambda each: each.what)
def test_a_third_party_adds_to_every_registry_and_breaks_none(
    each: Registry[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(each.usable())
    ours = each.entries()[0]
    info = tmp_path / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{each.group}]\nno-such = toy_gone:x\nwrong = sys:path\n{ours.name} = toy_gone:y\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    each.refresh()
    try:
        assert each.usable() == before
        errors = {entry.name: entry.error for entry in each.entries() if entry.error}
        assert errors.pop(ours.name) == "the name is already taken by package 'lengthwise'"
        assert errors.pop("no-such") == "ModuleNotFoundError: No module named 'toy_gone'"
        assert list(errors) == ["wrong"] and "it is no" in str(errors["wrong"])
        with pytest.raises(LengthwiseError, match="'no-such' of package 'toys' cannot be used"):
            each.get("no-such")
    finally:
        monkeypatch.undo()
        each.refresh()
    assert each.usable() == before


def test_what_others_register_in_other_rooms_is_used_like_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_rooms.py").write_text(TOYS)
    info = tmp_path / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[lengthwise.laws]\ntoy_law = toy_rooms:toy_law\n"
        "[lengthwise.builders]\ntoy-builder = toy_rooms:ToyBuilder\n"
        "[lengthwise.curricula]\nlong-only = toy_rooms:long_only\n"
        "[lengthwise.tasks]\ntoy-work = toy_rooms:WORK\n"
        "[lengthwise.calibrators]\ntoy-measure = toy_rooms:MEASURE\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for each in OTHERS:
        each.refresh()
    try:
        found = find_law("toy_law").evaluate({"N": np.array([4.0])}, {"a": 2.0}, log=False)
        assert found == pytest.approx([0.5])
        assert make_builder("toy-builder", {"max_length": "64"}).max_length == 64
        drawn = Curriculum({64: 64, 128: 32}, 128, "long-only").lengths(0)
        assert list(drawn[:4]) == [128] * 4
        monkeypatch.setattr(work, "KINDS", (*work.KINDS, "toy-work"))
        asked = prompts("toy-work", 100, 5, lambda m: len(m[0]["content"].split()))
        assert [each.messages[0]["content"][-7:] for each in asked] == [
            f"Part {n}?" for n in range(5)
        ]
        monkeypatch.setattr(calibrate.ModelChoice, "open", lambda _: "a model")
        said = CliRunner().invoke(calibrate.calibrate, ["toy-measure", "--trials", "3"])
        assert said.output == "a model 3\n" and said.exit_code == 0
        said = CliRunner().invoke(calibrate.calibrate, ["toy-measure", "--skip", "0.5"])
        assert "--skip is for calibrate layers; toy-measure has no use" in str(said.exception)
    finally:
        monkeypatch.undo()
        sys.modules.pop("toy_rooms", None)
        for each in OTHERS:
            each.refresh()
