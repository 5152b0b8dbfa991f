"""Small builds that the tests of sequences share."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lengthwise.sequences.build import Build, Settings, build
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.records import Fields
from lengthwise.sequences.store import SequenceSet

CLI = "from lengthwise.cli.sequences import sequences; sequences(standalone_mode=False)"


def jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def run(sources: list[Path], out: Path, method: str, length: int = 64, **other: Any) -> SequenceSet:
    options = {"min_length": "8"} if method == "decompose" else {}
    options |= other.pop("options", {})
    task = Build(
        Sources(tuple(map(str, sources)), Fields(memory=other.pop("fields_memory", 1 << 30))),
        ByteEncoder(), make_builder(method, options, length), Settings(**other), out,
        out / "tokens",
    )  # fmt: skip
    build(task)
    return SequenceSet(out)


def rows_of(found: SequenceSet) -> list[Any]:
    return [found.row(n, b) for b, count in found.buckets.items() for n in range(count)]


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def some_texts(count: int, longest: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices("abcdef \n", k=chance.randint(1, longest))) + "x"
            for _ in range(count)]  # fmt: skip


def goes_on_to_the_same_bytes(
    place: Path, build: Callable[[Path], object], steps: tuple[int, int], least: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Like a kill, but at each place where a file becomes final, one after another.

    steps: how many files become final before the first stop, and over how many numbers of them the
    stops go. least: stops that there must be more of.
    """
    build(place / "whole")
    real, left = os.replace, [0]

    def replace(*names: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*names)

    monkeypatch.setattr(os, "replace", replace)
    stops = 0
    while not (place / "out" / "__about__" / "manifest.json").exists():
        left[0] = steps[0] + stops % steps[1]
        try:
            build(place / "out")
        except KeyboardInterrupt:
            stops += 1
    assert stops > least
    assert tree(place / "out") == tree(place / "whole")
