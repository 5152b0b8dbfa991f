"""One table of what this GPU gives: ours beside transformers, on random weights, in a few minutes.

    python -m benchmarks.gpu [--shapes 135M 1B 8B] [--contexts 4096 32768] [--recipes full ...]

needs torch and transformers beside the project, and makes its own weights in the shapes of
SmolLM2, Llama 3.2 and Llama 3.1, so its figures are of speed and bytes alone. Every row is a shape,
a context and a way to run it: seconds to the first token, tokens a second of the steps after it
(medians of rounds), peak bytes beside the weights, and bytes of keys and values. `check` is what
loading spends on asking whether the attention hook is right. With `--profile` the operators of one
decoding step follow. On a CPU (`--device cpu --shapes tiny --contexts 64`) the same lines run at
small shapes, for the tests.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import lengthwise
from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.origin import Origin

# hidden, intermediate, layers, heads, key heads, head size, words.
SHAPES = {
    "tiny": (64, 96, 2, 4, 2, 16, 128),
    "135M": (576, 1536, 30, 9, 3, 64, 49152),
    "1B": (2048, 8192, 16, 32, 8, 64, 128256),
    "8B": (4096, 14336, 32, 32, 8, 128, 128256),
}
RECIPES = ("full", "streaming", "snapkv(budget=25%)")
STEPS, ROUNDS = 16, 3


def random_model(shape: str, device: str) -> LlamaForCausalLM:
    """A llama of random weights, in bfloat16 on a GPU and float32 on a CPU."""
    hidden, inner, layers, heads, key_heads, size, words = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_heads, head_dim=size, vocab_size=words,
        max_position_embeddings=131072, rope_parameters={"rope_type": "default", "rope_theta": 5e5},
        tie_word_embeddings=shape != "8B", pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(action: Callable[[], Any], device: str) -> tuple[float, Any]:
    synchronize(device)
    start = time.perf_counter()
    made = action()
    synchronize(device)
    return time.perf_counter() - start, made


def speed(step: Callable[[], int], device: str, rounds: int) -> float:
    """Tokens a second: the median over rounds of STEPS steps."""
    for _ in range(3):
        step()
    found = []
    for _ in range(rounds):
        spent, tokens = seconds(lambda: sum(step() for _ in range(STEPS)), device)
        found.append(tokens / spent)
    return median(found)


class Stock:
    """transformers: SDPA, DynamicCache, greedy, one token at a time."""

    def __init__(self, model: LlamaForCausalLM, ids: torch.Tensor) -> None:
        self.model, self.cache = model, DynamicCache(config=model.config)
        self.token = self._forward(ids)

    @torch.no_grad()
    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        out = self.model(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        token[0, 0].item()
        return token

    def step(self) -> int:
        self.token = self._forward(self.token)
        return len(self.token)

    def nbytes(self) -> int:
        return sum(x.nbytes for layer in self.cache.layers for x in (layer.keys, layer.values))


class Ours:
    """One or several requests of ours, stepped together."""

    def __init__(
        self, model: Model, rows: list[list[int]], recipe: str, chunk: int | None = None
    ) -> None:
        self.sequences = []
        self.requests = []
        for ids in rows:
            sequence = Sequence(model.adapted, model.plan(recipe), expected=len(ids) + 512)
            request = loop.begin(sequence, Sampling(), 10**9, [])
            loop.start(request, loop.prefill(sequence, ids, chunk))
            self.sequences.append(sequence)
            self.requests.append(request)

    def step(self) -> int:
        return sum(map(len, loop.step(self.requests)))

    def nbytes(self) -> int:
        return sum(sequence.nbytes() for sequence in self.sequences)


def row(
    shape: str, context: int, way: str, make: Callable[[], Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Prefill twice (the second counts), then decode."""
    device, found = options.device, {"shape": shape, "context": context, "way": way}
    make()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    spent, run = seconds(make, device)
    found |= {
        "first_s": round(spent, 4),
        "tok_s": round(speed(run.step, device, options.rounds), 1),
    }
    if device != "cpu":
        found["peak_mb"] = round((torch.cuda.max_memory_allocated() - before) / 1e6)
    return found | {"kv_mb": round(run.nbytes() / 1e6, 3)}


def shape_rows(shape: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    device, rows = options.device, []
    made, stock = seconds(lambda: random_model(shape, device), device)
    # Without what is compiled or loaded once a process.
    lengthwise.wrap(random_model("tiny", device))
    spent, model = seconds(lambda: lengthwise.wrap(stock), device)
    rows.append({"shape": shape, "context": 0, "way": "check", "first_s": round(spent, 3),
                 "weights_s": round(made, 3)})  # fmt: skip
    print(json.dumps(rows[-1]), flush=True)
    words, chunk = SHAPES[shape][-1], options.chunk
    generator = torch.Generator().manual_seed(1)
    for context in options.contexts:
        ids = torch.randint(3, words, (context,), generator=generator).tolist()
        there = torch.tensor([ids], device=device)
        ways: dict[str, Callable[[], Any]] = {"transformers": lambda x=there: Stock(stock, x)}  # type: ignore[misc]
        for recipe in options.recipes:
            ways[recipe] = lambda r=recipe, x=ids: Ours(model, [x], r, chunk)  # type: ignore[misc]
        if options.batch > 1 and context == min(options.contexts):
            many = [ids] * options.batch
            ways[f"full, {options.batch} rows"] = lambda x=many: Ours(model, x, "full", chunk)  # type: ignore[misc]
        repeated = (ids[: context // 8] * 8)[:context]
        if context == min(options.contexts):
            ways["lookup, repeated text"] = lambda x=repeated: Ours(model, [x], "lookup", chunk)  # type: ignore[misc]
        for way, make in ways.items():
            try:
                rows.append(row(shape, context, way, make, options))
            except (RuntimeError, LengthwiseError) as error:
                line = str(error).split("\n")[0]
                rows.append({"shape": shape, "context": context, "way": way, "failed": line})
            print(json.dumps(rows[-1]), flush=True)
        if options.profile:
            profile(Ours(model, [ids], "full", chunk).step, device)
    return rows


def profile(step: Callable[[], int], device: str) -> None:
    """Prints the operators of three decoding steps by their own time."""
    from torch.profiler import ProfilerActivity, profile as recorded

    cuda = device != "cpu"
    for _ in range(3):
        step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with recorded(activities=activities) as found:
        for _ in range(3):
            step()
        synchronize(device)
    by = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=by, row_limit=14, max_name_column_width=50))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["135M", "1B", "8B"])
    parser.add_argument("--contexts", nargs="+", type=int, default=[4096, 32768])
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--batch", type=int, default=16, help="rows of one batched run")
    parser.add_argument("--chunk", type=int, help="tokens of a prefill forward")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "no CUDA device is here; --device cpu --shapes tiny --contexts 64 is a rehearsal"
        )
    for name, text in Origin.here("python -m benchmarks.gpu").lines():
        print(f"- {name}: {text}")
    if options.device == "cuda":
        print(f"- GPU: {torch.cuda.get_device_name()}")
    rows = [row for shape in options.shapes for row in shape_rows(shape, options)]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
