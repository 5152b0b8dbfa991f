"""Online distillation: tiny models through two domains, and layers of the embedded model."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.reproduction.drafting.decoding import decode
from benchmarks.reproduction.drafting.five_prompts import OTHERS
from benchmarks.reproduction.harness import Found, Row, check, load
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.drafting.osd import OSD, OnlineTrainer, OSDDrafter, trainer_of
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

# Times that the questions of a domain are asked, and the passes that the page shows.
PASSES, SHOWN = 20, (1, 2, 5, 10, 15, 20)
UPDATES = {"updates": 4, "none": 0}
VOCAB = 48
Served = tuple[int, int, bool]


@check({"pass": "", **{str(n): ".2f" for n in SHOWN}})
def tiny() -> Iterator[Found]:
    """Share of right guesses, by pass over three questions of a domain, then of another."""
    target = adapt(tiny_model("llama", initializer_range=0.15, vocab_size=VOCAB))
    options = OSD(every=4, lr=4e-3, batch=2, depth=3, window=64)
    rows: dict[tuple[str, str], Row] = {}
    for name, every in UPDATES.items():
        small = tiny_model(
            "llama", seed=7, vocab_size=VOCAB, num_hidden_layers=1, initializer_range=0.05
        )
        trainer = OnlineTrainer(replace(options, every=every), adapt(small))
        for domain, low in (("first", 3), ("second", VOCAB // 2)):
            generator = random.Random(low)
            prompts = [[generator.randrange(low, low + 20) for _ in range(20)] for _ in range(3)]
            asked = [Asked(target, prompt, 24) for prompt in prompts]
            rates = [rate([each.serve(trainer) for each in asked], 2) for _ in range(PASSES)]
            title = f"{domain} domain, {name}"
            rows[domain, name] = {"pass": title, **{str(n): rates[n - 1] for n in SHOWN}}
    for domain in ("first", "second"):
        yield from (rows[domain, name] for name in UPDATES)


def rate(served: Sequence[Served], digits: int) -> float:
    """Share of right guesses. Raises RuntimeError where a text is not that of plain decoding."""
    if not all(same for _, _, same in served):
        raise RuntimeError("a text is not that of plain decoding")
    return round(sum(right for right, _, _ in served) / sum(t for _, t, _ in served), digits)


class Asked:
    """A question, read once and answered plainly once."""

    def __init__(
        self, target: AdaptedModel, prompt: Sequence[int], new: int, stop_ids: Sequence[int] = ()
    ) -> None:
        self.base, self.new, self.stop_ids = Context(target, Plan()), new, stop_ids
        self.logits = loop.prefill(self.base, prompt)
        self.plain = decode(self.base, self.logits, new=new, stop_ids=stop_ids).output

    def serve(self, trainer: OnlineTrainer) -> Served:
        """Right guesses, guesses tested, and whether the text is that of plain decoding."""
        drafter = self.drafter = Counting(trainer)
        request = decode(
            self.base,
            self.logits,
            lambda: drafter,
            new=self.new,
            stop_ids=self.stop_ids,
            silent=False,
        )
        for note in drafter.notes:
            print(note, file=sys.stderr)
        return drafter.right, drafter.tested, request.output == self.plain


class Counting(OSDDrafter):
    """Counts its own guesses apart from those of the school, which begins anew at each update.

    noting: seconds of processor time of every round in which a guess was wrong.
    """

    right = tested = 0

    def __init__(self, trainer: OnlineTrainer) -> None:
        super().__init__(trainer.options, trainer)
        self.noting: list[float] = []

    def learn(
        self, tokens: Sequence[int], tree: Tree, logits: Tensor, accepted: Sequence[int]
    ) -> None:
        right, tested = self.trainer.right, self.trainer.tested
        begin = time.thread_time()
        super().learn(tokens, tree, logits, accepted)
        spent = time.thread_time() - begin
        self.right += self.trainer.right - right
        self.tested += self.trainer.tested - tested
        if self.trainer.tested - tested > self.trainer.right - right:
            self.noting.append(spent)


THIRDS = ("1 to 4", "5 to 8", "9 to 12")


def questions() -> list[Asked]:
    """Twelve questions to the embedded model, up to 32 tokens each."""
    model = load("float32")
    prompts = [model.encode([{"role": "user", "content": text}]) for text in OTHERS[:12]]
    return [Asked(model.adapted, prompt, 32, model.stop_ids()) for prompt in prompts]


@check({"questions": "", **dict.fromkeys(THIRDS, ".3f")})
def layers() -> Iterator[Found]:
    """Share of right guesses by thirds of a stream of questions, taught and untaught."""
    asked = questions()
    for name, every in UPDATES.items():
        options = OSD(layers="80%", every=every, lr=1e-4, batch=2, depth=3)
        trainer = trainer_of(options, load("float32").adapted)
        served = [each.serve(trainer) for each in asked]
        rates = [rate(served[at : at + 4], 3) for at in range(0, len(served), 4)]
        yield {"questions": name, **dict(zip(THIRDS, rates, strict=True))}


@check({"noted": "", "microseconds": ""})
def noting() -> Iterator[Found]:
    """Processor time of noting a rejected guess, the median over a few questions, one thread."""
    trainer = OnlineTrainer(OSD(every=0, depth=3), load("float32").adapted)
    spent: list[float] = []
    for each in questions()[:3]:
        each.serve(trainer)
        spent += each.drafter.noting
    yield {"noted": len(spent), "microseconds": round(statistics.median(spent) * 1e6)}
