"""What the likeliest text is, with and without conditions; and a step on what a prompt left."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

import torch
from benchmarks.reproduction.harness import Found, check, load, reference

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.optimising import optimise

QUESTIONS = (
    "Say nothing.", "Thank you!", "Name a colour.", "What is 2 + 2?", "Write one sentence.",
    "Ok.", "What is the capital of France?", "Write a poem about rain.", "Stop.", "Bye.",
)  # fmt: skip


@check({"recipe": "", "empty": "", "tokens": ".1f", "log p": ".2f"})
def conditional_beam(width: int = 8, new: int = 24) -> Iterator[Found]:
    """Of ten questions how often the text that is found says nothing; its length, and log p."""
    model = load(dtype="float32")
    for recipe in (f"beam(width={width}, length_penalty=0)", f"conditional_beam(width={width})",
                   f"conditional_beam(width={width}, never=all)"):  # fmt: skip
        found = [
            model.generate([{"role": "user", "content": each}], recipe, max_new_tokens=new)
            for each in QUESTIONS
        ]
        yield {
            "recipe": f"`{recipe}`", "empty": sum(not each.text.strip() for each in found),
            "tokens": mean(len(each.token_ids) for each in found),
            "log p": mean(each.drafts[0].score for each in found),
        }  # fmt: skip


@check({"step": "g", "loss": ".4f", "change": "+.4f", "better": ""})
def hso(
    windows: int = 50, first: int = 128, seen: int = 64, ahead: int = 64,
    steps: tuple[float, ...] = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
) -> Iterator[Found]:  # fmt: skip
    """Loss of the next tokens after one step on the first ones, judged by those between."""
    model = load(dtype="float32")
    ids, size = reference(model), first + seen + ahead
    plain: list[float] = []
    for step in steps:
        losses = []
        for number in range(windows):
            text = ids[number * size : (number + 1) * size]
            sequence = Sequence(model.adapted, model.plan(), expected=size)
            loop.prefill(sequence, text[: first + seen])
            sequence.end_prefill()
            sequence.last_logits = optimise(sequence, seen, step)
            logits = loop.teacher_force(sequence, text[first + seen :], ahead)
            wanted = torch.tensor(text[first + seen :])[:, None]
            losses.append(float(-torch.log_softmax(logits.float(), -1).gather(1, wanted).mean()))
        plain = plain or losses
        yield {
            "step": step, "loss": mean(losses), "change": mean(losses) - mean(plain),
            "better": f"{sum(a < b for a, b in zip(losses, plain, strict=True))} of {windows}",
        }  # fmt: skip
