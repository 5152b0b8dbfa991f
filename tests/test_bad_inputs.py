"""Whatever is asked wrongly: one line, the right status, and no file."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bad_inputs import WRITTEN, generated, make_world, numbers_without_range
from lengthwise.cli.main import main

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


def called(*words: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a call, whoever writes them: the files behind
    them are exchanged, not only Python's names for them."""
    with _caught(1) as out, _caught(2) as err, _as_outside_of_pytest():
        argv, sys.argv = sys.argv, ["lengthwise", *words]
        stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(b""))
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            sys.argv, sys.stdin = argv, stdin
            sys.stdout.flush()
            sys.stderr.flush()
        found = [(file.seek(0), file.read().decode(errors="replace"))[1] for file in (out, err)]
    return status, *found


@contextmanager
def _caught(number: int) -> Iterator[io.BufferedRandom]:
    name = {1: "stdout", 2: "stderr"}[number]
    before, kept = getattr(sys, name), os.dup(number)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), number)
        setattr(sys, name, open(number, "w", closefd=False, errors="backslashreplace"))
        try:
            yield file
        finally:
            setattr(sys, name, before)
            os.dup2(kept, number)
            os.close(kept)


@contextmanager
def _as_outside_of_pytest() -> Iterator[None]:
    """Log lines and warnings go where they go for a user: pytest has its own ideas."""
    root = logging.getLogger()
    kept, root.handlers = root.handlers, []
    others = [
        handler
        for logger in logging.Logger.manager.loggerDict.values()
        for handler in getattr(logger, "handlers", ())
        if type(handler) is logging.StreamHandler
    ]
    streams = [handler.setStream(sys.stderr) for handler in others]
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            yield
    finally:
        root.handlers = kept
        for handler, stream in zip(others, streams, strict=True):
            handler.setStream(stream or sys.__stderr__)


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
