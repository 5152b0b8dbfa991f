"""C++ in the sandbox: compiled there, then run there for each input."""

from __future__ import annotations

import shutil
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache

from lengthwise.evaluation.sandbox.limits import MB, Limits, Ran
from lengthwise.evaluation.sandbox.run import run_program

_COMPILERS = ("g++", "c++", "clang++")
_COMPILING = Limits(
    seconds=30, memory=4096 * MB, processes=16, disk=256 * MB, files=256, output=8 * MB
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled program. binary: None where it is no C++. said: what the compiler complained."""

    binary: bytes | None
    said: str = ""

    def run(self, stdin: str, limits: Limits | None = None) -> Ran:
        """Runs it.

        Args:
            stdin: what it reads.
            limits: what it may use.

        Returns:
            How it ended; "failed" where there is no binary.
        """
        if self.binary is None:
            return Ran("failed", "it could not be compiled", stderr=self.said)
        return run_program(["program"], stdin=stdin, files={"program": self.binary}, limits=limits)


def compiler_missing() -> str:
    """What compiling needs that is not there, in words that follow "needs"; "" where it is."""
    return "" if compiler() else f"a C++ compiler: install one of {', '.join(_COMPILERS)}"


def compiler() -> str:
    """The path of the compiler; "" where there is none."""
    return next((found for name in _COMPILERS if (found := shutil.which(name))), "")


@lru_cache(maxsize=8)
def compiled(program: str, options: Seq[str] = ("-std=c++11", "-O")) -> Compiled:
    """Compiles a program.

    Args:
        program: its text, one file.
        options: of the compiler, a tuple.

    Raises:
        LengthwiseError: where the sandbox or the compiler cannot be started.
    """
    text = program.encode("utf-8", "replace").decode()
    found = run_program(
        [compiler(), *options, "-o", "made", "program.cpp"], files={"program.cpp": text},
        limits=_COMPILING, fetch="made",
    )  # fmt: skip
    return Compiled(found.fetched if found.verdict == "ended" else None, found.stderr)


__all__ = ["Compiled", "compiled", "compiler", "compiler_missing"]
