"""The guard's own parts, outside of any sandbox."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lengthwise.evaluation.sandbox import guard, isolation


def test_only_an_ordinary_file_is_fetched(tmp_path: Path) -> None:
    def fetched(name: str) -> str | None:
        return guard._fetched({"folder": str(tmp_path), "fetch": name, "limits": {"disk": 4}})

    (tmp_path / "made").write_text("12345")
    (tmp_path / "link").symlink_to(tmp_path / "made")
    os.mkfifo(tmp_path / "pipe")
    assert base64.b64decode(str(fetched("made"))) == b"1234"
    assert [fetched(name) for name in ("link", "pipe", ".", "nope")] == [None] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_below_one_are_found_and_weighed() -> None:
    shell = subprocess.Popen(["/bin/sh", "-c", "sleep 60; true"])
    try:
        while not (below := guard._descendants(shell.pid)):
            pass
        assert len(below) == 1 and guard._resident(shell.pid) > 0
        assert shell.pid in guard._descendants(os.getpid())
    finally:
        for pid in (*below, shell.pid):
            os.kill(pid, 9)
        shell.wait()
    assert guard._descendants(shell.pid) == [] and guard._resident(shell.pid) == 0


def test_who_may_read_a_path(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    assert isolation._open_to_all("/bin/sh")
    for mode in (0o600, 0o604):
        file.chmod(mode)
        tmp_path.chmod(0o700)
        assert not isolation._open_to_all(str(file))
