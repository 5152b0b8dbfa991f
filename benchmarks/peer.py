"""One engine on the work of `benchmarks.run`: run by peers.sh inside that engine's environment.

Reads {length: ids} as JSON on standard input; prints a table with seconds to the first token and
tokens per second over 32 new greedy tokens, medians of 5 rounds. Imports nothing of lengthwise.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median

NEW = 32
ROUNDS = 5
Run = Callable[[list[int], int], float]


def transformers(model: str, gguf: str) -> Run:
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()

    def run(ids: list[int], new: int) -> float:
        start = time.perf_counter()
        loaded.generate(
            torch.tensor([ids]), max_new_tokens=new, min_new_tokens=new, do_sample=False
        )
        return time.perf_counter() - start

    return run


def kvpress(model: str, gguf: str) -> Run:
    """SnapKV at a quarter of the cache: what kvpress is for."""
    import torch
    from kvpress import SnapKVPress
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
    press = SnapKVPress(compression_ratio=0.75)

    def run(ids: list[int], new: int) -> float:
        start = time.perf_counter()
        with press(loaded):
            loaded.generate(torch.tensor([ids]), max_new_tokens=new, min_new_tokens=new,
                            do_sample=False)  # fmt: skip
        return time.perf_counter() - start

    return run


def llama_cpp(model: str, gguf: str) -> Run:
    from llama_cpp import Llama

    loaded = Llama(gguf, n_ctx=9216, n_threads=2, n_batch=512, flash_attn=True, verbose=False)

    def run(ids: list[int], new: int) -> float:
        loaded.reset()
        start = time.perf_counter()
        for made, _ in enumerate(loaded.generate(ids, temp=0.0, reset=True), 1):
            if made == new:
                break
        return time.perf_counter() - start

    return run


def vllm(model: str, gguf: str) -> Run:
    from vllm import LLM, SamplingParams

    loaded = LLM(model, dtype="bfloat16", max_model_len=8448, enable_prefix_caching=False)

    def run(ids: list[int], new: int) -> float:
        parameters = SamplingParams(temperature=0, max_tokens=new, min_tokens=new)
        start = time.perf_counter()
        loaded.generate({"prompt_token_ids": ids}, parameters, use_tqdm=False)
        return time.perf_counter() - start

    return run


def main() -> None:
    name, model, gguf = sys.argv[1:]
    texts = json.load(sys.stdin)
    run = {"transformers": transformers, "kvpress": kvpress, "llama_cpp": llama_cpp, "vllm": vllm}[
        name
    ](model, gguf)
    print(f"\n## Peer: {name}\n\n| context | first token s | tokens/s |\n|---|---|---|")
    for length, ids in texts.items():
        run(ids[:64], 4)
        # In turn, and the difference round by round: a machine gets busy for a while, not for one.
        rounds = [(run(ids, 1), run(ids, NEW)) for _ in range(ROUNDS)]
        first = median(first for first, _ in rounds)
        decoding = median(whole - first for first, whole in rounds)
        print(f"| {length} | {first:.2f} | {(NEW - 1) / decoding:.1f} |", flush=True)


if __name__ == "__main__":
    main()
