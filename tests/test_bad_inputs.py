"""Whatever is asked wrongly: one line, the right status, and no file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bad_inputs import RIGHT, WRITTEN, commands, generated, make_world, numbers_without_range
from called import called

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


@pytest.mark.parametrize("path", RIGHT, ids=" ".join)
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
