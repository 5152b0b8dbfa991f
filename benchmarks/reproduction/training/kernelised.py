"""Kernelised attention trained tiny beside softmax, on the same book, by the trainer.

`mixers.py` says on what, and how losses are measured: in rows of 256 (the trained length) and of
1,024. All models have the same SIZES and read the same rows. `operations` counts what a head
multiplies over one document, without projections.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.training import mixers

from lengthwise.architectures.kernelised import products

SIZES = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
         "num_attention_heads": 2, "initializer_range": 0.1}  # fmt: skip
KERNELISED = {"family": "kernelised_attention", "path": "dense", **SIZES}
MODELS: dict[str, dict[str, Any]] = {
    "softmax, T5's bias": {"family": "position_schemes", "scheme": "t5", **SIZES},
    "softmax, no positions": {"family": "position_schemes", "scheme": "none", **SIZES},
    "kernelised": KERNELISED,
    "kernelised, no bias": {**KERNELISED, "biased": False},
    "kernelised, not normalised": {**KERNELISED, "normalised": False},
    "kernelised, radius 2": {**KERNELISED, "radius": 2.0},
}
READ = (256, 1024)


@check({"model": "", "256": ".3f", "1024": ".3f"})
def kernelised(folder: Path, steps: int = 400) -> Iterator[Found]:
    """Losses at the trained length and at four times it; then those of the FFT."""
    book = mixers.opened(folder)
    for number, (name, sizes) in enumerate(MODELS.items()):
        model = book.trained(f"kernelised-{number}-{steps}", sizes, steps)
        yield {"model": name, **book.losses(model, READ)}
        if sizes == KERNELISED:
            model.config.path = "fft"
            found = book.losses(model, READ)
            yield Note({f"by the FFT, {length}": each for length, each in found.items()})


@check({"tokens": "d", "softmax": ".3g", "kernelised, dense": ".3g", "kernelised, FFT": ".3g",
        "FFT of softmax": ".3f"})  # fmt: skip
def operations(size: int = 64) -> Iterator[Found]:
    """Products of a head of 64 with 64 features, by the length of a document."""
    for power in range(8, 19, 2):
        count = 1 << power
        found = {way: products(count, size, size, way) for way in ("softmax", "dense", "fft")}
        yield {
            "tokens": count, "softmax": float(found["softmax"]),
            "kernelised, dense": float(found["dense"]), "kernelised, FFT": float(found["fft"]),
            "FFT of softmax": found["fft"] / found["softmax"],
        }  # fmt: skip
