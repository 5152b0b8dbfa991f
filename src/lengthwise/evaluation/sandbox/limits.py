"""What a program may use, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1_000_000
VERDICTS = {
    "passed": "all checks are right",
    "ended": "it ended by itself, without an error",
    "failed": "it raised, a check was wrong, or its exit code says so",
    "exited": "it ended before its checks had",
    "timeout": "it took longer than its seconds",
    "memory": "it wanted more memory",
    "disk": "it wrote more",
    "output": "it printed more",
    "processes": "it started more processes or threads, or was not allowed to",
    "network": "it wanted to speak with another machine",
    "outside": "it wanted to write or read what it may not, or to end what is not its own",
    "killed": "a signal ended it",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    seconds: of the clock; of the processor as many and one more. memory: bytes of address space a
    process, and of memory all together. processes: with threads. disk: bytes of a file, and of all
    where its folder is a file system of its own. files: open at once. output: bytes of its standard
    output, and of its error output.
    """

    seconds: float = 3.0
    memory: int = 1024 * MB
    processes: int = 8
    disk: int = 64 * MB
    files: int = 64
    output: int = MB


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended.

    verdict: one of VERDICTS. detail: an error or a signal by its name. code: of its exit; None
    where a signal or a limit ended it. stdout: what it printed. stderr: in text. fetched: the file
    that was asked for. guards: what kept it in: "network", "processes" (namespaces of its own),
    "files" (all else read-only, and a size of its folder), "landlock" (writes in its folder alone),
    "user" (it was another one), "audit" (within Python). The audit refuses sockets, processes,
    signals to others and foreign functions.
    """

    verdict: str
    detail: str = ""
    code: int | None = None
    stdout: bytes = b""
    stderr: str = ""
    fetched: bytes | None = None
    guards: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all checks are right."""
        return self.verdict == "passed"


__all__ = ["MB", "VERDICTS", "Limits", "Ran"]
