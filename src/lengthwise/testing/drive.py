"""How the laws feed sequences: whole, in chunks, token by token, together, or by forced guesses."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence as Seq
from itertools import cycle

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import begin, extend, finish, prefill, start, step
from lengthwise.engine.losses import note_token_nll
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed, LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.models.adapted_model import AdaptedModel

WHOLE = 1 << 30
# Chunks of a text that is cut at any place: single tokens, in a row and between longer chunks.
RAGGED = (7, 1, 1, 19, 1, 3)
JUNK = 6


def feed(rows: Seq[tuple[Sequence, Seq[int]]]) -> list[Tensor]:
    """One forward for several sequences, committed; logits `[tokens, vocab]` of each."""
    found, blocks = extend([(sequence, part, None) for sequence, part in rows], "all")
    for (sequence, part), logits, block in zip(rows, found, blocks, strict=True):
        if sequence.wants_token_nll:
            note_token_nll(sequence, logits, part)
        sequence.commit(block, part)
        sequence.last_logits = logits[-1].clone()
    return found


def chunks(length: int, sizes: int | Seq[int], most: int | None = None) -> Iterator[slice]:
    """Where a text is cut: by one size or by several in turn, none of them above `most`."""
    at = 0
    for size in cycle((sizes,) if isinstance(sizes, int) else sizes):
        if at >= length:
            return
        end = min(at + min(size, most or size), length)
        yield slice(at, end)
        at = end


def read(sequence: Sequence, text: Seq[int], chunk: int | Seq[int] = WHOLE) -> Tensor:
    """Logits `[len(text), vocab]` of text read in chunks, or as large ones as the plan allows."""
    parts = chunks(len(text), chunk, sequence.max_block())
    return torch.cat([feed([(sequence, text[part])])[0] for part in parts])


def together(
    model: AdaptedModel,
    plan: Plan,
    texts: Seq[Seq[int]],
    steps: int,
    chunk: int | Seq[int] = WHOLE,
    offset: int = 0,
) -> list[Tensor]:
    """Logits of texts read side by side: prompts in chunks, then `steps` single tokens."""
    sequences = [Sequence(model, plan, offset=offset) for _ in texts]
    found: list[list[Tensor]] = [[] for _ in texts]
    prompts = [text[: len(text) - steps] for text in texts]
    for sequence, prompt in zip(sequences, prompts, strict=True):
        sequence.reading = len(prompt)
    for part in chunks(max(map(len, prompts)), chunk, sequences[0].max_block()):
        live = [i for i, prompt in enumerate(prompts) if part.start < len(prompt)]
        logits = feed([(sequences[i], prompts[i][part]) for i in live])
        for i, row in zip(live, logits, strict=True):
            found[i].append(row)
    for sequence in sequences:
        sequence.end_prefill()
    for at in range(steps):
        rows = [
            (s, [text[len(text) - steps + at]]) for s, text in zip(sequences, texts, strict=True)
        ]
        for i, row in enumerate(feed(rows)):
            found[i].append(row)
    return [torch.cat(rows) for rows in found]


class Forced(Drafter):
    """A drafter that knows the answer and mixes it with nonsense, in trees of any shape."""

    name = "forced"

    def __init__(self, prompt: int, answer: Seq[int], vocab: int, seed: int) -> None:
        self.prompt, self.answer, self.vocab = prompt, list(answer), vocab
        self.random = random.Random(seed)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        ahead = self.answer[len(tokens) - self.prompt :][: self.random.randint(0, limit)]
        tree.add_chain(ahead, source=self.name)
        for _ in range(self.random.randint(0, JUNK)):
            parents = [node for node, depth in enumerate(tree.depths) if depth < limit]
            if parents:
                guess = self.random.randrange(3, self.vocab)
                tree.add(self.random.choice(parents), guess, source=self.name)


def run_request(
    model: AdaptedModel, plan: Plan, prompt: Seq[int], count: int, sampling: Sampling,
    policy: LengthPolicy | None,
) -> Request:  # fmt: skip
    """A request of `count` tokens, from its prompt to the closing of its books."""
    sequence = Sequence(model, plan, expected=len(prompt) + count)
    request = begin(sequence, sampling, count, ())
    start(request, prefill(sequence, prompt))
    while not request.done:
        step([request], policy)
    finish(request)
    return request


def generate(
    model: AdaptedModel,
    plan: Plan,
    prompt: Seq[int],
    count: int,
    forced: Seq[int] | None = None,
    seed: int = 0,
) -> tuple[list[int], Sequence]:
    """Greedy tokens and the sequence after them; `forced` is the answer a drafter is given."""
    sequence = Sequence(model, plan)
    logits = prefill(sequence, prompt)
    request = begin(sequence, Sampling(), count, ())
    if forced is not None:
        request.drafters.append(Forced(len(prompt), forced, model.vocab_size, seed))
    start(request, logits)
    while not request.done:
        step([request], Fixed())
    return request.output, sequence
