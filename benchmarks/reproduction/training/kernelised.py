"""Kernelised attention trained tiny beside softmax, on the same book, by the trainer.

The corpus, tokenizer and held-out tokens are those of `positions/lengthened.py`: Moby Dick in 1,024
byte-level pieces, losses in nats a token of its last 8,192, in rows of 256 (the trained length) and
of 1,024. All models have the sizes of MODEL and read the same rows. `operations` counts what a head
multiplies over one document, without projections. What is trained is kept in FOLDER and not done
again. float32, CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.reproduction import tiny
from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.positions import lengthened
from transformers import PreTrainedModel

from lengthwise import architectures
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


@torch.inference_mode()
def loss(model: PreTrainedModel, ids: Sequence[int], length: int) -> float:
    """Nats a token in rows of a length; a row's first token is not counted."""
    rows = torch.tensor(ids).view(-1, length)
    total = 0.0
    for some in rows.split(max(1, 2048 // length)):
        logits = model(input_ids=some).logits[:, :-1].flatten(0, 1).float()
        total += float(torch.nn.functional.cross_entropy(logits, some[:, 1:].flatten(),
                                                         reduction="sum"))  # fmt: skip
    return round(total / (rows.numel() - len(rows)), 4)


@check({"model": "", "256": ".3f", "1024": ".3f"})
def kernelised(folder: Path, steps: int = 400) -> Iterator[Found]:
    """Losses at the trained length and at four times it; then those of the FFT."""
    architectures.register()
    rows, ids = lengthened.prepare(folder)[256], lengthened.held_out(folder)
    for number, (name, sizes) in enumerate(MODELS.items()):
        place = tiny.run(folder, f"kernelised-{number}-{steps}", rows, steps=steps, model=sizes)
        model = tiny.trained(place)
        yield {"model": name, **{str(n): loss(model, ids, n) for n in READ}}
        if sizes == KERNELISED:
            for layer in model.layers:  # type: ignore[attr-defined]
                layer.attention.config.path = "fft"
            yield Note({f"by the FFT, {n}": loss(model, ids, n) for n in READ})


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
