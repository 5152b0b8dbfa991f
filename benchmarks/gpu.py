"""One table of what this GPU gives: ours beside transformers, on random weights, in a few minutes.

    python -m benchmarks.gpu [--shapes 135M 1B 8B] [--contexts 4096 32768] [--recipes full ...]

needs torch and transformers beside the project, and makes its own weights in the shapes of
SmolLM2, Llama 3.2 and Llama 3.1, so its figures are of speed and bytes alone. Every row is a shape,
a context and a way to run it: seconds to the first token, tokens a second of the steps after it
(medians of rounds), how often that is what another way gives (`x_transformers`, `x_full`), the
bytes of weights, keys and values that steps read as a share of what a copy moves, peak bytes beside
the weights, those with the weights as a share of weights, keys and values, and bytes of keys and
values. `check` is what loading spends on asking whether the attention hook is right. With
`--profile` the operators of one decoding step follow. On a CPU (`--device cpu --shapes tiny
--contexts 64`) the same lines run at small shapes, for the tests.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
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
# Run behind the longest prompt of one shape alone: prompts of some of them take long.
MORE = ("token_select", "quest", "infllm", "hip", "kivi", "razor", "lm_infinite")
WHOLE = ("kivi", "razor", "lm_infinite")
STEPS, ROUNDS = 16, 3
# Steps before the clock runs: graphs are captured, for trees of each size.
WARM, WARM_TREES = 3, 24


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


def speed(step: Callable[[], int], device: str, rounds: int, warm: int) -> float:
    """Tokens a second: the median over rounds of STEPS steps, after some that are not counted."""
    for _ in range(warm):
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
        self, model: Model, rows: list[list[int]], recipe: str, chunk: int | None = None,
        room: int = 512,
    ) -> None:  # fmt: skip
        self.sequences = []
        self.requests = []
        plan = model.plan(recipe)
        for ids in rows:
            sequence = Sequence(model.adapted, plan, expected=len(ids) + room)
            request = loop.begin(sequence, Sampling(), 10**9, [])
            loop.start(request, loop.prefill(sequence, ids, chunk))
            self.sequences.append(sequence)
            self.requests.append(request)

    def step(self) -> int:
        return sum(map(len, loop.step(self.requests)))

    def nbytes(self) -> int:
        return sum(sequence.nbytes() for sequence in self.sequences)


@dataclass(frozen=True)
class Way:
    """One way to run a shape: make prefills and gives something with `step` and `nbytes`. rows: of
    its batch. beside: the way whose tokens a second it is held against. once: prefilled once, so
    that seconds to the first token are those of a first call. reads_all: a step is one token a row
    and reads all that is kept."""

    name: str
    make: Callable[[], Any]
    rows: int = 1
    beside: str = "transformers"
    once: bool = False
    reads_all: bool = True


def copied(device: str) -> float:
    """Bytes a second that a copy reads and writes here."""
    size = 1 << (30 if device != "cpu" else 24)
    here = torch.empty(size, dtype=torch.uint8, device=device)
    there = torch.empty_like(here)
    times = [seconds(lambda: there.copy_(here), device)[0] for _ in range(5)]
    return 2 * size / median(times)


def read_weights(model: LlamaForCausalLM) -> int:
    """Bytes of weights that one step reads: all but the words that are not looked up."""
    words = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is words
    return sum(w.nbytes for w in model.parameters()) - (0 if tied else words.nbytes)


def row(
    shape: str, context: int, way: Way, weights: tuple[int, int], rate: float,
    options: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Prefill twice (the second counts), then decode. weights: bytes held, and read a step."""
    device, found = options.device, {"shape": shape, "context": context, "way": way.name}
    if not way.once:
        way.make()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    spent, run = seconds(way.make, device)
    tokens = speed(run.step, device, options.rounds, WARM if way.reads_all else WARM_TREES)
    kept = run.nbytes()
    found |= {"first_s": round(spent, 4), "tok_s": round(tokens, 1)}
    if way.reads_all:
        moved = (weights[1] + kept) * tokens / way.rows
        found["of_bandwidth"] = round(moved / rate, 3)
    if device != "cpu":
        peak = torch.cuda.max_memory_allocated() - before
        found["peak_mb"] = round(peak / 1e6)
        found["peak_of_all"] = round((weights[0] + peak) / (weights[0] + kept), 3)
    return found | {"kv_mb": round(kept / 1e6, 3)}


def ways(
    model: Model, stock: LlamaForCausalLM, ids: list[int], shape: str, options: argparse.Namespace
) -> list[Way]:
    """What is run behind one prompt, the most important first."""
    device, chunk, context = options.device, options.chunk, len(ids)
    there = torch.tensor([ids], device=device)

    def ours(recipe: str, text: list[int], rows: int = 1, room: int = 512) -> Callable[[], Any]:
        return lambda: Ours(model, [text] * rows, recipe, chunk, room)

    found = [Way("transformers", lambda: Stock(stock, there))]
    found += [Way(recipe, ours(recipe, ids)) for recipe in options.recipes]
    if context == min(options.contexts):
        repeated = (ids[: context // 8] * 8)[:context]
        found.append(
            Way(
                "lookup, repeated text",
                ours("lookup", repeated, room=2048),
                beside="full",
                reads_all=False,
            )
        )
        if options.batch > 1:
            rows = options.batch
            many = there.expand(rows, -1)
            found += [
                Way(f"full, {rows} rows", ours("full", ids, rows), rows, "full"),
                Way(f"transformers, {rows} rows", lambda: Stock(stock, many), rows),
            ]
    if context == max(options.contexts) and shape == options.more_on:
        found += [
            Way(recipe, ours(recipe, ids), beside="full", once=True, reads_all=recipe in WHOLE)
            for recipe in MORE
        ]
    return found


def shape_rows(shape: str, options: argparse.Namespace, end: float) -> list[dict[str, Any]]:
    device, rows = options.device, []
    made, stock = seconds(lambda: random_model(shape, device), device)
    # Without what is compiled or loaded once a process.
    lengthwise.wrap(random_model("tiny", device))
    spent, model = seconds(lambda: lengthwise.wrap(stock), device)
    rows.append({"shape": shape, "context": 0, "way": "check", "first_s": round(spent, 3),
                 "weights_s": round(made, 3)})  # fmt: skip
    print(json.dumps(rows[-1]), flush=True)
    weights = sum(w.nbytes for w in stock.parameters()), read_weights(stock)
    generator, rate = torch.Generator().manual_seed(1), copied(device)
    for context in options.contexts:
        ids = torch.randint(3, SHAPES[shape][-1], (context,), generator=generator).tolist()
        speeds: dict[str, float] = {}
        for way in ways(model, stock, ids, shape, options):
            found: dict[str, Any] = {"shape": shape, "context": context, "way": way.name}
            if time.monotonic() > end:
                found["left_out"] = f"{options.limit} s were over"
            else:
                try:
                    found = row(shape, context, way, weights, rate, options)
                    speeds[way.name] = found["tok_s"]
                    if way.name != way.beside and way.beside in speeds:
                        found[f"x_{way.beside}"] = round(found["tok_s"] / speeds[way.beside], 2)
                except (RuntimeError, LengthwiseError) as error:
                    found["failed"] = str(error).split("\n")[0]
            rows.append(found)
            print(json.dumps(found), flush=True)
        if options.profile:
            profile(Ours(model, [ids], "full", options.chunk).step, device)
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
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["8B", "1B", "135M"])
    parser.add_argument("--contexts", nargs="+", type=int, default=[4096, 32768])
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--batch", type=int, default=16, help="rows of one batched run")
    parser.add_argument("--chunk", type=int, help="tokens of a prefill forward")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--more-on", default="1B", help=f"the shape that runs {', '.join(MORE)}")
    parser.add_argument("--limit", type=float, default=230, help="seconds; later rows are left out")
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
    end = time.monotonic() + options.limit
    rows = [row for shape in options.shapes for row in shape_rows(shape, options, end)]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
