"""Beam search beside transformers': the same texts, and how fast they come at a long prompt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median

import torch
from benchmarks.reproduction.harness import Found, Note, check, load, reference

import lengthwise


def _stock(model: lengthwise.Model, ids: Sequence[int], width: int, new: int) -> list[int]:
    with torch.no_grad():
        found = model.adapted.model.generate(
            torch.tensor([list(ids)]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            num_beams=width, max_new_tokens=new, do_sample=False, eos_token_id=model.stop_ids(),
            pad_token_id=model.stop_ids()[0], top_p=None, temperature=None, top_k=None,
            repetition_penalty=1.0,
        )  # fmt: skip
    new_ids = found[0, len(ids) :].tolist()
    stops = set(model.stop_ids())
    end = next((at for at, token in enumerate(new_ids) if token in stops), len(new_ids))
    return new_ids[:end]


@check({"width": "", "prompts": "", "equal": "", "tokens": ","})
def equal(prompts: int = 50, width: int = 4, tokens: int = 128, new: int = 32) -> Iterator[Found]:
    """Token for token, in float32, on stretches of a reference manual."""
    model = load(dtype="float32")
    text = reference(model)
    same = written = 0
    for number in range(prompts):
        ids = text[number * tokens : (number + 1) * tokens]
        ours = model.generate(ids, f"beam(width={width})", max_new_tokens=new).token_ids
        same += ours == _stock(model, ids, width, new)
        written += len(ours)
    yield {"width": width, "prompts": prompts, "equal": same, "tokens": written}


@check({"tokens": ",", "width": "", "ours, tokens/s": ".2f", "transformers, tokens/s": ".2f",
        "ratio": ".2f", "KV, MB": ".1f"})  # fmt: skip
def speed(
    tokens: int = 4096, width: int = 4, new: int = 32, rounds: int = 3
) -> Iterator[Found]:  # fmt: skip
    """In turn, in one run; both are timed without the reading of the prompt."""
    model = load()
    ids = reference(model)[:tokens]
    ours, stock = [], []
    kv = 0
    model.generate(ids, f"beam(width={width})", max_new_tokens=2, stop_ids=[])
    for _ in range(rounds):
        found = model.generate(ids, f"beam(width={width})", max_new_tokens=new, stop_ids=[])
        ours.append(found.metrics.decode_s / (new - 1))
        kv = found.metrics.kv_peak_bytes
        spent = []
        for count in (1, new):
            begin = time.perf_counter()
            with torch.no_grad():
                model.adapted.model.generate(
                    torch.tensor([ids]), attention_mask=torch.ones(1, tokens, dtype=torch.long),
                    num_beams=width, max_new_tokens=count, min_new_tokens=count, do_sample=False,
                    pad_token_id=0, top_p=None, temperature=None, top_k=None,
                    repetition_penalty=1.0,
                )  # fmt: skip
            spent.append(time.perf_counter() - begin)
        stock.append((spent[1] - spent[0]) / (new - 1))
    one, other = median(ours), median(stock)
    yield {
        "tokens": tokens, "width": width, "ours, tokens/s": 1 / one,
        "transformers, tokens/s": 1 / other, "ratio": other / one, "KV, MB": kv / 1e6,
    }  # fmt: skip
    yield Note({"rounds": [round(b / a, 2) for a, b in zip(ours, stock, strict=True)]})
