"""The one loop: prefill in chunks, then draft, verify and commit until something says stop.

Everything goes through `extend`, one forward of new tokens for any number of sequences. A plain
step is a tree with nothing but its root.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lengthwise.engine.frame import Block
from lengthwise.engine.losses import Losses, predicting_rows, token_losses
from lengthwise.engine.policy import Acceptance, LengthPolicy, Load, policy_for
from lengthwise.engine.roles import Drafter
from lengthwise.engine.sampling import Sampler, Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.engine.tree import Tree, verify
from lengthwise.errors import LengthwiseError

# Tokens of a prefill forward: large enough for full speed of the products, small enough that what
# lives beside the cache stays a few percent of it.
CHUNK = 1024

Progress = Callable[[int], None]


@torch.no_grad()
def extend(
    items: Seq[tuple[Sequence, Seq[int], Tree | None]], keep: str | Tensor = "last"
) -> tuple[list[Tensor], list[Block]]:
    """One forward of new tokens for several sequences (all of one model).

    keep: whose logits are wanted: "all", each sequence's "last", "none", or int64 indices (of one
    sequence). Returns per sequence its logits `[kept, vocab]` and the block to commit.
    """
    model = items[0][0].model
    blocks = [sequence.block(len(tokens), tree) for sequence, tokens, tree in items]
    counts = [block.count for block in blocks]
    device = model.device
    ids = torch.tensor([t for _, tokens, _ in items for t in tokens], device=device)

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if len(items) == 1:
            return items[0][0].attend(layer, query, key, value, blocks[0])
        rows = zip(
            query.split(counts, 1), key.split(counts, 1), value.split(counts, 1), strict=True
        )
        outs = [
            item[0].attend(layer, q, k, v, block)
            for item, block, (q, k, v) in zip(items, blocks, rows, strict=True)
        ]
        return torch.cat(outs, 1)

    wanted: Tensor | None = None
    if isinstance(keep, Tensor):
        wanted = keep
    elif keep != "all":
        ends = torch.tensor(counts, device=device).cumsum(0) - 1
        wanted = ends if keep == "last" else ends[:1]
    positions = torch.cat([block.index for block in blocks])
    logits = model.forward(ids, positions, attention, wanted)
    if isinstance(keep, Tensor):
        return [logits], blocks
    if keep == "none":
        return [logits[:0]] * len(items), blocks
    return list(logits.split(counts if keep == "all" else [1] * len(counts))), blocks


def prefill(
    sequence: Sequence,
    tokens: Seq[int],
    chunk: int = CHUNK,
    progress: Progress | None = None,
    losses: Losses | None = None,
) -> Tensor:
    """Reads tokens in chunks; returns the logits `[vocab]` after the last one.

    losses receives -log p of the tokens it asks for. Does not end the prompt: see
    `Sequence.end_prefill`.
    """
    if not tokens:
        raise LengthwiseError("the prompt has no tokens; give at least one")
    sequence.reading = len(sequence) + len(tokens)
    limit = sequence.max_block()
    step = max(1, min(chunk, limit or chunk))
    every = 1 if sequence.retention_surprise else losses.every if losses is not None else 0
    for start in range(0, len(tokens), step):
        part = list(tokens[start : start + step])
        rows = predicting_rows(len(part), every)
        (logits,), (block,) = extend([(sequence, part, None)], rows.to(sequence.model.device))
        if every:
            found = token_losses(sequence.last_logits, logits, part, every)
            if sequence.retention_surprise:
                sequence.surprise += found
            if losses is not None:
                losses.add(len(sequence), found[:: losses.every // every])
        sequence.commit(block, part)
        sequence.last_logits = logits[-1].clone()
        if progress is not None:
            progress(len(part))
    assert sequence.last_logits is not None
    return sequence.last_logits


@dataclass
class Ledger:
    """What a request cost. Seconds are wall clock of the engine, the device synchronised.

    ttft_s: from the start of prefill to the first token. decode_s: from the first token to the
    last, over `decoded` tokens in `steps` forwards; draft_s: of that, for guessing and choosing
    what to verify. drafted: guesses that were verified; accepted: those that were right, by
    drafter. kv_bytes: held at the end; kv_peak_bytes: the most held at any moment, decoded and
    gathered copies included. notes: what the user has to know, one sentence each.
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
    notes: list[str] = field(default_factory=list)

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
    acceptance: Acceptance = field(default_factory=Acceptance)
    _context: list[int] = field(default_factory=list)

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
        """Committed tokens and the pending one: one list that grows, so that a step copies none."""
        known = max(0, len(self._context) - 1)
        self._context[known:] = [*self.sequence.tokens[known:], self.pending]
        return self._context

    def tree(self) -> Tree:
        """The pending token and all guesses below it, for a policy to choose from."""
        tree = Tree(self.pending)
        limits = [self.max_new_tokens - len(self.output), self.sequence.room(),
                  self.sequence.max_block()]  # fmt: skip
        limit = min(limit for limit in limits if limit is not None) - 1
        if limit > 0 and self.drafters:
            context = self.context()
            for drafter in list(self.drafters):
                before = len(tree)
                try:
                    drafter.propose(context, tree, limit)
                    _check_guesses(tree, before, limit, self.sequence.model.vocab_size)
                except Exception as error:
                    tree = tree.keep(range(before))
                    self.drop(drafter, error)
        return tree

    def learn(self, tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        """Shows every drafter what became of the verified tree."""
        context = self.context()
        self.each_drafter(lambda drafter: drafter.learn(context, tree, logits, accepted))

    def each_drafter(self, tell: Callable[[Drafter], None]) -> None:
        """Tells every drafter something; one that fails is left out."""
        for drafter in list(self.drafters):
            try:
                tell(drafter)
            except Exception as error:
                self.drop(drafter, error)

    def drop(self, drafter: Drafter, error: Exception) -> None:
        """Goes on without a drafter that failed: guesses are a matter of speed alone."""
        self.drafters.remove(drafter)
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        self.ledger.notes.append(f"drafter {drafter.name} failed and was left out: {reason}")


def _check_guesses(tree: Tree, before: int, limit: int, vocab_size: int) -> None:
    """Raises where the nodes from `before` on cannot be fed to the model."""
    for token, depth in zip(tree.tokens[before:], tree.depths[before:], strict=True):
        if not 0 <= token < vocab_size:
            raise LengthwiseError(f"it guessed token {token} of a vocabulary of {vocab_size}")
        if depth > limit:
            raise LengthwiseError(f"it guessed {depth} tokens ahead where {limit} were allowed")


def start(request: Request, logits: Tensor) -> list[int]:
    """Ends the prompt and chooses the first token from the logits `[vocab]` after it."""
    request.each_drafter(lambda drafter: drafter.begin(request.sequence, request.sampler.sampling))
    request.sequence.end_prefill()
    request.pending = request.sampler.choose(logits, request.sequence.tokens)
    return request.emit([request.pending])


def step(requests: Seq[Request], policy: LengthPolicy | None = None) -> list[list[int]]:
    """One draft-verify-commit round for all requests; returns the new tokens of each.

    policy: how many guesses are verified; None is the goodput policy of the model.
    """
    begin = time.perf_counter()
    model = requests[0].sequence.model
    if policy is None:
        policy = policy_for(model)
    proposed = [request.tree() for request in requests]
    load = _load(requests)
    trees = policy.choose(load, proposed, [r.acceptance for r in requests]) if load else proposed
    drafting = time.perf_counter() - begin
    verifying = policy.clock()
    items = [(r.sequence, t.tokens, t) for r, t in zip(requests, trees, strict=True)]
    logits, blocks = extend(items, "all")
    emitted = [_settle(*row) for row in zip(requests, proposed, trees, logits, blocks, strict=True)]
    synchronize(model.device)
    if load:
        guesses = sum(map(len, trees)) - len(trees)
        policy.observe(load, guesses, policy.clock() - verifying)
    elapsed = time.perf_counter() - begin
    for request, tokens in zip(requests, emitted, strict=True):
        request.ledger.decode_s += elapsed
        request.ledger.draft_s += drafting if request.drafters else 0.0
        # A stop token is no part of the text, but it was decoded like any other.
        request.ledger.decoded += len(tokens) + (request.ledger.finish_reason == "stop")
        request.ledger.steps += 1
    return emitted


def _load(requests: Seq[Request]) -> Load | None:
    """What the step's time depends on; None where nobody drafts."""
    if not any(request.drafters for request in requests):
        return None
    recipe = " | ".join(sorted({request.sequence.plan.text for request in requests}))
    tokens = sum(len(request.sequence) for request in requests)
    return Load(recipe, len(requests), tokens.bit_length())


def _settle(
    request: Request, proposed: Tree, tree: Tree, logits: Tensor, block: Block
) -> list[int]:
    """Verifies and commits one row; returns its new tokens. proposed: the tree before pruning."""
    sequence = request.sequence
    accepted, token = _verified(request, tree, logits)
    new = [tree.tokens[node] for node in accepted[1:]] + [token]
    taken = request.emit(new)
    # A stop inside an accepted run: what comes after it was never said, here or in the cache.
    accepted = accepted[: len(taken) + 1]
    request.pending = new[len(accepted) - 1]
    kept = [tree.tokens[node] for node in accepted]
    if sequence.retention_surprise:
        rows = logits[torch.tensor(accepted, device=logits.device)]
        sequence.surprise += token_losses(sequence.last_logits, rows, kept)
        sequence.last_logits = rows[-1].clone()
    sequence.commit(block, kept, accepted)
    request.ledger.drafted += len(tree) - 1
    for node in accepted[1:]:
        source = tree.sources[node]
        request.ledger.accepted[source] = request.ledger.accepted.get(source, 0) + 1
    request.acceptance.learn(proposed, new[: len(accepted)])
    if request.drafters:
        request.learn(tree, logits, accepted)
    return taken


def _verified(request: Request, tree: Tree, logits: Tensor) -> tuple[list[int], int]:
    """Accepted nodes, and the token that follows them."""
    sampler = request.sampler
    if sampler.sampling.plain:
        best = logits.argmax(-1).tolist()
        return verify(tree, lambda node, _: best[node])
    context = request.context()
    length = len(context)

    def choose(node: int, below: list[int]) -> int:
        context[length:] = below
        return sampler.choose(logits[node], context)

    found = verify(tree, choose)
    del context[length:]
    return found


def run(request: Request, policy: LengthPolicy | None = None) -> Iterator[list[int]]:
    """Steps one started request until it is done, yielding its new tokens."""
    while not request.done:
        yield step([request], policy)[0]


def finish(request: Request) -> Ledger:
    """Closes the books of a request."""
    request.each_drafter(lambda drafter: drafter.finish())
    sequence, ledger = request.sequence, request.ledger
    sequence.note_peak()
    ledger.kv_bytes, ledger.kv_peak_bytes = sequence.nbytes(), sequence.peak_bytes
    return ledger


def begin(
    sequence: Sequence, sampling: Sampling, max_new_tokens: int, stop_ids: Seq[int]
) -> Request:
    """A request over a sequence whose prompt has been read."""
    drafters = [drafter for make in sequence.plan.drafters if (drafter := make()) is not None]
    return Request(
        sequence, Sampler(sampling), max_new_tokens, frozenset(stop_ids), drafters=drafters
    )


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
