"""Timings of this machine: kept, of this machine alone, and damaged or unwritable files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lengthwise._utils import machine, saying, timings
from lengthwise._utils.timings import Timings, in_turn

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(saying, "_SAID", set())
    return tmp_path


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def test_what_was_timed_is_not_timed_again() -> None:
    way, first = Counted(), Timings(CPU)
    seconds = first.seconds("x", lambda: {"a": way, "b": way})
    first.save()
    calls = way.calls
    assert calls >= 4 and Timings(CPU).seconds("x", lambda: {"a": way, "b": way}) == seconds
    assert way.calls == calls
    assert Timings(CPU).seconds("y", lambda: {"a": way}).keys() == {"a"} and way.calls > calls


def test_other_threads_are_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Timings(CPU)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert Timings(CPU).path != here.path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"machine": {}, "seconds": {}}',
        '{"machine": 3}',
        "HERE {}",
        'HERE {"x": {"a": -1.0}}',
        'HERE {"x": {"a": "fast"}}',
        'HERE {"x": 3}',
        'HERE {"x": {"a": NaN}}',
        "HERE 7",
    ],
)
def test_a_damaged_file_is_said_and_timed_again(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Timings(CPU)
    here.path.parent.mkdir(parents=True)
    if text.startswith("HERE"):
        facts = json.dumps(here.facts)
        text = f'{{"machine": {facts}, "seconds": {text.removeprefix("HERE ")}}}'
    here.path.write_text(text, encoding="utf-8")
    found = Timings(CPU)
    if text.endswith('"seconds": {}}') and "threads" in text:
        assert not found.notes
    else:
        assert len(found.notes) == 1 and str(here.path) in found.notes[0]
        assert capsys.readouterr().err.count("note:") == 1
    found.seconds("x", lambda: {"a": Counted()})
    found.save()
    assert not Timings(CPU).notes


def test_a_folder_that_cannot_be_written_is_said_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "machine").write_text("a file where a folder should be")
    for _ in range(2):
        found = Timings(CPU)
        found.seconds("x", lambda: {"a": Counted()})
        found.save()
    # It cannot be read either, which is said in a line of its own.
    err = capsys.readouterr().err
    assert err.count("cannot be kept") == 1 and "LENGTHWISE_CACHE" in err


def test_ways_take_turns() -> None:
    told: list[str] = []
    in_turn({"a": lambda: told.append("a"), "b": lambda: told.append("b")})
    assert told[:4] == ["a", "b", "a", "b"] and told.count("a") == told.count("b")


def test_the_machine_is_known() -> None:
    assert machine.cpu_name() and machine.cores() >= 1
    total, free = machine.memory(), machine.free_memory()
    assert total is None or (total > 1 << 28 and (free is None or 0 < free <= total))
    assert set(machine.cpu_features()) <= set(machine.TELLING)


def test_numbers_to_time_on_leave_the_users_stream_as_it_is() -> None:
    before = torch.get_rng_state()
    assert timings.drawn(3, 4, dtype=torch.bfloat16).shape == (3, 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "max", "memory.current": "5"}, None),
        ({"memory.max": "1000", "memory.current": "400"}, 600),
        (
            {"memory.max": "1000", "memory.current": "900",
             "memory.stat": "anon 1\nactive_file 200\ninactive_file 300\nfile 999"}, 600,
        ),
        ({"memory.max": "1000", "memory.current": "1200"}, 0),
        ({"memory.max": "1000", "memory.current": "x"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_container_leaves_what_is_not_used_and_what_it_read_from_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int | None
) -> None:
    monkeypatch.setattr(machine, "GROUP", folder)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    assert machine._container() == free
    if free is not None:
        assert machine.free_memory() == free


def test_swap_counts_where_it_is_asked_for() -> None:
    plain, swapped = machine.free_memory(), machine.free_memory(swap=True)
    assert (plain is None) == (swapped is None)
    if plain is not None and swapped is not None:
        assert swapped >= 0.9 * plain
