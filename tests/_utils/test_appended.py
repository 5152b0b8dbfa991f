"""Files that grow line by line: held by one process, whole up to the last line, on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lengthwise._utils.appended import AppendedLines
from lengthwise.errors import DocumentError, LengthwiseError


def rows(file: AppendedLines) -> list[object]:
    return [json.loads(raw) for _, raw in file.lines()]


def test_lines_are_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AppendedLines(path, "job") as file:
        assert rows(file) == []
        file.add({"a": "é"})
        file.add({"a": 2})
    with AppendedLines(path, "job") as file:
        assert rows(file) == [{"a": "é"}, {"a": 2}]
        file.add({"a": 3})
        assert rows(file) == [{"a": "é"}, {"a": 2}, {"a": 3}]
        file.clear()
        file.add({"a": 4})
        assert rows(file) == [{"a": 4}]


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": ')
    with AppendedLines(path, "job") as file:
        assert rows(file) == [{"a": 1}]
        file.add({"a": 2})
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'


def test_a_line_is_on_the_disk_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes().count(b"\n")))
    with AppendedLines(path, "job") as file:
        for number in range(3):
            file.add({"a": number})
    assert synced == [1, 2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_another_process_is_refused_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from lengthwise._utils.appended import AppendedLines\n"
        f"held = AppendedLines(Path({str(path)!r}), 'job'); held.add({{'a': 1}})\n"
        "print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(DocumentError, match="another writer writes there: wait for it"):
        AppendedLines(path, "writer", DocumentError)
    other.kill()
    other.wait()
    with AppendedLines(path, "writer") as file:
        assert rows(file) == [{"a": 1}]
    assert issubclass(DocumentError, LengthwiseError)
