"""What the checks of Medusa's heads and EAGLE's layer share: training here, and tokens a round.

Nobody has published either for the embedded model, so they are trained here for some minutes, on
the Python reference, and written to FOLDER as their authors publish theirs; then they are read back
as a user reads them. What is trained is kept in FOLDER and not trained again. Tokens a round of
greedy decoding with everything verified: behind more of that text, and behind prompts of other
kinds. Float32; guesses are counted, no time is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from benchmarks.reproduction.drafting.asking import KINDS, adapted
from benchmarks.reproduction.harness import Row, load, reference
from safetensors.torch import save_file
from torch import Tensor

from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.methods.base import Method
from lengthwise.models.adapted_model import AdaptedModel

ROW, ROWS, HELD = 256, 208, 8
STEPS, NEW = 400, 64
Train = Callable[[AdaptedModel, "Texts", Path], list[float]]
Texts = list[tuple[Tensor, Tensor]]


@cache
def texts() -> Texts:
    """Rows of the reference with the states that the head reads of them, and what it says last."""
    ids = torch.tensor(reference(load("float32"))[: ROW * ROWS]).view(ROWS, ROW)
    model = adapted()
    with torch.no_grad():
        states = [model.model.model(row[None]).last_hidden_state[0] for row in ids]
    return list(zip(ids, states, strict=True))


def trained(train: Train, folder: Path) -> list[float]:
    """Losses at first and at the end of training, done now where FOLDER has none."""
    told = folder / "losses.json"
    if not told.exists():
        torch.manual_seed(0)
        losses = train(adapted(), texts()[:-HELD], folder)
        found = [round(losses[0], 2), round(sum(losses[-20:]) / 20, 2)]
        told.write_text(json.dumps(found))
    read: list[float] = json.loads(told.read_text())
    return read


def write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], name: str) -> None:
    """A checkpoint as authors publish theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / name)


PLACES = ("reference", *KINDS)


def rounds(method: Method, held: Texts) -> tuple[Row, Row]:
    """Rows of tokens a round, and of guesses verified and right. Raises RuntimeError where a text
    is not that of plain decoding."""
    model, loaded = adapted(), load("float32")
    prompts = {"reference": held[0][0].tolist()}
    for name, text in KINDS.items():
        prompts[name] = loaded.encode([{"role": "user", "content": text}])
    said: Row = {"": "tokens a round"}
    guesses: Row = {"": "guesses verified, right"}
    for name, ids in prompts.items():
        plain, _ = _decoded(model, ids)
        output, metrics = _decoded(model, ids, method)
        if output != plain:
            raise RuntimeError(f"{name}: the text is not that of plain decoding")
        said[name] = round(metrics.accepted_per_step, 2)
        guesses[name] = [metrics.drafted, sum(metrics.accepted.values())]
    return said, guesses


def _decoded(model: AdaptedModel, ids: list[int], *methods: Method) -> tuple[list[int], Any]:
    makers = tuple(lambda method=method: method.start_drafter(model) for method in methods)
    sequence = Sequence(model, replace(recipes.resolve("full", model), drafters=makers))
    request = loop.begin(sequence, Sampling(), NEW, ())
    loop.start(request, loop.prefill(sequence, ids))
    for _ in loop.run(request, Fixed()):
        pass
    return request.output, loop.finish(request)
