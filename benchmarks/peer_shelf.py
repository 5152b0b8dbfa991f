"""kvpress on the work of `lengthwise bench shelf`: run by peers.sh in an environment of its own.

    python -m benchmarks.shelf text | PYTHON benchmarks/peer_shelf.py MODEL OUT [--method NAME ...]

Reads token ids as JSON on standard input; appends rows with the fields of ShelfRow to OUT, a line
each. Rows that are there already are not measured again. Imports nothing of lengthwise.

The protocol is that of kvpress's own pipeline. The context is read in one forward under a press,
which compresses each layer behind its attention. Then the press is off, and what follows is fed at
the positions that it has in the text. `tokens_per_s` is of greedy tokens, one a forward.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import math
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from kvpress import (
    AdaKVPress,
    BasePress,
    DuoAttentionPress,
    ExpectedAttentionPress,
    KVzipPress,
    ObservedAttentionPress,
    PyramidKVPress,
    SnapKVPress,
    StreamingLLMPress,
    ThinKPress,
    TOVAPress,
)
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

ENGINE = f"kvpress {metadata.version('kvpress')}"
SHARES = (0.5, 0.25, 0.1)
NEW = 32


def _think(removed: float) -> BasePress:
    """Keys are half of the bytes, and it removes channels of keys alone."""
    if removed > 0.5:
        raise ValueError("it prunes keys alone, so half of the bytes is the most it removes")
    return ThinKPress(key_channel_compression_ratio=2 * removed)


# Our name -> their question and press, for the share of the cache that is removed. Variants of one
# method have a name behind a slash.
PRESSES: dict[str, tuple[str, Callable[[float], BasePress]]] = {
    "streaming": ("retention", lambda removed: StreamingLLMPress(removed)),
    "h2o": ("retention", lambda removed: ObservedAttentionPress(removed)),
    "snapkv": ("retention", lambda removed: SnapKVPress(removed)),
    "pyramidkv": ("retention", lambda removed: PyramidKVPress(removed)),
    "tova": ("retention", lambda removed: TOVAPress(removed)),
    "adakv": ("retention", lambda removed: AdaKVPress(SnapKVPress(removed))),
    "expected_attention": ("retention", lambda removed: ExpectedAttentionPress(removed)),
    "expected_attention/adakv": (
        "retention", lambda removed: AdaKVPress(ExpectedAttentionPress(removed, epsilon=1e-2))
    ),
    "kvzip": ("retention", lambda removed: KVzipPress(removed)),
    "duo": ("retention", lambda removed: DuoAttentionPress(head_compression_ratio=removed)),
    "think": ("codecs", _think),
}  # fmt: skip
# Presses that ask for the probabilities, which only the plain attention gives.
EAGER = ("h2o",)


class Bench:
    """A model, a text and what full attention made of it."""

    def __init__(self, folder: str, text: dict[str, Any], attention: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, text["dtype"]), attn_implementation=attention
        ).eval()
        self.text = text
        self.context = torch.tensor([text["context"]])
        self.truth: torch.Tensor | None = None

    @torch.no_grad()
    def measure(self, press: BasePress | None) -> dict[str, Any]:
        """The figures of a press; of full attention without one, which has to be first."""
        for layer in self.model.model.layers:
            layer.self_attn.masked_key_indices = None
        cache = DynamicCache()
        begin = time.perf_counter()
        if press is None:
            last = self._feed(self.context, cache, 0)
        else:
            with press(self.model):
                last = self._feed(self.context, cache, 0)
        seconds = time.perf_counter() - begin
        found = {"prefill_s": seconds, "kv_bytes": _bytes(cache)}
        masked = any(
            getattr(layer.self_attn, "masked_key_indices", None) is not None
            for layer in self.model.model.layers
        )
        notes = ["masks entries and holds all of them; the share is what is not masked"]
        found["notes"] = notes if masked else []
        found |= self._continuation(cache, last) | self._probes(cache)
        return found | self._write(cache, last)

    def _feed(self, ids: torch.Tensor, cache: DynamicCache, at: int) -> torch.Tensor:
        """Logits `[tokens, vocab]` of ids `[1, tokens]` at place `at`; of a context the last."""
        places = torch.arange(at, at + ids.shape[1])[None]
        if at == 0:
            states = self.model.model(input_ids=ids, past_key_values=cache).last_hidden_state[
                0, -1:
            ]
            return self.model.lm_head(states)
        return self.model(ids, past_key_values=cache, position_ids=places).logits[0]

    def _after(self, cache: DynamicCache, tokens: list[int]) -> torch.Tensor:
        """Logits of tokens behind the context, fed to a copy of the cache."""
        cache, at = copy.deepcopy(cache), self.context.shape[1]
        if len({layer.keys.shape[2] for layer in cache.layers}) == 1:
            return self._feed(torch.tensor([tokens]), cache, at)
        # One mask serves all layers, and is of the first one's length: a single token has none.
        parts = [self._feed(torch.tensor([[token]]), cache, at + n)
                 for n, token in enumerate(tokens)]  # fmt: skip
        return torch.cat(parts)

    def _continuation(self, cache: DynamicCache, last: torch.Tensor) -> dict[str, Any]:
        tokens = self.text["continuation"]
        logits = torch.cat([last, self._after(cache, tokens[:-1])])
        ours = torch.log_softmax(logits.float(), -1)
        first = self.truth is None
        theirs = ours if self.truth is None else self.truth
        self.truth = theirs
        loss = -ours[torch.arange(len(tokens)), torch.tensor(tokens)]
        divergence = (theirs.exp() * (theirs - ours)).sum(-1).tolist()
        return {
            "loss": float(loss.mean()), "kl": max(0.0, fmean(divergence)),
            "kl_error": None if first else stdev(divergence) / math.sqrt(len(divergence)),
            "agreement": float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()),
        }  # fmt: skip

    def _probes(self, cache: DynamicCache) -> dict[str, Any]:
        found: dict[str, Any] = {}
        depths = []
        for probe in self.text["probes"]:
            target = probe["target"]
            logits = self._after(cache, probe["suffix"] + target[:-1])[-len(target) :]
            loss = torch.nn.functional.cross_entropy(
                logits.float(), torch.tensor(target), reduction="none"
            )
            mean = float(loss[probe["skip"] :].mean())
            if probe["name"].startswith("needle"):
                depths.append([probe["depth"], mean])
            else:
                found[f"{probe['name']}_loss"] = mean
        return {**found, "needle_loss": fmean(y for _, y in depths), "needle_by_depth": depths}

    def _write(self, cache: DynamicCache, last: torch.Tensor) -> dict[str, Any]:
        cache, token = copy.deepcopy(cache), last.argmax(-1)
        begin = time.perf_counter()
        for place in range(NEW - 1):
            token = self._feed(token[None], cache, self.context.shape[1] + place).argmax(-1)
        return {
            "tokens_per_s": (NEW - 1) / (time.perf_counter() - begin), "new_tokens": NEW
        }  # fmt: skip


def _bytes(cache: DynamicCache) -> int:
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder of the model")
    parser.add_argument("out", type=Path, help="file of rows")
    parser.add_argument("--method", action="append", choices=list(PRESSES), help="default: all")
    parser.add_argument("--share", action="append", type=float, help="percent; default 50, 25, 10")
    given = parser.parse_args()
    logging.disable_progress_bar()
    text = json.load(sys.stdin)
    shares = [share / 100 for share in given.share or ()] or list(SHARES)
    done = _done(given.out, text)
    names = given.method or list(PRESSES)
    for attention in ("sdpa", "eager"):
        mine = [name for name in names if (name in EAGER) == (attention == "eager")]
        if mine:
            _run(given.model, text, attention, mine, shares, done, given.out)


def _done(out: Path, text: dict[str, Any]) -> set[str]:
    """Recipes of this text, model and dtype that a file has figures of."""
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    rows = [json.loads(line) for line in lines]
    return {
        row["recipe"] for row in rows
        if row["text"] == text["digest"] and row["dtype"] == text["dtype"]
        and row["model"] == text["model"] and not row["refused"]
    }  # fmt: skip


def _run(
    folder: str, text: dict[str, Any], attention: str, names: list[str], shares: list[float],
    done: set[str], out: Path,
) -> None:  # fmt: skip
    bench = Bench(folder, text, attention)
    full = bench.measure(None)
    rows: list[tuple[str, float, str, str]] = [("", 1.0, f"full ({attention})", "")]
    rows += [(name, share, f"{name} at {share:.4g}", PRESSES[name][0])
             for name in names for share in shares]  # fmt: skip
    for name, share, recipe, question in rows:
        if recipe in done:
            continue
        try:
            # Fifteen digits: what is removed is a ratio of theirs, and 1 - 0.9 is none.
            found = full if not name else bench.measure(PRESSES[name][1](round(1 - share, 12)))
            said = None
        except Exception as error:
            found, said = {}, f"{type(error).__name__}: {str(error).splitlines()[0]}"
        row = {
            "engine": ENGINE, "question": question, "method": name.partition("/")[0],
            "share": share, "recipe": recipe, "asked": name or "full",
            "model": text["model"], "dtype": text["dtype"],
            "device": "cpu", "document": text["document"], "text": text["digest"],
            "length": len(text["context"]), "follow": len(text["continuation"]),
            "query_aware": False, **found, "full_bytes": full["kv_bytes"], "refused": said,
            "origin": _origin(text),
        }  # fmt: skip
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        kl = "refused: " + said if said else f"KL {found['kl']:.3f}"
        print(f"{ENGINE} {recipe}: {kl}", file=sys.stderr, flush=True)


def _origin(text: dict[str, Any]) -> dict[str, Any]:
    """Machine and commit are those of who made the text, on the same machine."""
    versions = {name: metadata.version(name) for name in ("kvpress", "torch", "transformers")}
    threads = f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    return {
        "date": datetime.date.today().isoformat(), "versions": versions,
        "machine": {**text["origin"]["machine"], "threads": threads},
        "commit": text["origin"]["commit"], "command": "bash benchmarks/peers.sh shelf",
    }  # fmt: skip


if __name__ == "__main__":
    main()
