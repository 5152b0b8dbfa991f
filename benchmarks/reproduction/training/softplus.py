"""Softplus attention beside a softmax: trained to 256 tokens, read in longer rows.

`mixers.py` says on what, and how losses are measured: in rows of 256 (the trained length) and of
two, four and eight times that. All models have the same SIZES, rotary positions in all channels,
and read the same rows. A power may be put in after training, too: what a model was trained with
and what it is read with stand in columns of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.training import mixers

SIZES = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
         "num_attention_heads": 4, "initializer_range": 0.05}  # fmt: skip
SOFTMAX = {"family": "position_schemes", "scheme": "rotary", "partial_rotary_factor": 1.0, **SIZES}
SOFTPLUS = {"family": "softplus_attention", **SIZES}
READ = (256, 512, 1024, 2048)
POWERS = {0: (0, 3, 15), 3: (3, 15), 15: (15,)}
"""Powers that models are read with, by the power that they were trained with; 0 is LSSA."""


@check({"attention": "", "trained with": "", "read with": "", "seeds": "d",
        **{str(length): ".3f" for length in READ}})  # fmt: skip
def softplus(folder: Path, steps: int = 1000, seeds: int = 1) -> Iterator[Found]:
    """Losses at the trained length and at two, four and eight times it, a mean over seeds."""
    book = mixers.opened(folder)
    models = [book.trained(f"softmax-{steps}-{n}", SOFTMAX, steps, n) for n in range(seeds)]
    yield {"attention": "softmax", **measured(book, models)}
    for trained, powers in POWERS.items():
        sizes, name = {**SOFTPLUS, "power": trained}, f"softplus-{trained}-{steps}"
        models = [book.trained(f"{name}-{n}", sizes, steps, n) for n in range(seeds)]
        for power in powers:
            for model in models:
                model.config.power = float(power)
            said = {"trained with": told(trained), "read with": told(power)}
            yield {"attention": "softplus", **said, **measured(book, models)}


def told(power: int) -> str:
    """A power as tables have it."""
    return f"LSSAR, p = {power}" if power else "LSSA"


def measured(book: mixers.Book, models: list[Any]) -> dict[str, float]:
    """Mean losses of models that differ in their seed."""
    found = [book.losses(model, READ) for model in models]
    means = {str(length): mean(each[str(length)] for each in found) for length in READ}
    return {"seeds": len(models), **means}
