"""What a learning rate and a growing model gain, on tiny models trained from scratch.

    python -m benchmarks.checks.training_methods FOLDER NAME [--seed 0]

prints one JSON line a case. NAME is `power`: the Power Scheduler, with its published constants and
with the best of four `a` in the first case, against warm-up, stable and decay at four rates, for
two batch sizes and two numbers of tokens; or `stack`: G_stack, two layers that become eight,
against eight from the first step and two to the last, for as many FLOPs. Losses are nats a token on
held-out files. One thread; about 6 minutes each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.reproduction import tiny
from transformers import LlamaConfig, LlamaForCausalLM

from lengthwise.training.log import NAME, read_log
from lengthwise.training.schedules import POWER_A, power as power_rate, wsd

ROW = 256
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
LAWS = (2.0, POWER_A, 8.0, 16.0)
BATCHES = (256, 1024)
TOKENS = (1 << 16, 1 << 18)
WARMUP, DECAY = 0.1, 0.2
"""Of the tokens: both schedules warm up and decay over the same."""
DEEP, FACTOR, GROWN_AT, DEEP_STEPS = 8, 4, 80, 400
EVERY = 25
"""Steps between two evaluations of `stack`."""


def stream(folder: Path, place: Path) -> torch.Tensor:
    """The tokens of a JSONL file, documents shuffled, an end behind each: int64 [rows, ROW]."""
    encoder = tiny.encoder(folder)
    ids = [np.append(each, encoder.end) for each in encoder.encode(tiny.texts(place))]
    order = np.random.default_rng(0).permutation(len(ids))
    whole = np.concatenate([ids[i] for i in order])
    return torch.from_numpy(whole[: len(whole) // ROW * ROW].astype(np.int64)).view(-1, ROW)


def trained(rows: torch.Tensor, batch: int, rate: Callable[[int], float], steps: int,
            seed: int) -> LlamaForCausalLM:  # fmt: skip
    """Two layers of width 64 after `steps` steps of `batch` tokens; rate: of the 0-based step."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=64, intermediate_size=168, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
    ))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    count = batch // ROW
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        ids = rows[step * count : (step + 1) * count]
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.inference_mode()
def loss(model: LlamaForCausalLM, rows: torch.Tensor) -> float:
    """Nats a token over all rows."""
    return float(np.mean([float(model(input_ids=r, labels=r).loss) for r in rows.split(16)]))


def power(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Each batch size and number of tokens: the losses of four rates, and of the law.

    carried: the rate, and the law's a, that were best in the first case, in every case.
    """
    train_on, validation = tiny.library(folder)
    rows, held_out = stream(folder, train_on), stream(folder, validation)[:256]
    carried: tuple[float, float] | None = None
    for total in TOKENS:
        for batch in BATCHES:
            warmup, decay = WARMUP * total, DECAY * total

            def stable(step: int, peak: float) -> float:
                return wsd((step + 1) * batch, total, peak=peak, warmup=warmup, decay_last=decay)  # noqa: B023

            def law(step: int, a: float) -> float:
                return power_rate((step + 1) * batch, tokens_per_step=batch, total_tokens=total,  # noqa: B023
                                  warmup_tokens=warmup, decay_last=decay, a=a)  # noqa: B023  # fmt: skip

            def measure(rate: Callable[[int, float], float], value: float) -> float:
                model = trained(rows, batch, lambda n: rate(n, value), total // batch, seed)  # noqa: B023
                return loss(model, held_out)

            wsds = {peak: measure(stable, peak) for peak in RATES}
            tried = LAWS if carried is None else {POWER_A, carried[1]}
            laws = {a: measure(law, a) for a in tried}
            best = min(wsds, key=lambda peak: wsds[peak])
            if carried is None:
                carried = best, min(laws, key=lambda a: laws[a])
            yield {
                "tokens": total, "batch": batch, "seed": seed, "wsd": rounded(wsds),
                "power": rounded(laws), "best": best, "carried": carried,
                "over_best": {
                    "carried_rate": round(wsds[carried[0]] / wsds[best] - 1, 4),
                    "published_law": round(laws[POWER_A] / wsds[best] - 1, 4),
                    "carried_law": round(laws[carried[1]] / wsds[best] - 1, 4),
                },
            }  # fmt: skip


def rounded(found: dict[float, float]) -> dict[str, float]:
    """Losses by what they were found with."""
    return {f"{value:g}": round(each, 4) for value, each in found.items()}


def stack(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Eight layers from the first step, grown with a schedule anew or kept, and two layers."""
    train_on, validation = tiny.library(folder)
    rows = tiny.data(folder, train_on, "concat", length=ROW)
    held_out = tiny.data(folder, validation, "concat", length=ROW)
    data = {"train": rows, "validation": held_out}
    evaluation = {"every": EVERY, "documents": 128, "max_length": ROW}
    shallow = tiny.MODEL | {"num_hidden_layers": DEEP // FACTOR}
    deep = tiny.MODEL | {"num_hidden_layers": DEEP}
    common: dict[str, Any] = {"data": data, "evaluation": evaluation, "seed": seed,
                              "tokens_per_step": 2 * ROW,
                              "log": {"every": 1, "plot_every": 0}}  # fmt: skip
    scratch = curve(tiny.run(folder, f"stack-scratch-{seed}", rows, model=deep, steps=DEEP_STEPS,
                             **common))  # fmt: skip
    whole, target = scratch[-1]
    yield {"model": "8 layers", "seed": seed, "steps": DEEP_STEPS, "flops": whole, "loss": target}
    # As many steps more as the shallow ones leave of the FLOPs.
    small, large = (6 * sum(sizes(layers)) for layers in (DEEP // FACTOR, DEEP))
    steps = DEEP_STEPS + round(GROWN_AT * (1 - small / large))
    for schedule in ("fresh", "kept"):
        growth = {"at_step": GROWN_AT, "factor": FACTOR, "schedule": schedule}
        place = tiny.run(folder, f"stack-{schedule}-{seed}", rows, model=shallow, steps=steps,
                         growth=growth, **common)  # fmt: skip
        found = curve(place)
        reached = [flops for flops, each in found if each <= target]
        yield {"model": f"2 to 8 layers, schedule {schedule}", "seed": seed, "steps": steps,
               "grown_at": GROWN_AT, "flops": found[-1][0], "loss": found[-1][1],
               "loss_at_equal_flops": np.interp(whole, *zip(*found, strict=True)).round(4),
               "flops_until_scratch_loss": round(reached[0] / whole, 3) if reached else None,
               "curve": [(round(f / whole, 3), each) for f, each in found]}  # fmt: skip
    steps = round(whole / (found[0][0] / EVERY))
    place = tiny.run(folder, f"stack-shallow-{seed}", rows, model=shallow, steps=steps, **common)
    flops, reached_loss = curve(place)[-1]
    yield {"model": "2 layers", "seed": seed, "steps": steps, "flops": flops, "loss": reached_loss}


def sizes(layers: int) -> tuple[int, int]:
    """Weights that multiply: of the layers, and of the head; attention's own work stands beside."""
    width, inner = tiny.MODEL["hidden_size"], tiny.MODEL["intermediate_size"]
    assert isinstance(width, int) and isinstance(inner, int)
    return layers * (4 * width**2 + 3 * width * inner), tiny.VOCABULARY * width


def curve(place: Path) -> list[tuple[float, float]]:
    """(FLOPs so far, validation loss) of every evaluation of a run."""
    found, flops = [], 0.0
    for record in read_log(place / NAME):
        if record["kind"] == "train":
            flops += record["parameter_flops"] + record["attention_flops"]
        elif record["kind"] == "evaluation":
            found.append((flops, round(record["L"], 4)))
    return found


def _named(check: tiny.Check) -> tiny.Check:
    """A check whose every finding says on which text it was made."""

    def findings(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
        for found in check(folder, seed):
            yield {"corpus": tiny.fingerprint(folder / "train.jsonl"), **found}

    return findings


CHECKS: dict[str, tiny.Check] = {"power": _named(power), "stack": _named(stack)}


if __name__ == "__main__":
    tiny.command(CHECKS, "what a learning rate and a growing model gain")
