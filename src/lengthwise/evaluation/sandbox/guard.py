"""Runs one program under limits and says how it ended, in processes of their own.

`run.run_program` starts it with a job as JSON on its standard input. It imports no library but
Python's, and its own process stays outside of what it guards:

    guard     watches time, memory, processes and output; kills; reports
    entry     new namespaces, where they can be made
    first     process 1 of the namespace: read-only files, a small file system of its own
    program   another user, limits, then exec

When `first` ends the kernel kills all that its namespace holds. Without namespaces `entry` becomes
the program, and the guard, to which orphans fall, kills them one by one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import select
import signal
import stat
import sys
import time
from typing import Any, NoReturn

from lengthwise.evaluation.sandbox import isolation

_TICK = 0.05
# Of 64 KB, between two looks at the clock.
_PIECES = 64
# Processes below the guard beside those of the program: entry and first.
_OWN = 2


def main() -> None:
    """Reads a job, runs it, prints a report."""
    job = json.load(sys.stdin)
    isolation.guard_process()
    json.dump(_Guard(job).run(), sys.stdout)


class _Guard:
    """What watches a program from outside."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.limits = job, job["limits"]
        self.over = ""
        self.status: int | None = None
        self.reads: dict[int, bytearray] = {}

    def run(self) -> dict[str, Any]:
        """Starts the program, waits, ends all that it started."""
        user = isolation.other_user(_needs(self.job))
        if user is not None:
            os.chown(self.job["folder"], user, user)
        names = ("state", "told", "stdout", "stderr")
        pipes = {name: os.pipe() for name in names}
        woken, wakes = os.pipe()
        os.set_blocking(wakes, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes)
        entry = os.fork()
        if not entry:
            _entry(self.job, {name: pair[1] for name, pair in pipes.items()}, user)
        for name in names:
            os.close(pipes[name][1])
            os.set_blocking(pipes[name][0], False)
            self.reads[pipes[name][0]] = bytearray()
        ends = {name: pair[0] for name, pair in pipes.items()}
        self._watch(entry, woken, [ends[name] for name in names[1:]])
        _end_all(entry)
        for fd in self.reads:
            self._read(fd)
        return self._report({name: bytes(self.reads[fd]) for name, fd in ends.items()})

    def _watch(self, entry: int, woken: int, outputs: list[int]) -> None:
        until = time.monotonic() + self.limits["seconds"]
        open_fds = [woken, *self.reads]
        while self.status is None and not self.over:
            ready, _, _ = select.select(open_fds, [], [], _TICK)
            for fd in ready:
                if fd == woken:
                    os.read(woken, 512)
                elif not self._read(fd):
                    open_fds.remove(fd)
            if any(len(self.reads[fd]) > self.limits["output"] for fd in outputs):
                self.over = "output"
            ended, status = os.waitpid(entry, os.WNOHANG)
            if ended:
                self.status = status
            elif time.monotonic() > until:
                self.over = self.over or "timeout"
            else:
                self.over = self.over or self._too_much()

    def _too_much(self) -> str:
        """What all processes together have too much of."""
        below = _descendants(os.getpid())
        if len(below) > self.limits["processes"] + _OWN:
            return "processes"
        return "memory" if sum(map(_resident, below)) > self.limits["memory"] else ""

    def _read(self, fd: int) -> bool:
        """Takes some of what there is; whether more may come."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_PIECES):
                found = os.read(fd, 1 << 16)
                self.reads[fd] += found
                if not found:
                    return False
        return True

    def _report(self, said: dict[str, bytes]) -> dict[str, Any]:
        state: dict[str, Any] = {"guards": []}
        for line in said["state"].splitlines():
            found = json.loads(line)
            state["guards"] += found.pop("guards", [])
            state.update(found)
        if self.job["fetch"] and "fetched" not in state and not self.over:
            state["fetched"] = _fetched(self.job)
        status = state.pop("status", self.status)
        code, number = None, 0
        if status is not None and not self.over:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        most = self.limits["output"]
        text = {name: said[name][:most].decode("utf-8", "replace") for name in ("told", "stderr")}
        raw = base64.b64encode(said["stdout"][:most]).decode()
        return {**state, **text, "stdout": raw, "over": self.over, "code": code, "signal": number}


def _entry(job: dict[str, Any], ends: dict[str, int], user: int | None) -> NoReturn:
    """Makes namespaces where that can be, and starts the program in them, or becomes it."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        isolation.end_with_parent()
        inside = job["namespaces"] and isolation.leave_namespaces(user is not None)
        if not inside:
            _program(job, ends, user, inside=False)
        _say(ends["state"], guards=["network", "processes"])
        first = os.fork()
        if not first:
            _first(job, ends, user)
        os.waitpid(first, 0)
        os._exit(0)
    except BaseException as error:
        _say(ends["state"], error=f"{type(error).__name__}: {error}")
    os._exit(1)


def _first(job: dict[str, Any], ends: dict[str, int], user: int | None) -> NoReturn:
    """Process 1: mounts, the program, and its status when it has ended."""
    try:
        isolation.end_with_parent()
        owner = isolation.NOBODY if user is None else user
        closed = isolation.close_files(job["folder"], job["limits"]["disk"], owner)
        _say(ends["state"], guards=["files"] if closed else [])
        program = os.fork()
        if not program:
            _program(job, ends, user, inside=True)
        ended, status = 0, 0
        while ended != program:
            ended, status = os.wait()
        found = {"fetched": _fetched(job)} if job["fetch"] else {}
        _say(ends["state"], status=status, **found)
        os._exit(0)
    except BaseException as error:
        _say(ends["state"], error=f"{type(error).__name__}: {error}")
    os._exit(1)


def _program(job: dict[str, Any], ends: dict[str, int], user: int | None, inside: bool) -> NoReturn:
    """Another user, files, limits, exec."""
    try:
        if user is not None:
            isolation.become(user, _needs(job))
        isolation.end_with_parent()
        isolation.no_new_rights()
        os.chdir(job["folder"])
        _write(job)
        guards = ["user"] if user is not None else []
        guards += ["landlock"] if isolation.write_only_in(job["folder"]) else []
        _say(ends["state"], guards=guards)
        _standard_files(job, ends)
        _limits(job["limits"], isolation.others_counted(user, inside))
        words = [word.replace("{told}", str(ends["told"])) for word in job["argv"]]
        os.execve(words[0], words, job["environment"])
    except BaseException as error:
        _say(ends["state"], error=f"{type(error).__name__}: {error}")
    os._exit(1)


def _needs(job: dict[str, Any]) -> list[str]:
    """What the program must be able to read; what is in its folder it can."""
    folder = job["folder"]
    inside = job["argv"][0].startswith(folder)
    return [os.path.dirname(folder), os.__file__, *([] if inside else [job["argv"][0]])]


def _standard_files(job: dict[str, Any], ends: dict[str, int]) -> None:
    # No name is left of it: the folder is empty but for what was given.
    with open(".stdin", "w+b") as given:
        os.unlink(".stdin")
        given.write(job["stdin"].encode())
        given.seek(0)
        os.dup2(given.fileno(), 0)
    os.dup2(ends["stdout"], 1)
    os.dup2(ends["stderr"], 2)
    os.set_inheritable(ends["told"], True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _limits(limits: dict[str, Any], others: int | None) -> None:
    seconds = int(limits["seconds"]) + 1
    isolation.limit(resource.RLIMIT_CORE, 0)
    isolation.limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    isolation.limit(resource.RLIMIT_FSIZE, limits["disk"])
    isolation.limit(resource.RLIMIT_NOFILE, limits["files"])
    if sys.platform != "darwin":
        # There no address space is small enough for a program to start in.
        isolation.limit(resource.RLIMIT_AS, limits["memory"])
    # No limit binds root, for which the guard counts.
    most = limits["processes"] + (_of_this_user() if others is None else others)
    isolation.limit(resource.RLIMIT_NPROC, most)


def _of_this_user() -> int:
    """Processes and threads that the kernel counts with those of the program."""
    if not os.path.isdir("/proc/self/task"):
        with os.popen(f"ps -U {os.getuid()} -o pid=") as found:
            return len(found.read().split())
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _write(job: dict[str, Any]) -> None:
    for name, text in job["texts"].items():
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
    for name, coded in job["binaries"].items():
        with open(name, "wb") as binary:
            binary.write(base64.b64decode(coded))
        os.chmod(name, 0o700)


def _fetched(job: dict[str, Any]) -> str | None:
    """A file that the program made, if it is an ordinary one of an allowed size."""
    path = os.path.join(job["folder"], job["fetch"])
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            return base64.b64encode(file.read(job["limits"]["disk"])).decode()
    except OSError:
        return None


def _end_all(entry: int) -> None:
    """Kills what is left below this process, orphans too, until nothing is."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            os.killpg(entry, signal.SIGKILL)
        for each in _descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _descendants(pid: int) -> list[int]:
    """Processes below one, where the system says so."""
    found: list[int] = []
    left = [pid]
    while left:
        with contextlib.suppress(OSError):
            of = left.pop()
            for task in os.listdir(f"/proc/{of}/task"):
                with open(f"/proc/{of}/task/{task}/children") as file:
                    below = [int(each) for each in file.read().split()]
                found += below
                left += below
    return found


def _resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
    return 0


def _say(fd: int, **found: Any) -> None:
    os.write(fd, (json.dumps(found) + "\n").encode())


__all__ = ["main"]
