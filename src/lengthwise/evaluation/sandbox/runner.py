"""Runs a program and then its checks, and says in a pipe how that went. Runs inside of the sandbox.

    python -I -S runner.py FD PROGRAM CHECKS MODE

A pass is what is said behind the last check: a program that ends the process before says nothing.
The program is a module that is not `__main__`, as the published harnesses run theirs. The mode
"offline" refuses sockets, processes, signals to others and foreign functions by an audit hook,
where no namespace keeps them out.
"""

import _posixsubprocess
import contextlib
import errno
import json
import os
import pathlib
import sys
import types

_DISK = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)
_NETWORK = (errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
_OUTSIDE = (errno.EROFS, errno.EACCES, errno.EPERM)
# Events that are refused, by how they begin, and the verdict. Foreign functions pass the others.
_CLOSED = {
    "socket.": "network",
    "subprocess.": "processes",
    "os.system": "processes",
    "os.fork": "processes",
    "os.posix_spawn": "processes",
    "os.spawn": "processes",
    "os.exec": "processes",
    "os.kill": "outside",
    "ctypes.": "outside",
}
# The program may put another in its place.
_own = os.getpid


class NotAllowed(Exception):
    """What the sandbox does not let happen."""


def verdict(error: BaseException) -> str:
    """The name of what went wrong."""
    number = error.errno if isinstance(error, OSError) else None
    name = type(error).__name__
    if isinstance(error, NotAllowed):
        return next(found for event, found in _CLOSED.items() if str(error).startswith(event))
    if isinstance(error, SystemExit):
        return "exited"
    if isinstance(error, MemoryError):
        return "memory"
    if number in _DISK:
        return "disk"
    if number in _NETWORK or name in ("gaierror", "herror"):
        return "network"
    if number == errno.EACCES and getattr(error, "filename", None) is None:
        return "network"
    if number == errno.EAGAIN or "start new thread" in str(error):
        return "processes"
    return "outside" if number in _OUTSIDE else "failed"


def refuse(event: str, given: tuple[object, ...]) -> None:
    """An audit hook, which no program can take off. A program may end itself."""
    allowed = event == "socket.__new__" or (event == "os.kill" and given[0] == _own())
    if event.startswith(tuple(_CLOSED)) and not allowed:
        raise NotAllowed(f"{event} is not allowed")


def start_nothing(*_: object) -> int:
    """In the place of what `multiprocessing` starts interpreters by, which has no event."""
    raise NotAllowed("subprocess.fork_exec is not allowed")


def main() -> None:
    """Program, checks, a line about both."""
    fd, paths, mode = int(sys.argv[1]), sys.argv[2:4], sys.argv[4]
    sources = [pathlib.Path(path).read_text(encoding="utf-8") for path in paths]
    # What the program may put others in the place of.
    say, leave, own, dump, base = os.write, os._exit, os.getpid, json.dumps, BaseException
    run, build, judge, pid = exec, compile, verdict, os.getpid()
    module = types.ModuleType("program")
    sys.modules["program"] = module
    sys.argv = ["program.py"]
    if mode == "offline":
        _posixsubprocess.fork_exec = start_nothing
        sys.addaudithook(refuse)
    found, detail = "passed", ""
    try:
        for name, source in zip(("program.py", "checks.py"), sources, strict=True):
            run(build(source, name, "exec", dont_inherit=True), module.__dict__)
    except base as error:
        try:
            found, detail = judge(error), f"{type(error).__name__}: {error}"[:300]
        except base:
            found = "failed"
    # It may have closed its output, or put something else there.
    with contextlib.suppress(base):
        sys.stdout.flush()
    # A process that the program forked says nothing.
    if own() == pid:
        say(fd, dump({"verdict": found, "detail": detail}).encode())
    leave(found != "passed")


if __name__ == "__main__":
    main()
