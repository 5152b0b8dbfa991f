"""Members behind dots in Python's own library: with a language server that watches, and without."""

from __future__ import annotations

import importlib
import io
import random
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jedi
from benchmarks.reproduction.harness import Found, check, load

from lengthwise.methods.decoding.monitor import Monitor
from lengthwise.recipes import Recipe

# Files that every Python has, with classes of their own.
MODULES = (
    "argparse", "calendar", "cmd", "configparser", "csv", "fractions", "mailbox", "sched", "shlex",
    "string", "tarfile", "textwrap", "trace", "wave", "zipapp", "zipfile",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A place behind a dot: the code before it, the name that the file has there, and all names
    that the language server knows."""

    code: str
    name: str
    known: frozenset[str]


def points(count: int, least: int, most: int, seed: int) -> list[Point]:
    """Places behind dots, of which the language server knows something, between two characters."""
    found: list[Point] = []
    draws = random.Random(seed)
    for module in MODULES:
        path = importlib.import_module(module).__file__
        text = Path(path or "").read_text("utf-8")
        lines = [0]
        for line in text.splitlines(keepends=True):
            lines.append(lines[-1] + len(line))
        before = ["", ""]
        places: list[tuple[int, str]] = []
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            at = lines[token.start[0] - 1] + token.start[1]
            dotted = before[1] == "." and before[0].isidentifier()
            if token.type == tokenize.NAME and dotted and least <= at <= most:
                places.append((at, token.string))
            before = [before[1], token.string]
        draws.shuffle(places)
        taken = 0
        for at, name in places:
            known = names(text[:at])
            if known:
                found.append(Point(text[:at], name, known))
                taken += 1
            if taken * len(MODULES) >= count:
                break
    return found[:count]


def names(code: str) -> frozenset[str]:
    """What jedi knows behind the dot at the end of code."""
    row, column = code.count("\n") + 1, len(code) - code.rfind("\n") - 1
    return frozenset(each.name for each in jedi.Script(code).complete(row, column))


def first_name(text: str) -> str:
    """The name that a text begins with."""
    end = next(
        (n for n, letter in enumerate(text) if not (letter.isalnum() or letter == "_")), None
    )
    return text[:end]


@check({"recipe": "", "points": "", "known members": ".1%", "as in the file": ".1%",
        "known to the server": ".1%", "places asked": ".1f", "seconds asked": ".2f"})  # fmt: skip
def monitor(
    count: int = 48, least: int = 1500, most: int = 6000, new: int = 10, seed: int = 0
) -> Iterator[Found]:
    """The first name behind the dot, greedily: is it a member, and is it the file's."""
    model, places = load(), points(count, least, most, seed)
    for method in (None, Monitor()):
        member = same = 0
        asked = seconds = 0.0
        for point in places:
            recipe = Recipe(() if method is None else (method,))
            found = model.generate(point.code, recipe, max_new_tokens=new)
            name = first_name(found.text)
            member += name in point.known
            same += name == point.name
            asked += found.metrics.figures.get("monitor: places asked", 0)
            seconds += found.metrics.figures.get("monitor: seconds", 0)
        there = sum(point.name in point.known for point in places)
        yield {
            "recipe": "full" if method is None else str(method), "points": len(places),
            "known members": member / len(places), "as in the file": same / len(places),
            "known to the server": there / len(places), "places asked": asked / len(places),
            "seconds asked": seconds / len(places),
        }  # fmt: skip
