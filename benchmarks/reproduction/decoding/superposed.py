"""Superposed decoding, in float32: nothing is timed but the n-gram lookup."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.reproduction.harness import Found, Row, check, load, reference

from lengthwise.api.model import Model
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.methods.decoding.superposed import Superposed
from lengthwise.retrieval.datastore import Datastore, fingerprint
from lengthwise.retrieval.ngrams import NgramModels

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


@check({"cosine": "", "mean": ".3f", "least": ".3f"})
def linearity() -> Iterator[Found]:
    """Between the state of a mixed input and the mix of the states of its tokens, at the state the
    head reads, with the probabilities of the top three tokens as weights and with equal ones;
    beside it, of states of the tokens with each other, and the weight of the likeliest."""
    model = load("float32")
    found: dict[str, list[float]] = {"by probability": [], "equal": [], "tokens": [], "share": []}
    for prompt in GENERAL:
        sequence = Context(model.adapted)
        logits = loop.prefill(sequence, model.encode(prompt))
        for _ in range(NEW):
            probs, ids = torch.softmax(logits.float(), -1).topk(3)
            tokens = ids.tolist()
            apart = torch.stack([_state(sequence, model.adapted.embed(ids[[i]])) for i in range(3)])
            weights = {"by probability": probs / probs.sum(), "equal": torch.full((3,), 1 / 3)}
            for name, weight in weights.items():
                mixed = _state(sequence, weight @ model.adapted.embed(ids))
                found[name].append(_cosine(mixed, weight @ apart))
            pairs = [_cosine(apart[0], apart[1]), _cosine(apart[0], apart[2])]
            found["tokens"].append(statistics.fmean(pairs))
            found["share"].append(float(weights["by probability"][0]))
            (logits,), (block,) = loop.extend([(sequence, tokens[:1], None)])
            sequence.commit(block, tokens[:1])
            logits = logits[-1]
    for name, values in found.items():
        mean, least = round(statistics.fmean(values), 3), round(min(values), 3)
        yield {"cosine": name, "mean": mean, "least": least}


def _state(sequence: Context, embedding: torch.Tensor) -> torch.Tensor:
    states: list[torch.Tensor] = []
    fork = sequence.fork()
    loop.extend([(fork, [0], None)], states=states, embeddings=embedding.reshape(1, -1))
    return states[0][0]


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.float(), b.float(), dim=0))


KINDS = ("general", "reference")


@check({"texts": "", **dict.fromkeys(KINDS, ".2f"), "differ": ""})
def perplexity(penalty: tuple[int, ...] = (200, 20, 5)) -> Iterator[Found]:
    """Of the texts under the model itself, read plainly: geometric means over prompts of all texts
    (of the best one). Three drafts against three samples and the greedy text, on general prompts
    and on prompts from the last fifth of the Python reference, whose first four fifths are the
    datastore; `differ` is the share of places at which a text is not the first one."""
    model = load("float32")
    ids = reference(model)
    cut = len(ids) * 4 // 5
    far = np.linspace(cut, len(ids) - 200, SPECIAL).astype(int)
    prompts = {
        "general": [model.encode(prompt) for prompt in GENERAL],
        "reference": [ids[at : at + PROMPT] for at in far],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.safetensors"
        tokenizer = model.tokenizer
        assert tokenizer is not None
        Datastore.build([ids[:cut]], len(tokenizer), fingerprint(tokenizer)).save(path)
        writers: dict[str, Callable[[Ids], list[Ids]]] = {
            "greedy, 1 text": lambda p: _sampled(model, p, 1, 0.0),
            "3 samples, nucleus 0.95": lambda p: _sampled(model, p, 3, 1.0),
        }
        recipes = {"superposed, alpha 0 (no n-grams)": Superposed(alpha=0.0)}
        for each in penalty:
            told = Superposed(penalty=each, datastore=str(path))
            recipes[f"penalty {each}, prompt alone"] = Superposed(penalty=each)
            recipes[f"penalty {each}, with the datastore"] = told
        for name, recipe in recipes.items():
            writers[name] = lambda p, r=recipe: _drafts(model, p, r)  # type: ignore[misc]
        for name, write in writers.items():
            yield {"texts": name, **_row(model, prompts, write)}


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


def _row(model: Model, prompts: dict[str, list[Ids]], write: Callable[[Ids], list[Ids]]) -> Row:
    """A cell a kind of prompts, and by how much the texts of both differ."""
    row: Row = {}
    shares = []
    for kind, each in prompts.items():
        every, best, differ = _perplexities(model, each, write)
        row[kind] = {"all": every, "best": best} if differ is not None else every
        shares += [differ] if differ is not None else []
    ends = list(dict.fromkeys(f"{share:.2f}" for share in sorted(shares)))
    row["differ"] = " to ".join(ends) if ends else None
    return row


def _perplexities(
    model: Model, prompts: Sequence[Ids], write: Callable[[Ids], list[Ids]]
) -> tuple[float, float, float | None]:
    """Of all texts and of the best one; and the share of places that differ from the first text."""
    every, best, differ = [], [], []
    for prompt in prompts:
        texts = write(prompt)
        losses = [-float(model.score([*prompt, *t], prompt=len(prompt), block=NEW).mean())
                  for t in texts]  # fmt: skip
        every.append(statistics.fmean(losses))
        best.append(min(losses))
        differ += [np.not_equal(texts[0], text).mean() for text in texts[1:]]
    means = (round(math.exp(statistics.fmean(each)), 2) for each in (every, best))
    first, second = means
    return first, second, round(float(np.mean(differ)), 2) if differ else None


@check({"drafts": "", "forwards": "", "texts": "", "KV bytes": ""})
def forwards() -> Iterator[Found]:
    """Forwards and KV bytes by number of drafts, of one prompt."""
    model = load("float32")
    forward, calls = model.adapted.forward, [0]

    def counted(*arguments: Any, **named: Any) -> torch.Tensor:
        calls[0] += 1
        return forward(*arguments, **named)

    model.adapted.forward = counted  # type: ignore[method-assign]
    for drafts in (1, 3, 8):
        recipe = Superposed(drafts=drafts, top=max(9, 2 * drafts))
        model.plan((recipe,))
        calls[0] = 0
        made = model.generate(GENERAL[0], (recipe,), max_new_tokens=NEW, stop_ids=[])
        yield {"drafts": drafts, "forwards": calls[0], "texts": len(made.drafts),
               "KV bytes": made.metrics.kv_bytes}  # fmt: skip


@check({"n-grams of": "", "median": "", "p99": ""})
def ngrams() -> Iterator[Found]:
    """Microseconds of a step's n-gram part, three drafts, nine tokens; over 200 steps behind 32,768
    tokens, without and with a datastore of a million tokens; processor time, one thread."""
    model = load("float32")
    ids = reference(model)
    text = (ids * (32_768 // len(ids) + 1))[:32_768]
    generator = np.random.default_rng(0)
    shuffled = [ids[at : at + 500] for at in generator.integers(0, len(ids) - 500, 2000)]
    store = Datastore.build(shuffled, model.adapted.vocab_size)
    for name, each in {"prompt": None, "prompt and datastore": store}.items():
        grams = NgramModels(text, each)
        times = []
        for step in range(200):
            follow = ids[1000 + step : 1009 + step]
            tokens = np.array(list(dict.fromkeys(follow + ids[50:80]))[:9])
            begin = time.thread_time()
            grams.probs(tokens)
            grams.take([0] * 3 if step == 0 else [0, 0, 1], [0, 1, 2])
            times.append((time.thread_time() - begin) * 1e6)
        yield {"n-grams of": name, "median": round(statistics.median(times)),
               "p99": round(statistics.quantiles(times, n=100)[-1])}  # fmt: skip
