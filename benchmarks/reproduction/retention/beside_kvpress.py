"""What is left of a list by our methods and by those of kvpress, at a quarter of the same text.

    python -m benchmarks.reproduction retention/beside_kvpress --python .peers/kvpress/bin/python

`make bench-peers` makes that environment.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.retention.copying import LENGTH, WORDS_IN_PROMPT, bench, means

from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.adakv import AdaKV
from lengthwise.methods.retention.expected_attention import ExpectedAttention
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.methods.retention.tova import TOVA
from lengthwise.models.embedded import converted_folder

SHARE = 0.25
PEER = Path(__file__).parents[2] / "kvpress_copies.py"
# Votes as kvpress takes them: means of 7 neighbours.
OURS: dict[str, Method] = {
    "tova": TOVA(Budget(25, "%")),
    "snapkv": SnapKV(Budget(25, "%"), pooling="avg"),
    "adakv": AdaKV(Budget(25, "%"), safeguard="floor", pooling="avg"),
    "expected_attention": ExpectedAttention(Budget(25, "%"), epsilon=0.02),
    "expected_attention(adaptive)": ExpectedAttention(Budget(25, "%"), epsilon=0.02, adaptive=True),
}
WHOLE = ExpectedAttention(budget=Budget(2 * LENGTH))


@check({"method": "", "ours": ".2f", "kvpress": ".2f"})
def beside_kvpress(
    python: Path, words: int = WORDS_IN_PROMPT, length: int = 2048
) -> Iterator[Found]:
    """Losses of the copy, three lists each; words: of its first, how many end the prompt."""
    chosen = bench()
    cases = chosen.cases(words, length)
    folder = str(converted_folder(torch.bfloat16))
    theirs = _ask(python, {"model": folder, "share": SHARE, "cases": cases})
    ours: dict[str, list[float]] = {name: [] for name in OURS}
    for case in cases:
        read = chosen.read(case["prompt"], WHOLE)
        for name, method in OURS.items():
            ours[name].append(chosen.after(read, method, case["target"], case["skip"]))
    for name in OURS:
        yield {"method": f"`{name}`", "ours": means(ours[name]), "kvpress": means(theirs[name])}


def _ask(python: Path, given: dict[str, Any]) -> dict[str, list[float]]:
    """What the peer finds."""
    done = subprocess.run(
        [str(python), str(PEER)], input=json.dumps(given), text=True, check=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found
