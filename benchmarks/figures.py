"""What `benchmarks.run` measures: one function a table, each a claim that can be lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from transformers import DynamicCache

import lengthwise
from lengthwise.api.model import Model
from lengthwise.documents.files import read_document
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.evaluation.tasks.probes import probe_context
from lengthwise.models.load import load_pretrained


@dataclass
class Table:
    """A named table of the page; rows are dicts with the same keys."""

    name: str
    title: str
    note: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def markdown(self) -> str:
        if not self.rows:
            return "(nothing measured)"
        heads = list(self.rows[0])
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += ["| " + " | ".join(_cell(row[h]) for h in heads) + " |" for row in self.rows]
        return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def text_ids(model: Model, length: int) -> list[int]:
    """The first tokens of the Python language reference."""
    return model.encode(read_document().text)[:length]


def timed(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Ours:
    """One sequence of ours that can be stepped."""

    def __init__(self, model: Model, ids: Seq[int], recipe: str = "full", room: int = 512) -> None:
        self.sequence = Sequence(model.adapted, model.plan(recipe), expected=len(ids) + room)
        start = time.perf_counter()
        logits = loop.prefill(self.sequence, ids)
        self.request = loop.begin(self.sequence, Sampling(), 10**9, [])
        loop.start(self.request, logits)
        self.ttft_s = time.perf_counter() - start

    def step(self) -> int:
        return len(loop.step([self.request])[0])


class Stock:
    """The same with transformers: SDPA, DynamicCache, greedy."""

    def __init__(self, model: Any, ids: Seq[int]) -> None:
        self.model, self.cache = model, DynamicCache(config=model.config)
        start = time.perf_counter()
        self.token = self._forward(torch.tensor([list(ids)]))
        self.ttft_s = time.perf_counter() - start

    @torch.no_grad()
    def _forward(self, ids: torch.Tensor) -> int:
        out = self.model(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return int(out.logits[0, -1].argmax())

    def step(self) -> int:
        self.token = self._forward(torch.tensor([[self.token]]))
        return 1


def alternate(
    a: Callable[[], int], b: Callable[[], int], rounds: int, each: int
) -> tuple[float, float]:
    """Median tokens per second of a and b, measured in turn, `each` steps a round."""
    speeds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for step, found in ((a, speeds[0]), (b, speeds[1])):
            start, tokens = time.perf_counter(), 0
            for _ in range(each):
                tokens += step()
            found.append(tokens / (time.perf_counter() - start))
    return median(speeds[0]), median(speeds[1])


def decode(rounds: int) -> Table:
    """`full` against transformers, one token at a time."""
    table = Table(
        "decode", "Decoding, tokens per second (bf16, batch 1, greedy)",
        "`full` against transformers' SDPA with DynamicCache on the same model and tokens, 16 "
        "tokens a round in turn.",
    )  # fmt: skip
    ours, (stock, _, _) = lengthwise.load(), load_pretrained()
    for length in (256, 4096, 8192):
        ids = text_ids(ours, length)
        a, b = Ours(ours, ids), Stock(stock, ids)
        for _ in range(3):
            a.step(), b.step()
        fast, slow = alternate(a.step, b.step, rounds, 16)
        table.rows.append(
            {"context": length, "ours": fast, "transformers": slow, "ratio": fast / slow}
        )
    return table


def kernels(rounds: int) -> Table:
    """The kernels that were timed to be fastest here, and those that were not chosen."""
    table = Table(
        "kernels", "`full` under the kernels that serve here, and under others (bf16)",
        "`timed` is what `lengthwise machine` chose on this machine; the others are what another "
        "machine might. Medians of rounds in turn: seconds to the first token of 4,096, tokens a "
        "second behind 256 and 4,096.",
    )  # fmt: skip
    model = lengthwise.load()
    texts = {length: text_ids(model, length) for length in (256, 4096)}
    ways: dict[str, str | None] = {
        "timed": None, "flash": "flash", "rows": "block=rows,step=products", "products": "products",
    }  # fmt: skip
    found: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for _ in range(rounds):
        for name, kernel in ways.items():
            model.adapted.kernel = kernel
            for length, ids in texts.items():
                run = Ours(model, ids)
                for _ in range(3):
                    run.step()
                speed = 16 / timed(lambda run=run: [run.step() for _ in range(16)])
                found[name].setdefault(f"first_s_{length}", []).append(run.ttft_s)
                found[name].setdefault(f"tok_s_{length}", []).append(speed)
    model.adapted.kernel = None
    for name, kernel in ways.items():
        figures = {key: median(values) for key, values in found[name].items()}
        table.rows.append({"kernels": name, "override": kernel or "", **figures})
    return table


def weights(rounds: int) -> Table:
    """The embedded model with its weights in 16, 8 and 4 bits."""
    table = Table(
        "weights", "Weights in bfloat16, 8 and 4 bits",
        "Medians of rounds in turn: tokens a second behind 256 and 4,096, seconds to the first "
        "token of 4,096. `loss` is that of 2,048 tokens of the text, in nats a token; `change` is "
        "against bfloat16. The embedded model was published in 4 to 8 bits, which flatters int4.",
    )  # fmt: skip
    models = {name: lengthwise.load(weights=name) for name in (None, "int8", "int4")}
    texts = {length: text_ids(models[None], length) for length in (256, 4096)}
    found: dict[str | None, dict[str, list[float]]] = {name: {} for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            for length, ids in texts.items():
                run = Ours(model, ids)
                for _ in range(3):
                    run.step()
                speed = 16 / timed(lambda run=run: [run.step() for _ in range(16)])
                found[name].setdefault(f"first_s_{length}", []).append(run.ttft_s)
                found[name].setdefault(f"tok_s_{length}", []).append(speed)
    losses = {name: _loss(model, texts[4096][:2048]) for name, model in models.items()}
    for name, model in models.items():
        figures = {key: median(values) for key, values in found[name].items()}
        held = [*model.adapted.model.parameters(), *model.adapted.model.buffers()]
        table.rows.append({
            "weights": name or "bfloat16", "MB": sum(t.nbytes for t in held) / 1e6, **figures,
            "ratio_256": figures["tok_s_256"] / median(found[None]["tok_s_256"]),
            "loss": losses[name], "change": f"{losses[name] - losses[None]:+.4f}",
        })  # fmt: skip
    return table


def _loss(model: Model, ids: Seq[int]) -> float:
    """Nats a token."""
    with torch.no_grad():
        logits = model.adapted.model(torch.tensor([list(ids)])).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(list(ids[1:]))))


def prefill(rounds: int) -> Table:
    """`full` against transformers, the whole prompt."""
    table = Table(
        "prefill", "Prefill, seconds to the first token (bf16)",
        "Ours in chunks of 1,024 tokens, transformers in one pass; medians of alternating rounds.",
    )  # fmt: skip
    ours, (stock, _, _) = lengthwise.load(), load_pretrained()
    for length in (4096, 8192):
        ids = text_ids(ours, length)
        mine, theirs = [], []
        for _ in range(rounds):
            mine.append(Ours(ours, ids).ttft_s)
            theirs.append(Stock(stock, ids).ttft_s)
        a, b = median(mine), median(theirs)
        table.rows.append({"tokens": length, "ours_s": a, "transformers_s": b, "ratio": b / a})
    return table


def window(rounds: int) -> Table:
    """`lm_infinite` at 16k: decoding speed and bytes against full."""
    table = Table(
        "window", "lm_infinite(window=2048) at 16,384 tokens",
        "Decoding in turn with full; losses on a book are in docs/reproduction/lm_infinite.md.",
    )  # fmt: skip
    model = lengthwise.load()
    ids = text_ids(model, 16384)
    full, ours = Ours(model, ids), Ours(model, ids, "lm_infinite(window=2048)")
    for _ in range(3):
        full.step(), ours.step()
    a, b = alternate(ours.step, full.step, rounds, 8)
    table.rows.append({
        "lm_infinite_tok_s": a, "full_tok_s": b, "ratio": a / b, "ttft_s": ours.ttft_s,
        "full_ttft_s": full.ttft_s, "kv_mb": ours.sequence.nbytes() / 1e6,
        "full_kv_mb": full.sequence.nbytes() / 1e6,
    })  # fmt: skip
    return table


def copy_loss(model: Model, recipe: str, length: int) -> float:
    """Loss of the copy probe in the Python reference at `length` tokens."""
    probes = probe_context(text_ids(model, length), model.tokenizer, length)  # type: ignore[arg-type]
    probe = probes.probes[0]
    sequence = Sequence(model.adapted, model.plan(recipe), expected=length)
    loop.prefill(sequence, probes.context)
    loop.prefill(sequence, probe.suffix)
    sequence.end_prefill()
    logits = loop.teacher_force(sequence, probe.target).float()
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(probe.target), reduction="none")
    return float(loss[probe.skip :].mean())


def selection(rounds: int) -> Table:
    """Prefill of 16,384 tokens with selection, and the copy probe where full is valid."""
    table = Table(
        "selection", "Selection: prefill of 16,384 tokens, and the copy probe at 4,096",
        "Seconds are medians of rounds that alternate with full (at most 3, they are long); the "
        "copy loss is in nats a token.",
    )  # fmt: skip
    model = lengthwise.load()
    ids = text_ids(model, 16384)
    truth = copy_loss(model, "full", 4096)
    recipes = ("infllm", "token_select")
    seconds: dict[str, list[float]] = {name: [] for name in ("full", *recipes)}
    for _ in range(min(rounds, 3)):
        for name in seconds:
            seconds[name].append(Ours(model, ids, name).ttft_s)
    full = median(seconds["full"])
    for name in recipes:
        table.rows.append({
            "recipe": name, "prefill_s": median(seconds[name]), "full_s": full,
            "ratio": full / median(seconds[name]), "copy_loss": copy_loss(model, name, 4096),
            "full_copy_loss": truth,
        })  # fmt: skip
    return table


def bytes_kept(rounds: int) -> Table:
    """Bytes held against the budget asked."""
    table = Table(
        "bytes", "Bytes held after a prompt of 4,096 tokens, against the budget asked",
        "A budget of tokens stands for so many tokens stored plain. Counted from the tensors that "
        "are allocated.",
    )  # fmt: skip
    model = lengthwise.load()
    ids = text_ids(model, 4096)
    each = model.adapted.bytes_per_token
    budgets = {
        "snapkv(budget=1024)": 1024 * each, "snapkv(budget=20MB)": 20_000_000,
        "pyramidkv(budget=25%)": 1024 * each, "h2o(budget=1024)": 1024 * each,
        "sirllm(budget=1024)": 1024 * each, "streaming(sinks=4, window=1020)": 1024 * each,
    }  # fmt: skip
    for recipe, budget in budgets.items():
        ours = Ours(model, ids, recipe, room=0)
        held = ours.sequence.nbytes()
        table.rows.append({"recipe": recipe, "budget_mb": budget / 1e6, "held_mb": held / 1e6,
                           "held_over_budget": held / budget})  # fmt: skip
    return table


COPY_TASKS = {
    "copy": "Repeat the text above word for word.",
    "quote": "Quote the first paragraph of the text above, then quote it again.",
    "free": "Write a short story about a lighthouse keeper who has never seen the sea.",
}


def lookup(rounds: int) -> Table:
    """`lookup` against the same recipe without."""
    table = Table(
        "lookup", "lookup against plain decoding (bf16, greedy, 2,048 tokens of context)",
        "Tokens per second over 96 new tokens, in turn; `equal` compares the token ids.",
    )  # fmt: skip
    model = lengthwise.load()
    text = model.tokenizer.decode(text_ids(model, 2048))  # type: ignore[union-attr]
    for name, question in COPY_TASKS.items():
        prompt = [
            {"role": "user", "content": question if name == "free" else f"{text}\n\n{question}"}
        ]
        speeds: dict[str, list[float]] = {"full": [], "lookup": []}
        outputs = {}
        for _ in range(rounds):
            for recipe, found in speeds.items():
                made = model.generate(prompt, recipe, max_new_tokens=96, stop_ids=[])
                found.append(made.metrics.tokens_per_s)
                outputs[recipe] = made
        a, b = median(speeds["lookup"]), median(speeds["full"])
        table.rows.append({
            "work": name, "lookup": a, "plain": b, "ratio": a / b,
            "tokens_a_step": outputs["lookup"].metrics.accepted_per_step,
            "equal": outputs["lookup"].token_ids == outputs["full"].token_ids,
        })  # fmt: skip
    return table


def draft_search(rounds: int) -> Table:
    """Time of one draft search over 256k tokens of context."""
    from lengthwise.engine.speculative.tree import Tree
    from lengthwise.recipes.registry import find

    table = Table(
        "search", "lookup: draft search a step at 262,144 tokens of context",
        "A random half and a repeated half; medians over 500 steps.",
    )  # fmt: skip
    model = lengthwise.load()
    drafter = find("lookup")().start_drafter(model.adapted)
    assert drafter is not None
    generator = torch.Generator().manual_seed(0)
    half = torch.randint(0, 49152, (131072,), generator=generator).tolist()
    context = half + half
    first = timed(lambda: drafter.propose(context, Tree(context[-1]), 16))
    found = []
    for token in half[:500]:
        context.append(token)
        found.append(timed(lambda: drafter.propose(context, Tree(context[-1]), 16)))
    table.rows.append({"index_s": first, "search_ms": median(found) * 1e3,
                       "worst_ms": max(found) * 1e3})  # fmt: skip
    return table
