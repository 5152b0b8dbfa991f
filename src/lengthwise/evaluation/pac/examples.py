"""Examples to calibrate on: prompts, each with the program that is right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from lengthwise._utils.messages import first_line
from lengthwise.api.prompts import Prompt
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.pac.program_tree import ProgramNode, program_of


@dataclass(frozen=True)
class Example:
    """A prompt and the program that is right.

    begin: what the program begins with and the prompt ends with; the model writes the rest of it.
    """

    prompt: Prompt
    program: str
    begin: str = ""

    def tree(self) -> ProgramNode:
        """The tree of the right program. Raises LengthwiseError where it is none."""
        found = program_of(self.program)
        if found is None:
            raise LengthwiseError(
                f"the right program is no Python: {first_line(self.program)[:60]!r}; leave the "
                "example out"
            )
        return found


def read_examples(path: str | PathLike[str]) -> list[Example]:
    """Examples of a file: a JSON object a line.

    Args:
        path: of the file. Each object has `prompt`, a text or chat messages, and `program`; and
            `begin`, what of the program the prompt ends with, unless it is nothing.

    Raises:
        LengthwiseError: for a file that cannot be read, has no example, or has one that is none,
            with its line.
    """
    try:
        # Not `splitlines`: texts hold line marks that are none in JSON.
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LengthwiseError(f"{fspath(path)}: cannot be read ({first_line(error)})") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_example(line))
            except LengthwiseError as error:
                raise LengthwiseError(f"{fspath(path)}, line {number}: {error}") from None
    if not found:
        raise LengthwiseError(f"{fspath(path)}: there is no example in it")
    return found


def _example(line: str) -> Example:
    try:
        given: Any = json.loads(line)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise LengthwiseError("this is no JSON object")
    prompt: Any = given.get("prompt")
    program, begin = given.get("program"), given.get("begin", "")
    if not prompt or not isinstance(prompt, (str, list)):
        raise LengthwiseError("`prompt` must be a text or chat messages")
    if not isinstance(program, str) or not isinstance(begin, str):
        raise LengthwiseError("`program` must be a text, and `begin` too where it is given")
    if not program.startswith(begin) or (begin and not str(prompt).endswith(begin)):
        raise LengthwiseError(
            "`begin` must be what the program begins with and the prompt, a text, ends with"
        )
    found = Example(prompt, program, begin)
    found.tree()
    return found


__all__ = ["Example", "read_examples"]
