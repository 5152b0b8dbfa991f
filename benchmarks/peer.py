"""One engine on the work of `benchmarks.run`: run by peers.sh inside that engine's environment.

Reads {length: ids} as JSON on standard input; prints a table with seconds to the first token and
tokens per second over 32 new greedy tokens, medians of 5 rounds. Imports
nothing of lengthwise but to measure it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

NEW = 32
ROUNDS = 5
# From ids and a number of new tokens to seconds to the first and to the last of them.
Run = Callable[[list[int], int], tuple[float, float]]


def lengthwise(model: str, gguf: str, recipe: str = "full") -> Run:
    import lengthwise

    loaded = lengthwise.load()

    def run(ids: list[int], new: int) -> tuple[float, float]:
        metrics = loaded.generate(ids, recipe, max_new_tokens=new, stop_ids=()).metrics
        return metrics.ttft_s, metrics.ttft_s + metrics.decode_s

    return run


def transformers(model: str, gguf: str) -> Run:
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
    return lambda ids, new: _generate(loaded, ids, new)


def kvpress(model: str, gguf: str) -> Run:
    """SnapKV at a quarter of the cache: what kvpress is for."""
    import torch
    from kvpress import SnapKVPress
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
    press = SnapKVPress(compression_ratio=0.75)

    def run(ids: list[int], new: int) -> tuple[float, float]:
        with press(loaded):
            return _generate(loaded, ids, new)

    return run


def _generate(loaded: Any, ids: list[int], new: int) -> tuple[float, float]:
    """`generate` of transformers, its tokens timed by a criterion that never stops it."""
    import torch

    times: list[float] = []

    def mark(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool)

    start = time.perf_counter()
    loaded.generate(
        torch.tensor([ids]), max_new_tokens=new, min_new_tokens=new, do_sample=False,
        stopping_criteria=[mark],
    )  # fmt: skip
    return times[0] - start, times[-1] - start


def llama_cpp(model: str, gguf: str) -> Run:
    from llama_cpp import Llama

    loaded = Llama(gguf, n_ctx=9216, n_threads=2, n_batch=512, flash_attn=True, verbose=False)

    def run(ids: list[int], new: int) -> tuple[float, float]:
        loaded.reset()
        start, times = time.perf_counter(), []
        for _ in loaded.generate(ids, temp=0.0, reset=True):
            times.append(time.perf_counter() - start)
            if len(times) == new:
                break
        return times[0], times[-1]

    return run


def vllm(model: str, gguf: str) -> Run:
    """Its offline interface does not say when the first token came: a run of one token does. Its
    rotary table ends at 8,192, so of as long a text it reads 32 tokens less."""
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"
    from vllm import LLM, SamplingParams

    loaded = LLM(model, dtype="bfloat16", max_model_len=8192, enable_prefix_caching=False,
                 gpu_memory_utilization=0.4)  # fmt: skip

    def timed(ids: list[int], new: int) -> float:
        parameters = SamplingParams(temperature=0, max_tokens=new, min_tokens=new)
        start = time.perf_counter()
        read = {"prompt_token_ids": ids[: 8192 - NEW]}
        loaded.generate(read, parameters, use_tqdm=False)
        return time.perf_counter() - start

    return lambda ids, new: (timed(ids, 1), timed(ids, new))


PEERS = {
    "lengthwise": lengthwise,
    "transformers": transformers,
    "kvpress": kvpress,
    "llama_cpp": llama_cpp,
    "vllm": vllm,
}


def main() -> None:
    name, model, gguf = sys.argv[1:]
    texts = json.load(sys.stdin)
    run = PEERS[name](model, gguf)
    print(f"\n## Peer: {name}\n\n| context | first token s | tokens/s |\n|---|---|---|")
    for length, ids in texts.items():
        run(ids[:128], 4)
        rounds = [run(ids, NEW) for _ in range(ROUNDS)]
        first = median(first for first, _ in rounds)
        decoding = median(last - first for first, last in rounds)
        print(f"| {length} | {first:.2f} | {(NEW - 1) / decoding:.1f} |", flush=True)


if __name__ == "__main__":
    main()
