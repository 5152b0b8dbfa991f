"""What went wrong inside of the sandbox, by name."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from lengthwise.evaluation.sandbox.limits import VERDICTS
from lengthwise.evaluation.sandbox.runner import NotAllowed, refuse, verdict


@pytest.mark.parametrize("error, wanted", [
    (AssertionError(), "failed"), (KeyError("x"), "failed"), (SystemExit(0), "exited"),
    (KeyboardInterrupt(), "failed"), (MemoryError(), "memory"),
    (OSError(errno.EFBIG, "x"), "disk"), (OSError(errno.ENOSPC, "x"), "disk"),
    (OSError(errno.ENETUNREACH, "x"), "network"), (socket.gaierror(-3, "x"), "network"),
    (OSError(errno.EAGAIN, "x"), "processes"),
    (RuntimeError("can't start new thread"), "processes"),
    (OSError(errno.EROFS, "x", "/a"), "outside"), (OSError(errno.EACCES, "x", "/a"), "outside"),
    (OSError(errno.EACCES, "x"), "network"), (FileNotFoundError(2, "x"), "failed"),
    (NotAllowed("socket.connect"), "network"), (NotAllowed("os.fork"), "processes"),
    (NotAllowed("os.killpg"), "outside"), (NotAllowed("ctypes.dlopen"), "outside"),
])  # fmt: skip
def test_an_error_is_named(error: BaseException, wanted: str) -> None:
    assert verdict(error) == wanted
    assert wanted in VERDICTS


def test_sockets_processes_and_foreign_functions_are_refused_and_nothing_else() -> None:
    for event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.exec",
                  "ctypes.dlopen", "ctypes.dlsym"):  # fmt: skip
        with pytest.raises(NotAllowed, match=event):
            refuse(event, ())
    for event in ("open", "import", "socket.__new__", "os.remove", "compile"):
        refuse(event, ())


def test_a_program_may_end_itself_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse("os.kill", (os.getpid(), 11))
    for event, pid in (("os.kill", -1), ("os.kill", os.getppid()), ("os.killpg", os.getpid())):
        with pytest.raises(NotAllowed, match=event):
            refuse(event, (pid, 9))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(NotAllowed):
        refuse("os.kill", (-1, 9))
