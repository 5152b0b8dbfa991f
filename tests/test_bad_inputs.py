"""Whatever is asked wrongly: one line, the right status, and no file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_command_lines import WRITTEN
from tests.bad_inputs import RIGHT
from tests.bad_world import make_world
from tests.called import called
from tests.generated_inputs import commands, generated, numbers_without_range

CASES = [*generated(), *WRITTEN]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    make_world(place)
    return place


@pytest.fixture
def call(world: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(world)
    monkeypatch.setenv("LENGTHWISE_CACHE", str(world.parent / "cache"))
    return called


def files_of(world: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with its size and the time of its last change."""
    return {
        str(path.relative_to(world)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in world.rglob("*")
        if not path.is_dir() or path.is_symlink()
    } | {str(path.relative_to(world)) + "/": (0, 0) for path in world.rglob("*") if path.is_dir()}


def said(err: str) -> list[str]:
    """Lines of standard error, without the one that tells what a model runs as."""
    return [line for line in err.splitlines() if line.strip() and "trained to" not in line]


def test_there_are_hundreds_of_cases_over_every_verb() -> None:
    assert len(CASES) >= 400


def test_every_verb_has_a_command_that_is_right() -> None:
    assert {path for path, _ in commands()} == set(RIGHT)


# `check` runs every method on a model, and `serve` until it is told to end: tested elsewhere.
ELSEWHERE = (("check",), ("serve",))


@pytest.mark.parametrize("path", [path for path in RIGHT if path not in ELSEWHERE], ids=" ".join)
def test_without_the_mistake_the_command_is_right(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    shutil.copytree(world, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    monkeypatch.setenv("LENGTHWISE_CACHE", str(world.parent / "cache"))
    status, out, err = called(*path, *RIGHT[path])
    assert status == 0, err
    assert out


def test_no_option_takes_any_number_at_all() -> None:
    assert numbers_without_range() == []


@pytest.mark.parametrize("words", CASES, ids=lambda words: " ".join(words)[:100])
def test_one_line_the_right_status_and_no_file(
    call: Call, world: Path, words: tuple[str, ...]
) -> None:
    before = files_of(world)
    status, out, err = call(*words)
    assert status in (1, 2), (status, out, err)
    assert len(said(err)) == 1, err
    assert said(err)[0].startswith("lengthwise: ")
    assert len(said(err)[0]) < 1000
    assert not out
    assert files_of(world) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "hi", "-m", "model", "--temperature", "inf"), "no finite number"),
        (("run", "hi", "-m", "model", "--temperature", "nan"), "no finite number"),
        (("calibrate", "specdec", "-o", "x", "--temperature", "inf"), "no finite number"),
        (("scaling", "fit", "runs.csv", "--law", "converged", "--level", "nan"), "finite number"),
        (("run", "hi", "-m", "model", "--top-k", "5"), "temperature=0.7"),
        (("run", "hi", "-m", "model", "--stop", ""), "'--stop': it is empty"),
        (("run", "hi", "-m", "model", "--device", "cpu:7"), "there is one CPU"),
        (("run", "hi", "-m", "model", "--device", "meta"), "it holds no numbers"),
        (("run", "hi", "-m", ""), "it is empty"),
        (("check", ""), "it is empty"),
        (("run", "hi", "-m", "model", "--max-new-tokens", "9" * 20), "is more than 2,147,483,647"),
        (("plan", "lengths.txt", "--devices", "99999999999"), "is more than 65,536"),
        (("run", "hi", "-m", "notok"), "there is no tokenizer with this model"),
        (("compare", "doc.txt", "-m", "notok"), "there is no tokenizer with this model"),
        (("methods", "full"), "'full' is full attention"),
        (("run", "hi", "-m", "model", "-d", "zip.pdf"), "zip.pdf is no PDF"),
        (("compare", "zeros.pdf", "-m", "model"), "zeros.pdf is no PDF"),
        (("run", "hi", "-m", "model", "-n", "8"), "--max-new-tokens"),
        (("scaling", "predict", "--law", "converged", "--at", "N=1", "--at", "N=0"), "above 0"),
        (("sequences", "show", "data", "--bucket", "3"), "none is given"),
        (("compare", "doc.txt", "-m", "model", "-n", "64", "--probes"), "--no-probes"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_the_line_names_what_is_wrong(call: Call, words: tuple[str, ...], told: str) -> None:
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert told in said(err)[0]
    assert "did you mean 'full'" not in err


@pytest.mark.parametrize("name", ["temperature", "repetition_penalty", "top_k"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400], ids=["inf", "nan", "huge"])
def test_sampling_takes_finite_numbers(name: str, value: float) -> None:
    from lengthwise.engine.sampling import Sampling
    from lengthwise.errors import LengthwiseError

    with pytest.raises(LengthwiseError, match=name):
        Sampling(**{name: value})  # type: ignore[arg-type]


def test_a_number_of_thousands_of_digits_is_not_printed_whole(call: Call) -> None:
    _, _, err = call("run", "hi", "-m", "model", "--seed", "9" * 5000)
    assert len(err) < 300


def test_weights_that_may_not_be_read_are_not_called_damaged(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A test may run as root, who may read anything.
    from lengthwise.models import load

    opened = Path.open

    def refused(self: Path, *arguments: object, **options: object) -> object:
        if self.name == "model.safetensors":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", refused)
    for folder, class_ in (("cut", None), ("model", load.AutoModelForCausalLM)):
        if class_ is not None:
            monkeypatch.setattr(class_, "from_pretrained", _denied)
        status, _, err = call("run", "hi", "-m", folder)
        assert status == 2
        assert "model.safetensors: cannot be read (Permission denied)" in err
        assert "damaged" not in err
    monkeypatch.undo()
    monkeypatch.chdir(world)
    assert "damaged" in called("run", "hi", "-m", "cut")[2]


def _denied(*_: object, **__: object) -> None:
    raise OSError("Permission denied (os error 13)")


@pytest.mark.parametrize("module", ["click", "lengthwise.cli.main", "rich.console", "torch"])
def test_ctrl_c_while_modules_are_imported_is_one_line(module: str) -> None:
    code = f"""
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.argv = ["lengthwise", "run", "hi"]
from lengthwise.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert [line for line in done.stderr.splitlines() if line] == ["lengthwise: interrupted"]
    assert not done.stdout


def test_an_import_that_swallows_ctrl_c_is_an_interruption_too(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lengthwise.models import placing

    def broken(*_: object, **__: object) -> None:
        raise ImportError("numpy cannot be imported") from KeyboardInterrupt()

    monkeypatch.setattr(placing, "find_device", broken)
    status, _, err = call("run", "hi", "-m", "model")
    assert (status, err.strip()) == (130, "lengthwise: interrupted")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")],
)
def test_no_memory_is_one_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from lengthwise.api.model import Model

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Model, "generate", full)
    status, _, err = call("run", "hi", "-m", "model")
    assert status == 1
    assert said(err)[0].startswith("lengthwise: out of memory (")
    monkeypatch.setattr(Model, "generate", _bug)
    with pytest.raises(RuntimeError, match="of ours"):
        call("run", "hi", "-m", "model")


def _bug(*_: object, **__: object) -> None:
    raise RuntimeError("an error of ours")


def test_a_short_document_is_measured_without_probes_and_says_so(call: Call) -> None:
    status, out, err = call("compare", "texts/a.txt", "-m", "model", "-r", "streaming", "--json",
                            "--max-new-tokens", "2")  # fmt: skip
    assert status == 0, err
    assert "probes are left out: a length of 10 is too short" in err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["recipe"] for row in rows] == ["full", "streaming"]
    for row in rows:
        assert row["copy_loss"] is None and row["needle_loss"] is None
        assert row["agreement"] == 1 and row["kl"] < 1e-6
        assert any("probes are left out" in note for note in row["notes"])
    status, _, err = call("compare", "texts/a.txt", "-m", "model", "-r", "streaming", "-n", "1",
                          "--max-new-tokens", "2")  # fmt: skip
    assert status == 0, err
    status, out, _ = call("compare", "doc.txt", "-m", "model", "-r", "streaming", "--json",
                          "--no-probes", "--max-new-tokens", "2")  # fmt: skip
    assert "probes" not in out


@pytest.mark.parametrize("recipe", ["datastore(path=nope)", "recycling(table=doc.txt)"])
def test_a_recipe_that_is_wrong_ends_a_comparison_before_it_begins(call: Call, recipe: str) -> None:
    status, out, err = call("compare", "doc.txt", "-m", "model", "-r", "streaming", "-r", recipe,
                            "--max-new-tokens", "2")  # fmt: skip
    assert (status, out) == (2, "")
    assert len(said(err)) == 1
