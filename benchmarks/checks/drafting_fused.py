"""Drafters that combine a model with retrieval or with learning: rounds are counted, not timed.

    python -m benchmarks.checks.drafting_fused rasd
    python -m benchmarks.checks.drafting_fused rapid
    python -m benchmarks.checks.drafting_fused laws
    python -m benchmarks.checks.drafting_fused osd
    python -m benchmarks.checks.drafting_fused osd_layers
    python -m benchmarks.checks.drafting_fused times

Each prints one JSON line. `rasd`: tokens a round of the fused tree and of its two parts on the five
prompts of drafting_retrieval, at the same number of nodes verified a round. `rapid`: the real model
drafting for itself from passages of a 2,000-token document. `laws`: distances of RAPID's laws on
random pairs of laws over five tokens, enumerated. `osd`: tiny models through two domains.
`osd_layers`: layers of the real model taught on a stream of questions. `times`: processor time, one
thread. Greedy and float32 unless said; `equal` says that every text is that of plain decoding.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch
from benchmarks.checks.drafting import HEAD, NEXT, PASSAGE, QUESTION
from benchmarks.checks.drafting_retrieval import OTHERS, Bench
from torch import Tensor

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.plan import Plan
from lengthwise.engine.policy import Fixed
from lengthwise.engine.request import Request
from lengthwise.engine.roles import Drafter
from lengthwise.engine.sampling import Sampler, Sampling
from lengthwise.engine.sequence import Sequence as Context
from lengthwise.engine.tree import Tree
from lengthwise.methods.drafting.layers import Layers
from lengthwise.methods.drafting.osd import OSD, OSDDrafter, School, school_of
from lengthwise.methods.drafting.rapid import Rapid, pulled
from lengthwise.methods.drafting.rasd import ContextSource, Rasd, RasdDrafter, graft
from lengthwise.methods.drafting.retrieved import lexical
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.tasks.documents import read_document
from lengthwise.testing.tiny import tiny_model

CONTEXT, NEW = 2000, 64
# Nodes verified a round, the same for the fused tree and for each of its parts.
NODES = 16
# Times that the questions of a domain are asked.
PASSES = 20

Found = dict[str, Any]
Starter = Callable[[], Drafter]


def decode(
    base: Context, logits: Tensor, *starters: Starter, new: int = NEW, nodes: int = NODES,
    stop_ids: Sequence[int] = (), **settings: Any,
) -> Request:  # fmt: skip
    """A fork of a prompt that was read, continued. settings: of sampling, or a verifier."""
    verifier = settings.pop("verifier", None)
    sequence = base.fork(Plan(drafters=starters, verifier=verifier))
    request = loop.begin(sequence, Sampling(**settings), new, stop_ids)
    loop.start(request, logits)
    for _ in loop.run(request, Fixed(nodes)):
        pass
    loop.finish(request)
    if request.ledger.notes:
        raise RuntimeError(request.ledger.notes[0])
    return request


class Retrieving(Drafter):
    """The retrieved part of rasd alone, nothing pruned."""

    name = "retrieved"

    def __init__(self, options: Rasd) -> None:
        self.options, self.source = options, ContextSource()

    def propose(self, tokens: Sequence[int], tree: Tree, limit: int) -> None:
        room = self.options.retrieved
        for path in self.source.find(tokens, min(limit, self.options.draft)):
            room -= graft(tree, path, path.weight, room)
            if not room:
                return


def rasd() -> Found:
    bench = Bench()
    model, options = bench.model.adapted, Rasd()
    layers = Layers(keep=options.layers, depth=options.depth, width=options.width)
    parts: dict[str, Starter] = {
        "layers": partial(layers.start_drafter, model),
        "retrieved": lambda: Retrieving(options),
        "rasd": partial(options.start_drafter, model),
    }
    found: Found = {"check": "rasd", "nodes": NODES}
    for name, starter in parts.items():
        requests = {}
        for work, base in bench.bases.items():
            assert base.last_logits is not None
            stop_ids = bench.model.stop_ids()
            requests[work] = decode(base, base.last_logits, starter, stop_ids=stop_ids)
        rounds = {work: round(r.ledger.accepted_per_step, 2) for work, r in requests.items()}
        accepted: dict[str, int] = {}
        for request in requests.values():
            for source, count in request.ledger.accepted.items():
                accepted[source] = accepted.get(source, 0) + count
        found[name] = {
            **rounds,
            "mean": round(statistics.mean(rounds.values()), 2),
            "accepted": accepted,
            "equal": all(r.output == bench.plain[work] for work, r in requests.items()),
        }
    return found


def rapid() -> Found:
    """The passage stands in the middle of a reference that has nothing to do with it."""
    model = lengthwise.load(dtype="float32")
    tokenizer = model.tokenizer
    assert tokenizer is not None

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    head, passage = encode(HEAD), encode(f"\n\n{PASSAGE}\n\n")
    asked = encode(f"\n\n{QUESTION}{NEXT}")
    body = encode(read_document().text)[: CONTEXT - len(head) - len(passage) - len(asked)]
    middle = len(body) // 2
    prompt = head + body[:middle] + passage + body[middle:] + asked
    base = Context(model.adapted, Plan())
    logits = loop.prefill(base, prompt)
    short = Rapid().shortened(prompt, lexical)
    found: Found = {
        "check": "rapid", "prompt": len(prompt), "read": len(short), "passage": len(passage),
        "of it read": SequenceMatcher(None, passage, short, False).find_longest_match().size,
    }  # fmt: skip
    sampled = {"temperature": 0.7, "top_p": 0.95, "seed": 1}
    plain = decode(base, logits).output
    plain_sampled = decode(base, logits, **sampled).output
    for options in (Rapid(), Rapid(gamma=4, width=2)):
        start = partial(options.start_drafter, model.adapted)
        greedy = decode(base, logits, start)
        drawn = decode(base, logits, start, **sampled)
        found[str(options)] = {
            "greedy": round(greedy.ledger.accepted_per_step, 2), "equal": greedy.output == plain,
            "sampled": round(drawn.ledger.accepted_per_step, 2),
            "sampled equal": drawn.output == plain_sampled,
        }  # fmt: skip
    for eta in (0.0, 5.0, 10.0, 20.0):
        options = Rapid(mode="augmented", eta=eta)
        start = partial(options.start_drafter, model.adapted)
        verifier = partial(options.start_verifier, model.adapted)
        greedy = decode(base, logits, start, verifier=verifier)
        drawn = decode(base, logits, start, verifier=verifier, **sampled)
        found[f"augmented, eta={eta:g}"] = {
            "greedy": round(greedy.ledger.accepted_per_step, 2), "equal": greedy.output == plain,
            "sampled": round(drawn.ledger.accepted_per_step, 2),
        }  # fmt: skip
    return found


def laws(pairs: int = 200) -> Found:
    """Means over random pairs: acceptance, and total variation of what is said to p and to p_hat,
    with the residual of the paper and with ours."""
    found: Found = {"check": "laws", "tokens": 5, "pairs": pairs}
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(pairs, 2, 5, generator=generator, dtype=torch.float64)
    cases = [(eta, mask) for mask in ("p_hat", "q") for eta in (0.0, 1.0, 5.0, 10.0, 20.0)]
    for eta, mask in cases:
        rows = []
        for p, q in logits.softmax(-1):
            target = pulled(p, q, eta, mask)
            accepted = torch.minimum(q, target)
            left = 1 - accepted.sum()
            theirs = accepted + left * _norm(torch.maximum(p - target, p - q).clamp_min(0))
            ours = accepted + left * _norm((target - q).clamp_min(0))
            rows.append([
                accepted.sum(), _tv(target, p), _tv(theirs, p), _tv(theirs, target),
                _tv(ours, target),
            ])  # fmt: skip
        mean = torch.tensor(rows, dtype=torch.float64).mean(0)
        names = ("acceptance", "p_hat to p", "paper to p", "paper to p_hat", "ours to p_hat")
        found[f"eta={eta:g}, mask={mask}"] = {
            name: round(float(value), 4) for name, value in zip(names, mean, strict=True)
        }
    return found


def _norm(mass: Tensor) -> Tensor:
    return mass / mass.sum() if mass.sum() > 0 else mass


def _tv(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().sum() / 2


def osd() -> Found:
    """Share of right guesses, by pass over three questions of a domain, then of another."""
    vocab = 48
    target = adapt(tiny_model("llama", initializer_range=0.15, vocab_size=vocab))
    options = OSD(every=4, lr=4e-3, batch=2, depth=3, window=64)
    found: Found = {"check": "osd"}
    for name, every in {"updates": 4, "no updates": 0}.items():
        small = tiny_model(
            "llama", seed=7, vocab_size=vocab, num_hidden_layers=1, initializer_range=0.05
        )
        school = School(replace(options, every=every), adapt(small))
        equal, rates = True, []
        for low in (3, vocab // 2):
            generator = random.Random(low)
            prompts = [[generator.randrange(low, low + 20) for _ in range(20)] for _ in range(3)]
            for _ in range(PASSES):
                requests = [Asked(target, prompt, 24).serve(school) for prompt in prompts]
                equal &= all(same for _, _, same in requests)
                rates.append(
                    round(sum(r for r, _, _ in requests) / sum(t for _, t, _ in requests), 2)
                )
        found[name] = {"first": rates[:PASSES], "second": rates[PASSES:], "equal": equal}
    return found


def _rate(served: Sequence[tuple[int, int, bool]]) -> float:
    return round(sum(right for right, _, _ in served) / sum(tested for _, tested, _ in served), 3)


class Asked:
    """A question, read once and answered plainly once."""

    def __init__(
        self, target: Adapted, prompt: Sequence[int], new: int, stop_ids: Sequence[int] = ()
    ) -> None:
        self.base, self.new, self.stop_ids = Context(target, Plan()), new, stop_ids
        self.logits = loop.prefill(self.base, prompt)
        self.plain = decode(self.base, self.logits, new=new, stop_ids=stop_ids).output

    def serve(self, school: School) -> tuple[int, int, bool]:
        """Right guesses, guesses tested, and whether the text is that of plain decoding."""
        drafter = Counting(school)
        request = decode(
            self.base, self.logits, lambda: drafter, new=self.new, stop_ids=self.stop_ids
        )
        for note in drafter.notes:
            print(note, file=sys.stderr)
        return drafter.right, drafter.tested, request.output == self.plain


class Counting(OSDDrafter):
    """Counts its own guesses apart from those of the school, which begins anew at each update."""

    right = tested = 0

    def __init__(self, school: School) -> None:
        super().__init__(school.options, school)

    def learn(self, tokens: Any, tree: Tree, logits: Tensor, accepted: Sequence[int]) -> None:
        right, tested = self.school.right, self.school.tested
        super().learn(tokens, tree, logits, accepted)
        self.right += self.school.right - right
        self.tested += self.school.tested - tested


def osd_layers() -> Found:
    """Share of right guesses by thirds of a stream of questions, taught and untaught."""
    model = lengthwise.load(dtype="float32")
    prompts = [model.encode([{"role": "user", "content": question}]) for question in OTHERS[:12]]
    asked = [Asked(model.adapted, prompt, 32, model.stop_ids()) for prompt in prompts]
    found: Found = {"check": "osd_layers", "questions": len(asked)}
    for name, every in {"updates": 4, "no updates": 0}.items():
        options = OSD(layers="80%", every=every, lr=1e-4, batch=2, depth=3)
        school = school_of(options, model.adapted)
        served = [each.serve(school) for each in asked]
        found[name] = {
            "thirds": [_rate(served[at : at + 4]) for at in range(0, len(served), 4)],
            "equal": all(same for _, _, same in served),
        }
    return found


def times() -> Found:
    """Medians in microseconds: of rasd's retrieval, pruning and fusion at 32,768 tokens of context,
    and of what osd notes of a round of 8 nodes."""
    model = lengthwise.load(dtype="float32")
    tokenizer = model.tokenizer
    assert tokenizer is not None
    ids = tokenizer.encode(read_document().text, add_special_tokens=False)
    text = list(islice(cycle(ids), 32_768))
    vocab = model.adapted.vocab_size
    generator = random.Random(0)
    fused = RasdDrafter(Rasd(), lambda sequence: _Same(vocab))
    fused.vocab_size, fused.sampler = vocab, Sampler(Sampling())
    fused.scout = _Same(vocab)
    school = School(OSD(every=0), model.adapted)
    noting = OSDDrafter(OSD(), school)
    noting._vocab_size = vocab
    logits = torch.randn(8, vocab)
    spent: dict[str, list[float]] = {"rasd": [], "osd": []}
    for step in range(300):
        text.append(text[1000 + step] if generator.random() < 0.9 else 77)
        law = torch.randn(vocab).softmax(-1)
        tree = Tree(text[-1])
        begin = time.thread_time()
        room = fused.options.retrieved
        for path, chance in fused.prune(fused.source.find(text, 16), law):
            room -= graft(tree, path, chance, room)
            if not room:
                break
        spent["rasd"].append(time.thread_time() - begin)
        noting._chain = [0]
        begin = time.thread_time()
        noting.learn(text, tree, logits, [0])
        spent["osd"].append(time.thread_time() - begin)
    return {
        "check": "times", "unit": "microseconds",
        **{name: round(statistics.median(values) * 1e6) for name, values in spent.items()},
    }  # fmt: skip


class _Same:
    """Stands in for a model that is not asked."""

    states: Tensor | None = None

    def __init__(self, vocab_size: int) -> None:
        self.logits = torch.zeros(1, vocab_size)

    def score(self, tokens: Sequence[int], tree: Tree, want_states: bool = False) -> Tensor:
        return self.logits


CHECKS: dict[str, Callable[[], Found]] = {
    "rasd": rasd, "rapid": rapid, "laws": laws, "osd": osd, "osd_layers": osd_layers,
    "times": times,
}  # fmt: skip

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"name one of {', '.join(CHECKS)}")
    print(json.dumps(CHECKS[sys.argv[1]]()))
