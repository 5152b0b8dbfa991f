"""The small checks of superposed decoding on the real 135M model, in float32: nothing is timed but
the n-gram lookup.

    python -m benchmarks.checks.superposed linearity
    python -m benchmarks.checks.superposed perplexity [PENALTY ...]
    python -m benchmarks.checks.superposed forwards
    python -m benchmarks.checks.superposed lookup

Each prints one JSON line. `linearity`: cosine between the hidden state of a mixed input and the mix
of the states of its tokens, over greedy steps of general prompts, beside the cosine of states of
the tokens with each other. `perplexity`: of the texts under SmolLM2 itself, read plainly: three
drafts against three samples (nucleus 0.95) and the greedy text, on general prompts and on prompts
from the last fifth of the Python reference, whose first four fifths are the datastore; `differ`
is the share of places at which a text is not the first one. `forwards`: forwards by number of
drafts. `lookup`: processor time of the n-gram part of a step, one thread.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lengthwise
from lengthwise.api import Model
from lengthwise.engine import loop
from lengthwise.engine.sequence import Sequence as Context
from lengthwise.methods.drafting.corpus import Datastore, fingerprint
from lengthwise.methods.drafting.ngrams import Grams
from lengthwise.methods.drafting.superposed import Superposed
from lengthwise.tasks.documents import read_document

NEW = 15
PROMPT = 15
GENERAL = (
    "The lighthouse keeper wrote every evening in a thick green book. He noted",
    "My favourite recipe for a quick dinner is",
    "The history of the printing press began",
    "When the train finally arrived at the station, she",
    "The main difference between a frog and a toad is that",
    "If you want to learn to play the guitar, you should",
    "Plants need light because",
    "The council decided last week that the old bridge",
)
SPECIAL = 8

Ids = list[int]


def linearity() -> dict[str, Any]:
    """Cosines at the state the head reads, with the chances of the top three tokens as weights and
    with equal ones; `steps_apart` feeds mixtures for several steps."""
    model = lengthwise.load(dtype="float32")
    found: dict[str, list[float]] = {"by chance": [], "equal": [], "tokens": [], "share": []}
    for prompt in GENERAL:
        sequence = Context(model.adapted)
        logits = loop.prefill(sequence, model.encode(prompt))
        for _ in range(NEW):
            chances, ids = torch.softmax(logits.float(), -1).topk(3)
            tokens = ids.tolist()
            apart = torch.stack([_state(sequence, model.adapted.embed(ids[[i]])) for i in range(3)])
            weights = {"by chance": chances / chances.sum(), "equal": torch.full((3,), 1 / 3)}
            for name, weight in weights.items():
                mixed = _state(sequence, weight @ model.adapted.embed(ids))
                found[name].append(_cosine(mixed, weight @ apart))
            pairs = [_cosine(apart[0], apart[1]), _cosine(apart[0], apart[2])]
            found["tokens"].append(statistics.fmean(pairs))
            found["share"].append(float(weights["by chance"][0]))
            (logits,), (block,) = loop.extend([(sequence, tokens[:1], None)])
            sequence.commit(block, tokens[:1])
            logits = logits[-1]
    return {
        "check": "linearity", "steps": len(found["equal"]),
        **{name: {"mean": round(statistics.fmean(x), 3), "least": round(min(x), 3)}
           for name, x in found.items()},
    }  # fmt: skip


def _state(sequence: Context, embedding: torch.Tensor) -> torch.Tensor:
    states: list[torch.Tensor] = []
    fork = sequence.fork()
    loop.extend([(fork, [0], None)], states=states, embeddings=embedding.reshape(1, -1))
    return states[0][0]


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.float(), b.float(), dim=0))


def perplexity(*penalties: str) -> dict[str, Any]:
    """Geometric means over prompts of the perplexity of all texts and of the best one."""
    model = lengthwise.load(dtype="float32")
    ids = model.encode(read_document().text)
    cut = len(ids) * 4 // 5
    far = np.linspace(cut, len(ids) - 200, SPECIAL).astype(int)
    prompts = {
        "general": [model.encode(prompt) for prompt in GENERAL],
        "reference": [ids[at : at + PROMPT] for at in far],
    }
    found: dict[str, Any] = {"check": "perplexity", "new": NEW}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.safetensors"
        tokenizer = model.tokenizer
        assert tokenizer is not None
        Datastore.build([ids[:cut]], len(tokenizer), fingerprint(tokenizer)).save(path)
        recipes = {"alpha=0": Superposed(alpha=0.0)}
        for penalty in penalties or ("5", "200"):
            lost = float(penalty)
            recipes[f"penalty={penalty}"] = Superposed(penalty=lost)
            recipes[f"penalty={penalty}, datastore"] = Superposed(penalty=lost, datastore=str(path))
        for kind, texts in prompts.items():
            rows: dict[str, Any] = {
                "greedy": _row(model, texts, lambda p: _sampled(model, p, 1, 0.0)),
                "nucleus": _row(model, texts, lambda p: _sampled(model, p, 3, 1.0)),
            }
            for name, recipe in recipes.items():
                rows[name] = _row(model, texts, lambda p, r=recipe: _drafts(model, p, r))
            found[kind] = rows
    return found


def _sampled(model: Model, prompt: Ids, count: int, temperature: float) -> list[Ids]:
    return [
        model.generate(
            prompt, max_new_tokens=NEW, stop_ids=[], temperature=temperature, top_p=0.95, seed=seed
        ).token_ids
        for seed in range(count)
    ]


def _drafts(model: Model, prompt: Ids, recipe: Superposed) -> list[Ids]:
    made = model.generate(prompt, (recipe,), max_new_tokens=NEW, stop_ids=[])
    return [draft.token_ids for draft in made.drafts]


def _row(model: Model, prompts: Sequence[Ids], write: Callable[[Ids], list[Ids]]) -> dict[str, Any]:
    every, best, differ = [], [], []
    for prompt in prompts:
        texts = write(prompt)
        losses = [-float(model.score([*prompt, *t], prompt=len(prompt), block=NEW).mean())
                  for t in texts]  # fmt: skip
        every.append(statistics.fmean(losses))
        best.append(min(losses))
        differ += [np.not_equal(texts[0], text).mean() for text in texts[1:]]
    return {
        "every": round(math.exp(statistics.fmean(every)), 2),
        "best": round(math.exp(statistics.fmean(best)), 2),
        "differ": round(float(np.mean(differ)), 2) if differ else None,
    }


def forwards() -> dict[str, Any]:
    """Forwards and KV bytes by number of drafts, of one prompt."""
    model = lengthwise.load(dtype="float32")
    forward, calls = model.adapted.forward, [0]

    def counted(*arguments: Any, **named: Any) -> torch.Tensor:
        calls[0] += 1
        return forward(*arguments, **named)

    model.adapted.forward = counted  # type: ignore[method-assign]
    found: dict[str, Any] = {"check": "forwards", "new": NEW}
    for drafts in (1, 3, 8):
        recipe = Superposed(drafts=drafts, top=max(9, 2 * drafts))
        model.plan((recipe,))
        calls[0] = 0
        made = model.generate(GENERAL[0], (recipe,), max_new_tokens=NEW, stop_ids=[])
        found[str(drafts)] = {"forwards": calls[0], "texts": len(made.drafts),
                              "kv_bytes": made.ledger.kv_bytes}  # fmt: skip
    return found


def lookup() -> dict[str, Any]:
    """Microseconds of a step's n-gram part, three drafts, nine tokens; medians and 99th percentile
    over 200 steps behind 32,768 tokens, without and with a datastore of a million tokens."""
    model = lengthwise.load(dtype="float32")
    ids = model.encode(read_document().text)
    text = (ids * (32_768 // len(ids) + 1))[:32_768]
    generator = np.random.default_rng(0)
    shuffled = [ids[at : at + 500] for at in generator.integers(0, len(ids) - 500, 2000)]
    store = Datastore.build(shuffled, model.adapted.vocab_size)
    found: dict[str, Any] = {"check": "lookup", "unit": "microseconds", "store": len(store)}
    for name, each in {"prompt": None, "prompt and datastore": store}.items():
        grams = Grams(text, each)
        times = []
        for step in range(200):
            follow = ids[1000 + step : 1009 + step]
            tokens = np.array(list(dict.fromkeys(follow + ids[50:80]))[:9])
            begin = time.thread_time()
            grams.chances(tokens)
            grams.take([0] * 3 if step == 0 else [0, 0, 1], [0, 1, 2])
            times.append((time.thread_time() - begin) * 1e6)
        found[name] = {"median": round(statistics.median(times)),
                       "p99": round(statistics.quantiles(times, n=100)[-1])}  # fmt: skip
    return found


CHECKS: dict[str, Callable[..., dict[str, Any]]] = {
    "linearity": linearity, "perplexity": perplexity, "forwards": forwards, "lookup": lookup,
}  # fmt: skip

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"name one of {', '.join(CHECKS)}")
    print(json.dumps(CHECKS[sys.argv[1]](*sys.argv[2:])))
