"""The small checks of drafters that ask a model, on the real 135M model: guesses are counted, no
time is measured.

    python -m benchmarks.checks.drafting_models agreement
    python -m benchmarks.checks.drafting_models layers
    python -m benchmarks.checks.drafting_models swift
    python -m benchmarks.checks.drafting_models window [CONTEXT]
    python -m benchmarks.checks.drafting_models translation

Each prints one JSON line; float32, greedy, everything guessed is verified. `agreement`: how often
some of the layers choose the token that all would, on a text, with keys and values of their own or
those the whole model has stored. `layers` and `window`: tokens a round of the drafters behind
prompts of several kinds, window behind a long document. `translation`: the model as its own second
model, with its tokens as they are and translated through text and back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from benchmarks.reproduction.drafting.lookup import ANSWER, ASK, HEAD, NEXT, PASSAGE, QUESTION
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.attend import Part, attend
from lengthwise.engine.plan import Plan
from lengthwise.engine.policy import Fixed
from lengthwise.engine.request import Request
from lengthwise.engine.roles import Drafter
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence as Context
from lengthwise.methods.drafting.layers import Layers
from lengthwise.methods.drafting.model import ModelDrafter, SecondModel, TranslatingDrafter
from lengthwise.methods.drafting.swift import Swift, SwiftDrafter
from lengthwise.methods.drafting.thinning import thinned_model
from lengthwise.methods.drafting.window import Window
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import load_pretrained
from lengthwise.tasks.documents import read_document

# Tokens of text that agreement is measured on, behind as many that are only read.
AGREED = 96
NEW = 32
LONG = 4096
# New tokens while layers are searched for.
SEARCHED = 96
SUBSETS = {
    "first 27": "0-26",
    "first 24": "0-23",
    "first 20": "0-19",
    "first and last 28": "28",
    "first and last 27": "27",
    "first and last 24": "24",
    "first and last 20": "20",
    "first and last 15": "15",
    "every other but the ends": "0,1,2,4,6,8,10,12,14,16,18,20,22,24,26,28,29",
}
KINDS = {
    "rewrite": "Rewrite this text in the past tense: " + PASSAGE[:160],
    "facts": "List five facts about the sea.",
    "question": "What is the capital of France?",
}

Ids = list[int]
Starter = Callable[[], Drafter]


def load() -> Adapted:
    model, tokenizer, _ = load_pretrained(dtype="float32")
    adapted = adapt(model)
    adapted.tokenizer = tokenizer
    return adapted


def encode(model: Adapted, text: str) -> Ids:
    assert model.tokenizer is not None
    return list(model.tokenizer.encode(text, add_special_tokens=False))


class Stored:
    """Attention of one text under the whole model's keys and values, once it has noted them.

    kept: the layers of the model that run. Every token sees its own key and value and, where
    `whole`, those that the whole model stored for the tokens before it.
    """

    def __init__(self, model: Adapted, index: Tensor) -> None:
        self.model, self.index = model, index
        self.noted: dict[int, tuple[Tensor, Tensor]] = {}
        self.kept: Sequence[int] = range(len(model.layers))
        self.whole = False

    def __call__(self, number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        layer = self.kept[number]
        facts, rope = self.model.layers[layer], self.model.rope
        assert facts.pairing is not None and rope is not None
        angles = rope.angles(facts.pairing, self.model.kind(facts), self.index)
        query, key = facts.pairing.rotate(query, angles), facts.pairing.rotate(key, angles)
        if not self.whole:
            self.noted.setdefault(layer, (key, value))
            return attend([Part(query, key, value, causal=True)], facts.scaling, None, None)[0]
        before = (self.index[:, None] > self.index[None]).expand(1, -1, -1)[0]
        own = torch.eye(len(self.index), dtype=torch.bool)
        parts = [Part(query, *self.noted[layer], before), Part(query, key, value, own)]
        return attend(parts, facts.scaling, None, None)[0]


def agreement() -> dict[str, Any]:
    """Share of tokens chosen alike, with keys of their own and with those of the whole model; and
    what is left of it without one layer (`skip`), or without the least missed ones together."""
    model = load()
    ids = torch.tensor(encode(model, read_document().text)[3000 : 3000 + 2 * AGREED])
    index = torch.arange(len(ids))
    stored = Stored(model, index)
    scored = index[AGREED:]
    expected = model.forward(ids, index, stored, scored).argmax(-1)

    def agree(kept: Sequence[int], whole: bool) -> float:
        some = adapt(thinned_model(model.model, kept), fuse=False, verify=False)
        stored.kept, stored.whole = kept, whole
        found = some.forward(ids, index, stored, scored).argmax(-1)
        return round(float((found == expected).float().mean()), 3)

    found: dict[str, Any] = {"check": "agreement", "tokens": AGREED}
    for name, keep in SUBSETS.items():
        kept = Layers(keep=keep).kept(model)
        found[name] = {"layers": len(kept), "own": agree(kept, False), "whole": agree(kept, True)}
    everything = range(len(model.layers))
    skip = {layer: agree([n for n in everything if n != layer], True) for layer in everything}
    found["skip"] = list(skip.values())
    order = sorted(everything, key=lambda layer: -skip[layer])
    for count in (2, 4, 6, 8, 10):
        kept = [layer for layer in everything if layer not in order[:count]]
        found[f"least missed {count}"] = {"out": sorted(order[:count]), "whole": agree(kept, True)}
    return found


def chat(model: Adapted, text: str) -> Ids:
    return encode(model, f"{HEAD}{text}{NEXT}")


def rounds(base: Context, suffix: Ids, starter: Starter | None, new: int = NEW) -> Request:
    """A greedy request behind what the base has read."""
    sequence = base.fork(Plan(drafters=() if starter is None else (starter,)))
    request = loop.begin(sequence, Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, suffix))
    for _ in loop.run(request, Fixed()):
        pass
    return request


def compare(
    base: Context, suffixes: dict[str, Ids], starters: dict[str, Starter], new: int = NEW
) -> dict[str, Any]:
    """Tokens a round by drafter and kind, and whether the text is that of plain decoding."""
    plain = {kind: rounds(base, suffix, None, new).output for kind, suffix in suffixes.items()}
    found: dict[str, Any] = {}
    for name, starter in starters.items():
        row: dict[str, Any] = {}
        for kind, suffix in suffixes.items():
            request = rounds(base, suffix, starter, new)
            ledger = request.ledger
            row[kind] = {
                "tokens_a_round": round(ledger.accepted_per_step, 2),
                "guesses": ledger.drafted,
                "right": sum(ledger.accepted.values()),
                "equal": request.output == plain[kind],
                **({"notes": ledger.notes} if ledger.notes else {}),
            }
        found[name] = row
        print(json.dumps({name: row}), file=sys.stderr)
    return found


def layers() -> dict[str, Any]:
    """Tokens a round of subsets of the layers, chains of four."""
    model = load()
    methods = [Layers(keep=keep, width=1) for keep in ("28", "24", "20")]
    methods += [Layers(skip="4,12,17,25-27", width=1), Layers()]
    starters = {str(m): lambda m=m: m.start_drafter(model) for m in methods}
    suffixes = {kind: chat(model, text)[1:] for kind, text in KINDS.items()}
    base = Context(model, Plan())
    loop.prefill(base, chat(model, "")[:1])
    return {"check": "layers", "new": NEW, **compare(base, suffixes, starters)}


def swift() -> dict[str, Any]:
    """Tokens a round while layers are searched for, chains of four, and what was found."""
    model = load()
    methods = [Swift(skip=skip, width=1, depth=4, window=16) for skip in (0.1, 0.2, 0.45)]
    suffixes = {kind: chat(model, text)[1:] for kind, text in KINDS.items()}
    base = Context(model, Plan())
    loop.prefill(base, chat(model, "")[:1])
    made: dict[str, list[SwiftDrafter]] = {str(method): [] for method in methods}

    def starter(method: Swift) -> Drafter:
        made[str(method)].append(method.start_drafter(model))
        return made[str(method)][-1]

    starters = {str(m): lambda m=m: starter(m) for m in methods}
    found = compare(base, suffixes, starters, SEARCHED)
    searches = {
        name: [(each.search.tried, round(each.search.score, 2), each.search.left_out)
               for each in drafters]
        for name, drafters in made.items()
    }  # fmt: skip
    return {"check": "swift", "new": SEARCHED, "searches": searches, **found}


def window(context: str = str(LONG)) -> dict[str, Any]:
    """Tokens a round of small views of a long document, chains of four."""
    model = load()
    views = [
        Window(width=1), Window(window=128, width=1), Window(recipe="snapkv(budget=512)", width=1),
        Window(retrieved=512, width=1), Window(recipe="kivi(bits=2)", width=1),
    ]  # fmt: skip
    before, after = encode(model, HEAD), encode(model, f"\n\n{PASSAGE}")
    reference = encode(model, read_document().text)[: int(context) - len(before) - len(after)]
    base = Context(model, Plan(), remember=64)
    # The passage stands first and the reference behind it, out of every window's sight.
    loop.prefill(base, before + after + reference)
    suffixes = {
        "quote": encode(model, f"\n\n{QUESTION}{NEXT}{ANSWER}"),
        "copy": encode(model, f"{NEXT}Understood.{ASK}Repeat this text exactly: {PASSAGE}{NEXT}"),
        "free": encode(model, f"{NEXT}Understood.{ASK}Tell me a story of the sea.{NEXT}"),
    }
    starters = {str(v): lambda v=v: v.start_drafter(model) for v in views}
    return {"check": "window", "context": int(context), **compare(base, suffixes, starters)}


def translation() -> dict[str, Any]:
    """Tokens a round of the model as its own second model, directly and through text."""
    model = load()
    assert model.tokenizer is not None
    tokenizer, method = model.tokenizer, SecondModel(width=1)
    starters: dict[str, Starter] = {
        "shared": lambda: ModelDrafter(method, model, Plan()),
        "through text": lambda: TranslatingDrafter(method, model, Plan(), tokenizer, tokenizer),
    }
    suffixes = {kind: chat(model, text)[1:] for kind, text in KINDS.items()}
    base = Context(model, Plan())
    loop.prefill(base, chat(model, "")[:1])
    return {"check": "translation", "depth": method.depth, **compare(base, suffixes, starters)}


CHECKS: dict[str, Callable[..., dict[str, Any]]] = {
    "agreement": agreement, "layers": layers, "swift": swift, "window": window,
    "translation": translation,
}  # fmt: skip

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"name one of {', '.join(CHECKS)}")
    print(json.dumps(CHECKS[sys.argv[1]](*sys.argv[2:])))
