"""The Power Scheduler against warm-up, stable and decay, on tiny models trained from scratch.

The law with its published constants and with the best of four `a` in the first case, against four
rates, for two batch sizes and two numbers of tokens. Losses are nats a token on held-out files. One
thread; about 6 minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.reproduction import tiny
from benchmarks.reproduction.harness import Found, Note, check
from transformers import LlamaConfig, LlamaForCausalLM

from lengthwise.training.schedules import POWER_A, power as power_rate, wsd

ROW = 256
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
LAWS = (2.0, POWER_A, 8.0, 16.0)
BATCHES = (256, 1024)
TOKENS = (1 << 16, 1 << 18)
WARMUP, DECAY = 0.1, 0.2
"""Of the tokens: both schedules warm up and decay over the same."""
WSD, LAW = "wsd at 1e-3, 2e-3, 4e-3, 8e-3", "law, a = 4"


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


def over(loss: float, best: float) -> dict[str, Any]:
    """A loss and how far it lies above the best one."""
    return {"loss": round(loss, 4), "above": f"{100 * (loss / best - 1):+.1f}%"}


@check({"tokens": "", "batch": "", "seed": "", WSD: ".2f", LAW: ".2f", "law, a carried": ".2f",
        "wsd, rate carried": ".2f"})  # fmt: skip
def power(folder: Path, seeds: tuple[int, ...] = (0, 1)) -> Iterator[Found]:
    """Each batch size and number of tokens: the losses of four rates, and of the law."""
    torch.set_num_threads(1)
    for seed in seeds:
        yield from cases(folder, seed)


def cases(folder: Path, seed: int) -> Iterator[Found]:
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
                yield Note({
                    f"first case, seed {seed}": {f"a = {a:g}": round(laws[a], 4) for a in laws},
                    f"carried, seed {seed}": {"rate": carried[0], "a": carried[1]},
                })  # fmt: skip
            yield {
                "tokens": total, "batch": batch, "seed": seed,
                WSD: [round(each, 4) for each in wsds.values()],
                LAW: over(laws[POWER_A], wsds[best]),
                "law, a carried": over(laws[carried[1]], wsds[best]),
                "wsd, rate carried": over(wsds[carried[0]], wsds[best]),
            }  # fmt: skip
