"""A session in coded chunks against the session: what each level loses, and the bytes it takes.

Slices of a book as in `codecs/slices.py`: 1,536 tokens read and saved, the file opened, and 512
tokens fed through what came back. `share` is the whole file, token ids and manifest included, over
the bfloat16 bytes of keys and values. `bits` is the same a number. `above` is the loss above that
of the session before it was saved.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmarks.reproduction.book import moby_dick
from benchmarks.reproduction.codecs.slices import FED, SLICES, slices
from benchmarks.reproduction.harness import Found, check, encode, load
from torch import Tensor

import lengthwise
from lengthwise.engine.loop import teacher_force

# What is saved, and the recipe that it is read under; a recipe with a codec of its own is
# compressed first.
PAPER = [f"cachegen(level={level})" for level in ("1", "2", "3", "lossless")]
RELEASED = [f"cachegen(level={level}, group=1)" for level in ("1", "2", "3")]
KEPT = [("full", None), *(("full", codec) for codec in (*PAPER, *RELEASED)), ("int8", None)]
BLOCK = 128


def logits_behind(session: lengthwise.Session, ids: list[int]) -> Tensor:
    """Log-probabilities float32 `[n, vocab]` of what follows a session, which stays as it was."""
    return teacher_force(session.held.fork(), ids, BLOCK).float().log_softmax(-1)


def plain_bytes(session: lengthwise.Session) -> int:
    """Bytes of the keys and values of a session in bfloat16."""
    numbers = sum(layer.facts.entry_numbers for layer in session.held.layers)
    return 2 * numbers * len(session)


@check(
    {
        "recipe": "", "codec": "", "loss": ".4f", "above": "+.4f", "KL": ".4f", "bits": ".2f",
        "share": ".3f",
    }
)  # fmt: skip
def cachegen() -> Iterator[Found]:
    """Every level, with anchors and without, beside the session itself and int8."""
    model = load("bfloat16")
    sums = {each: [0.0, 0.0, 0.0] for each in KEPT}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "held")
        for ids in slices(encode(model, moby_dick())):
            rest, truth = ids[-FED:], torch.empty(0)
            held = {recipe: model.read(ids[:-FED], recipe) for recipe in ("full", "int8")}
            held["int8"].compress()
            for recipe, codec in KEPT:
                session = held[recipe]
                session.save(path, codec)
                scores = logits_behind(lengthwise.open_session(path, model), rest)
                truth = scores if (recipe, codec) == KEPT[0] else truth
                total = sums[recipe, codec]
                total[0] += float(F.nll_loss(scores, torch.tensor(rest)))
                total[1] += float(F.kl_div(scores, truth, reduction="batchmean", log_target=True))
                total[2] += path.stat().st_size / plain_bytes(session)
    full = sums[KEPT[0]][0] / SLICES
    for (recipe, codec), total in sums.items():
        loss, kl, share = (each / SLICES for each in total)
        yield {
            "recipe": recipe, "codec": codec or "none", "loss": round(loss, 4),
            "above": round(loss - full, 4), "KL": round(kl, 4), "bits": round(16 * share, 2),
            "share": round(share, 3),
        }  # fmt: skip


@check({"codec": "", "encode MB/s": ".0f", "decode MB/s": ".0f", "open s": ".2f", "read s": ".2f"})
def speed(tokens: int = 8192, rounds: int = 3) -> Iterator[Found]:
    """Seconds to save and to open, beside those of reading; MB of bfloat16 keys and values a
    second."""
    model = load("bfloat16")
    ids = encode(model, moby_dick())[:tokens]
    begin = time.perf_counter()
    session = model.read(ids)
    read = time.perf_counter() - begin
    size = plain_bytes(session) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "held")
        for codec in (None, *PAPER, *RELEASED):
            saves, opens = [], []
            for _ in range(rounds):
                begin = time.perf_counter()
                session.save(path, codec)
                saves.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                lengthwise.open_session(path, model)
                opens.append(time.perf_counter() - begin)
            saved, opened = sorted(saves)[rounds // 2], sorted(opens)[rounds // 2]
            yield {
                "codec": codec or "none", "encode MB/s": size / saved,
                "decode MB/s": size / opened, "open s": opened, "read s": read,
            }  # fmt: skip
