"""The one loop: prefill in chunks, then draft, verify and commit until something says stop.

Everything goes through `extend`, one forward of new tokens for any number of sequences. A plain step
is a tree with nothing but its root.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.frame import Block
from lengthwise.engine.roles import Drafter
from lengthwise.engine.sampling import Sampler, Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.engine.tree import Tree, verify
from lengthwise.errors import LengthwiseError

# Tokens of a prefill forward: large enough for full speed of the products, small enough that what
# lives beside the cache stays a few percent of it.
CHUNK = 1024
# Logits are turned into losses this many rows at a time.
LOSS_ROWS = 256

Progress = Callable[[int], None]


@torch.no_grad()
def extend(
    items: Seq[tuple[Sequence, Seq[int], Tree | None]], keep: str = "last"
) -> tuple[list[Tensor], list[Block]]:
    """One forward of new tokens for several sequences (all of one model).

    keep: "all", "last" or "none": whose logits are wanted. Returns per sequence its logits
    `[kept, vocab]` and the block to commit.
    """
    model = items[0][0].model
    blocks = [sequence.block(len(tokens), tree) for sequence, tokens, tree in items]
    counts = [block.count for block in blocks]
    device = model.device
    ids = torch.tensor([t for _, tokens, _ in items for t in tokens], device=device)

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if len(items) == 1:
            return items[0][0].attend(layer, query, key, value, blocks[0])
        rows = zip(query.split(counts, 1), key.split(counts, 1), value.split(counts, 1), strict=True)
        outs = [
            item[0].attend(layer, q, k, v, block)
            for item, block, (q, k, v) in zip(items, blocks, rows, strict=True)
        ]
        return torch.cat(outs, 1)

    wanted: Tensor | None = None
    if keep != "all":
        ends = torch.tensor(counts, device=device).cumsum(0) - 1
        wanted = ends if keep == "last" else ends[:1]
    positions = torch.cat([block.index for block in blocks])
    logits = model.forward(ids, positions, attention, wanted)
    kept = counts if keep == "all" else [1] * len(counts) if keep == "last" else [1]
    found = list(logits.split(kept))
    return found if keep != "none" else [logits[:0]] * len(items), blocks


def prefill(
    sequence: Sequence,
    tokens: Seq[int],
    chunk: int = CHUNK,
    progress: Progress | None = None,
    losses: list[float] | None = None,
) -> Tensor:
    """Reads tokens in chunks; returns the logits `[vocab]` after the last one.

    losses, where given, receives -log p of every token but the first of the sequence (so it costs
    the output layer for all tokens). Does not end the prompt: see `Sequence.end_prefill`.
    """
    if not tokens:
        raise LengthwiseError("the prompt has no tokens; give at least one")
    limit = sequence.max_block()
    step = max(1, min(chunk, limit or chunk))
    wants = losses is not None or (sequence.retention is not None and sequence.retention_surprise)
    last: Tensor | None = sequence.last_logits
    for start in range(0, len(tokens), step):
        part = list(tokens[start : start + step])
        final = start + step >= len(tokens)
        keep = "all" if wants else "last" if final else "none"
        (logits,), (block,) = extend([(sequence, part, None)], keep)
        if wants:
            found = token_losses(last, logits, part)
            sequence.surprise += found
            if losses is not None:
                losses += found if last is not None else found[1:]
        sequence.commit(block, part)
        if keep != "none":
            last = logits[-1].clone()
            sequence.last_logits = last
        if progress is not None:
            progress(len(part))
    assert last is not None
    return last


def token_losses(before: Tensor | None, logits: Tensor, tokens: Seq[int]) -> list[float]:
    """-log p of each token: before `[vocab]` predicts the first, logits `[n, vocab]` the others.

    The first is infinite where nothing came before it.
    """
    targets = torch.tensor(tokens, device=logits.device)
    found: list[float] = [float("inf")]
    if before is not None:
        found = [float(F.cross_entropy(before.float()[None], targets[:1]))]
    for start in range(0, len(tokens) - 1, LOSS_ROWS):
        stop = min(start + LOSS_ROWS, len(tokens) - 1)
        loss = F.cross_entropy(logits[start:stop].float(), targets[start + 1 : stop + 1],
                               reduction="none")  # fmt: skip
        found += loss.tolist()
    return found


@dataclass
class Ledger:
    """What a request cost. Seconds are wall clock of the engine, the device synchronised.

    ttft_s: from the start of prefill to the first token. decode_s: from the first token to the last,
    over `decoded` tokens in `steps` forwards. kv_bytes: held at the end; kv_peak_bytes: the most held
    at any moment, decoded and gathered copies included. accepted: guesses that were right, by drafter.
    """

    prompt_tokens: int = 0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    decoded: int = 0
    steps: int = 0
    drafted: int = 0
    draft_s: float = 0.0
    kv_bytes: int = 0
    kv_peak_bytes: int = 0
    finish_reason: str = ""
    accepted: dict[str, int] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed after the first token; 0 where nothing was decoded after it."""
        return self.decoded / self.decode_s if self.decode_s else 0.0

    @property
    def accepted_per_step(self) -> float:
        """Tokens committed a forward (1 without drafting)."""
        return self.decoded / self.steps if self.steps else 1.0


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass
class Request:
    """One sequence being generated. `pending` is the newest token, chosen but not yet processed."""

    sequence: Sequence
    sampler: Sampler
    max_new_tokens: int
    stop_ids: frozenset[int]
    ledger: Ledger = field(default_factory=Ledger)
    output: list[int] = field(default_factory=list)
    pending: int = -1
    drafters: list[Drafter] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return bool(self.ledger.finish_reason)

    def emit(self, tokens: Seq[int]) -> list[int]:
        """Takes new tokens up to a stop; returns those that count."""
        taken: list[int] = []
        for token in tokens:
            if token in self.stop_ids:
                self.ledger.finish_reason = "stop"
                break
            taken.append(token)
            self.output.append(token)
            if len(self.output) >= self.max_new_tokens:
                self.ledger.finish_reason = "length"
                break
        return taken

    def context(self) -> list[int]:
        return [*self.sequence.tokens, self.pending]

    def tree(self) -> Tree:
        """What to verify next: the pending token and the guesses below it."""
        tree = Tree(self.pending)
        room = self.sequence.room()
        limit = self.max_new_tokens - len(self.output) - 1
        if room is not None:
            limit = min(limit, room - 1)
        window = self.sequence.max_block()
        if window is not None:
            limit = min(limit, window - 1)
        if limit > 0 and self.drafters:
            begin = time.perf_counter()
            context = self.context()
            for drafter in self.drafters:
                drafter.propose(context, tree, limit)
            self.ledger.draft_s += time.perf_counter() - begin
        return tree


def start(request: Request, logits: Tensor) -> list[int]:
    """Ends the prompt and chooses the first token from the logits `[vocab]` after it."""
    request.sequence.end_prefill()
    request.pending = request.sampler.choose(logits, request.sequence.tokens)
    return request.emit([request.pending])


def step(requests: Seq[Request]) -> list[list[int]]:
    """One draft-verify-commit round for all requests; returns the new tokens of each."""
    begin = time.perf_counter()
    trees = [request.tree() for request in requests]
    items = [(r.sequence, t.tokens, t) for r, t in zip(requests, trees, strict=True)]
    logits, blocks = extend(items, "all")
    emitted = [
        _settle(request, tree, scores, block)
        for request, tree, scores, block in zip(requests, trees, logits, blocks, strict=True)
    ]
    synchronize(requests[0].sequence.model.device)
    elapsed = time.perf_counter() - begin
    for request, tokens in zip(requests, emitted, strict=True):
        request.ledger.decode_s += elapsed
        request.ledger.decoded += len(tokens)
        request.ledger.steps += 1
    return emitted


def _settle(request: Request, tree: Tree, logits: Tensor, block: Block) -> list[int]:
    sequence, sampler = request.sequence, request.sampler
    if sampler.sampling.plain:
        best = logits.argmax(-1).tolist()
        accepted, token = verify(tree, lambda node, _: best[node])
    else:
        context = request.context()
        accepted, token = verify(
            tree, lambda node, below: sampler.choose(logits[node], context + below)
        )
    new = [tree.tokens[node] for node in accepted[1:]] + [token]
    taken = request.emit(new)
    if sequence.retention_surprise:
        kept = [tree.tokens[n] for n in accepted]
        rows = logits[torch.tensor(accepted, device=logits.device)]
        sequence.surprise += token_losses(sequence.last_logits, rows, kept)
        sequence.last_logits = rows[-1].clone()
    sequence.commit(block, [tree.tokens[node] for node in accepted], accepted)
    request.pending = token
    request.ledger.drafted += len(tree) - 1
    for node in accepted[1 : len(taken) + 1]:
        source = tree.sources[node]
        request.ledger.accepted[source] = request.ledger.accepted.get(source, 0) + 1
    context = request.context()
    for drafter in request.drafters:
        drafter.learn(context, tree, logits, accepted)
    return taken


def run(request: Request) -> Iterator[list[int]]:
    """Steps one started request until it is done, yielding its new tokens."""
    while not request.done:
        yield step([request])[0]


def finish(request: Request) -> Ledger:
    """Closes the books of a request."""
    sequence, ledger = request.sequence, request.ledger
    sequence.note_peak()
    ledger.kv_bytes, ledger.kv_peak_bytes = sequence.nbytes(), sequence.peak_bytes
    return ledger


def begin(
    sequence: Sequence, sampling: Sampling, max_new_tokens: int, stop_ids: Seq[int]
) -> Request:
    """A request over a sequence whose prompt has been read."""
    drafters = [drafter for make in sequence.plan.drafters if (drafter := make()) is not None]
    return Request(sequence, Sampler(sampling), max_new_tokens, frozenset(stop_ids), drafters=drafters)


def teacher_force(sequence: Sequence, tokens: Seq[int], block: int = 1) -> Tensor:
    """Feeds given tokens and returns the logits `[len(tokens), vocab]` that predicted each of them.

    The sequence must have read something. block 1 is what decoding does; larger blocks are faster
    and let block-wise methods plan once for all of them.
    """
    assert sequence.last_logits is not None
    found = [sequence.last_logits[None]]
    for start in range(0, len(tokens), block):
        part = list(tokens[start : start + block])
        (logits,), (new,) = extend([(sequence, part, None)], "all")
        if sequence.retention_surprise:
            sequence.surprise += token_losses(sequence.last_logits, logits, part)
        sequence.commit(new, part)
        sequence.last_logits = logits[-1].clone()
        found.append(logits)
    return torch.cat(found)[: len(tokens)]
