"""The one loop: prefill in chunks, then draft, verify and commit until something says stop.

Everything goes through `extend`, one forward of new tokens for any number of sequences. Where
nobody drafts a step is one token for each, without a tree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence as Seq
from contextlib import nullcontext
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from lengthwise.engine.beside import Beside
from lengthwise.engine.chunks import CHUNK, chunk_of
from lengthwise.engine.decoding_mode import embedded
from lengthwise.engine.guard import GuardedPolicy, require_draws
from lengthwise.engine.kernels.choice import using
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.kv_cache.together import attention_of
from lengthwise.engine.losses import Losses, note_token_nll, predicting_rows, token_losses
from lengthwise.engine.opening import begin, finish
from lengthwise.engine.request import Request, Verification, load_of
from lengthwise.engine.shortage import lose_row, lose_step
from lengthwise.engine.speculative.draft_length import LengthPolicy, policy_for
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.static.graphs import VARIABLE, Served, serve
from lengthwise.engine.verifying import verify_row
from lengthwise.errors import LengthwiseError, NotFinite
from lengthwise.models.adapted_model import LayerAttention
from lengthwise.models.limits import require_positions
from lengthwise.models.rules import own_rules

Progress = Callable[[int], None]


@torch.no_grad()
def extend(
    items: Seq[tuple[Sequence, Seq[int], Tree | None]],
    keep: str | Tensor | Seq[str] = "last",
    states: list[Tensor] | None = None,
    embeddings: Tensor | None = None,
) -> tuple[list[Tensor], list[StepMetadata]]:
    """One forward of new tokens for several sequences (all of one model).

    keep: whose logits are wanted: "all", each sequence's "last", "none", one of these for each, or
    int64 indices (of one sequence). states: a list that is given the hidden states
    `[kept of all, hidden]` those logits were read from. embeddings: `[all new tokens, hidden]`, fed
    instead of the tokens' own (see `AdaptedModel.embed`). Returns per sequence its logits
    `[kept, vocab]` and the metadata to commit.
    """
    model = items[0][0].model
    for sequence, tokens, tree in items:
        ahead = len(tokens) if tree is None else tree.height
        if sequence.position_limit is not None:
            require_positions(model, len(sequence) + ahead)
        follow_model(sequence, ahead)
    steps = [sequence.next_step(len(tokens), tree) for sequence, tokens, tree in items]
    counts = [len(metadata.index) for metadata in steps]
    device = model.device
    ids = torch.tensor([t for _, tokens, _ in items for t in tokens], device=device)

    attention: LayerAttention = (
        partial(items[0][0].attend, metadata=steps[0])
        if len(items) == 1
        else attention_of([sequence for sequence, _, _ in items], steps)
    )
    kept, wanted = counts, None
    if isinstance(keep, Tensor):
        kept, wanted = [len(keep)], keep
    elif keep != "all":
        which = [keep] * len(items) if isinstance(keep, str) else keep
        kept = [{"all": n, "last": 1, "none": 0}[k] for k, n in zip(which, counts, strict=True)]
        wanted = torch.tensor(_ends(counts, kept) or [0], device=device)
    positions = torch.cat([metadata.index for metadata in steps])
    with nullcontext() if model.kernel is None else using(model.kernel):
        logits = model.forward(ids, positions, attention, wanted, states, embeddings)
    return list(logits[: sum(kept)].split(kept)), steps


def _ends(counts: Seq[int], kept: Seq[int]) -> list[int]:
    """Indices of the last `kept` of each run of `counts` tokens."""
    ends = accumulate(counts)
    return [n for end, own in zip(ends, kept, strict=True) for n in range(end - own, end)]


def follow_model(sequence: Sequence, ahead: int) -> None:
    """Reads a sequence again where its model has other frequencies for texts longer than it was.

    It is called before `ahead` more tokens. What deeper layers kept depends on the frequencies that
    earlier ones had, so keys that are turned would not do. What the plan deletes or encodes at the
    end of a prompt, it does again.
    """
    phase = sequence.phase(ahead)
    if phase == sequence.read_with or not len(sequence):
        sequence.read_with = phase
        return
    new = sequence.empty()
    new.reading = len(sequence) + ahead
    new.read_with = phase
    prefill(new, sequence.tokens)
    if sequence.prompt_length is not None:
        new.end_prefill()
    new.reading = sequence.reading
    new.read_again = [*sequence.read_again, len(sequence)]
    sequence.become(new)


def prefill(
    sequence: Sequence,
    tokens: Seq[int],
    chunk: int | None = None,
    progress: Progress | None = None,
    losses: Losses | None = None,
    embeddings: Tensor | None = None,
) -> Tensor:
    """Reads tokens in chunks; returns the logits `[vocab]` after the last one. Does not end the
    prompt: see `Sequence.end_prefill`.

    Args:
        chunk: tokens of a forward; None leaves it to the device.
        progress: called with the number of tokens of each chunk.
        losses: receives -log p of the tokens it asks for.
        embeddings: `[tokens, hidden]`, fed instead of the tokens' own (see `AdaptedModel.embed`).

    Raises:
        Refused: where the model has no positions for as many.
        NotFinite: for losses that are no numbers.
    """
    if not tokens:
        raise LengthwiseError("the prompt has no tokens; give at least one")
    sequence.reading = max(sequence.reading, len(sequence) + len(tokens))
    # The last token that is expected is said, and not read.
    require_positions(sequence.model, max(sequence.reading, sequence.expected - 1))
    every = 1 if sequence.wants_token_nll else losses.every if losses is not None else 0
    whole = sequence.noted is not None and not sequence.notes_last
    chunk = chunk or chunk_of(sequence.model.device, every > 0 or whole)
    step = max(1, min(chunk, sequence.max_block() or chunk))
    for start in range(0, len(tokens), step):
        part = list(tokens[start : start + step])
        fed = None if embeddings is None else embeddings[start : start + step]
        rows = predicting_rows(len(part), every, len(sequence)).to(sequence.model.device)
        keep: str | Tensor = "all" if whole else rows
        (logits,), (metadata,) = extend([(sequence, part, None)], keep, sequence.noted, fed)
        logits = logits[rows] if whole else logits
        if sequence.noted and not whole:
            sequence.noted[:] = [sequence.noted[-1][-1:]]
        if every:
            found = token_losses(sequence.last_logits, logits, part, every, len(sequence))
            if sequence.wants_token_nll:
                sequence.token_nll += found
            if losses is not None:
                losses.add(len(sequence), found, every)
                losses.tell(sequence.last_logits, logits, part)
        sequence.commit(metadata, part)
        sequence.last_logits = logits[-1].clone()
        if progress is not None:
            progress(len(part))
    assert sequence.last_logits is not None
    return sequence.last_logits


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def start(request: Request, logits: Tensor) -> list[int]:
    """Ends the prompt and chooses the first token from the logits `[vocab]` after it."""
    sequence, sampler = request.sequence, request.sampler
    if request.mode is not None:
        sampler.require(float(logits.max()), len(sequence), logits)
        if not request.mode.mixes:
            sampler.obey(own_rules(sequence.model, len(sequence), request.max_new_tokens))
        request.sequence.end_prefill()
        request.begin_laws()
        request.mode.start(request.sequence, logits)
        return request.take_best(request.mode)
    if sampler.steering is None:
        sampler.obey(own_rules(sequence.model, len(sequence), request.max_new_tokens))
    request.begin_drafters()
    request.sequence.end_prefill()
    request.begin_laws()
    given = request.plan.first_token
    request.pending = sampler.choose(logits, sequence.tokens) if given is None else given
    return request.emit([request.pending], logits[None])


def step(
    requests: Seq[Request], policy: LengthPolicy | None = None, apart: bool = False,
    beside: Beside | None = None,
) -> list[list[int]]:  # fmt: skip
    """One draft-verify-commit round for all requests; returns the new tokens of each.

    policy: how much is guessed and verified; None is the recipe's, or the model's goodput policy.
    Requests may have recipes of their own. Those with a mode feed one input each, and those with a
    policy of their own verify what it chooses, in a forward of their own. A request with a mode
    gives all its tokens when it is done. apart: a request whose logits are no numbers ends alone,
    see `Request.failed`; otherwise NotFinite is raised. beside: read in the same forward, where
    there is one for it; it says whether it was.
    """
    groups: dict[object, list[Request]] = {}
    for request in requests:
        own = "mode" if request.mode is not None else id(request.policy(policy))
        groups.setdefault(own, []).append(request)
    found: dict[int, list[int]] = {}
    for key, group in groups.items():
        try:
            new = _write(group) if key == "mode" else _round(group, policy, beside)
        except Exception as error:
            new = lose_step(group, error)
        found |= zip(map(id, group), new, strict=True)
    if failed := [r.failed for r in requests if r.failed is not None and not apart]:
        raise failed[0]
    return [found[id(request)] for request in requests]


def _write(requests: Seq[Request]) -> list[list[int]]:
    """Feeds what each request's mode wants fed, in one forward."""
    begin = time.perf_counter()
    modes = [request.mode for request in requests if request.mode is not None]
    wanted = [mode.step_inputs() for mode in modes]
    flat = [each for own in wanted for each in own]
    items = [(each.sequence, [each.token], None) for each in flat]
    rows = zip(*extend(items, embeddings=embedded(flat)), strict=True)
    for request, mode, own in zip(requests, modes, wanted, strict=True):
        found = [next(rows) for _ in own]
        try:
            for (logits, metadata), each in zip(found, own, strict=True):
                sequence, tokens = each.sequence, [each.token]
                request.sampler.require(float(logits.max()), len(sequence) + 1, logits)
                if sequence.wants_token_nll:
                    note_token_nll(sequence, logits, tokens)
                sequence.commit(metadata, tokens)
            mode.advance([logits[-1] for logits, _ in found])
        except Exception as error:
            lose_row(request, error)
    synchronize(requests[0].sequence.model.device)
    seconds = time.perf_counter() - begin
    for request in requests:
        request.add_step(1, seconds)
    return [
        [] if request.failed is not None else request.take_best(mode)
        for request, mode in zip(requests, modes, strict=True)
    ]


def _forward(
    requests: Seq[Request], tokens: Seq[Seq[int]], trees: Seq[Tree] | None = None,
    states: list[Tensor] | None = None, beside: Beside | None = None,
) -> Served:  # fmt: skip
    """One forward of pending tokens, or of trees below them: a static step where that serves."""
    sequences = [request.sequence for request in requests]
    every: Seq[Tree | None] = trees or [None] * len(requests)
    rows = list(zip(sequences, tokens, every, strict=True))
    found = None if beside is None else beside.join(rows, states, extend)
    if found is not None:
        return Served(*found, [None] * len(requests), settled=False)
    if sequences[0].model.device.type == "cuda" or VARIABLE in os.environ:
        served = serve(sequences, tokens, trees, states)
        if served is not None:
            return served
    logits, steps = extend(rows, "all", states)
    return Served(logits, steps, [None] * len(requests))


def _plain(requests: Seq[Request], beside: Beside | None) -> list[list[int]]:
    """`step` where nobody drafts: one token for each request."""
    begin = time.perf_counter()
    found: list[Tensor] | None = [] if any(r.wants_states for r in requests) else None
    served = _forward(requests, [[r.pending] for r in requests], None, found, beside)
    taken: list[list[int]] = []
    states: Seq[Tensor | None] = [*found[0]] if found else [None] * len(requests)
    rows = zip(requests, served.logits, served.steps, served.best, states, strict=True)
    for request, logits, metadata, best, state in rows:
        sequence, pending, said = request.sequence, request.pending, len(request.output)
        try:
            request.sampler.state = state
            token = request.sampler.choose(logits[0], request.context(), best)
            request.right = []
            request.emit([token], logits)
            request.pending = token
            if sequence.wants_token_nll:
                note_token_nll(sequence, logits, [pending])
            sequence.commit(metadata, [pending])
        except Exception as error:
            lose_row(request, error)
        taken.append(request.output[said:])
    synchronize(requests[0].sequence.model.device)
    seconds = time.perf_counter() - begin
    for request, tokens in zip(requests, taken, strict=True):
        request.add_step(len(tokens) + (request.stopped is not None), seconds, seconds)
    return taken


def _score(
    request: Request, tree: Tree, wants_states: bool
) -> tuple[Tensor, StepMetadata, Tensor | None]:
    """One row's tree by itself: its logits, what to commit, and hidden states where wanted."""
    found: list[Tensor] | None = [] if wants_states else None
    (logits,), (metadata,) = extend([(request.sequence, tree.tokens, tree)], "all", found)
    return logits, metadata, found[0] if found else None


def _round(
    requests: Seq[Request], policy: LengthPolicy | None, beside: Beside | None
) -> list[list[int]]:
    """`step` for requests without a mode, of which some draft."""
    load = load_of(requests)
    if load is None:
        return _plain(requests, beside)
    begin = time.perf_counter()
    model = requests[0].sequence.model
    given = requests[0].policy(policy)
    guarded = None if given is None else GuardedPolicy(given)
    policy = guarded or policy_for(model)
    # Rows of one seed share noise, and the policy weighs guesses of one against those of another.
    drawing = any(request.drawing for request in requests)
    proposed = [request.tree(policy, load, drawing) for request in requests]
    trees = policy.choose(load, proposed, [r.acceptance for r in requests])
    require_draws(given or policy, proposed, trees)
    verify_begin, verifying = time.perf_counter(), policy.clock()
    found: list[Tensor] | None = [] if any(r.wants_states for r in requests) else None
    served = _forward(requests, [tree.tokens for tree in trees], trees, found, beside)
    states = found[0].split([len(tree) for tree in trees]) if found else [None] * len(trees)
    said = [len(request.output) for request in requests]
    verifications: list[Verification | None] = []
    rows = zip(requests, proposed, trees, served.logits, served.steps, states, strict=True)
    for request, whole, tree, logits, metadata, own in rows:
        try:
            verified = verify_row(request, whole, tree, logits, metadata, own, _score)
            verifications.append(verified)
        except Exception as error:
            lose_row(request, error)
            verifications.append(None)
    synchronize(model.device)
    took = policy.clock() - verifying
    learning = time.perf_counter()
    if served.settled:
        policy.observe(load, sum(map(len, trees)) - len(trees), took)
    for request, verification in zip(requests, verifications, strict=True):
        if verification is not None:
            request.learn(verification, policy, load)
    if guarded is not None and guarded.failed is not None:
        for request in requests:
            request.drop_policy(guarded.policy, guarded.failed)
    end = time.perf_counter()
    taken = [request.output[count:] for request, count in zip(requests, said, strict=True)]
    draft_s = verify_begin - begin + end - learning
    for request, tokens in zip(requests, taken, strict=True):
        # A stop token is no part of the text, but it was decoded like any other.
        decoded = len(tokens) + (request.stopped is not None)
        spent = draft_s if request.drafters else 0.0
        request.add_step(decoded, end - begin, learning - verify_begin, spent)
    return taken


def run(request: Request, policy: LengthPolicy | None = None) -> Iterator[list[int]]:
    """Steps one started request until it is done, yielding its new tokens."""
    while not request.done:
        yield step([request], policy)[0]


def teacher_force(sequence: Sequence, tokens: Seq[int], block: int = 1) -> Tensor:
    """Feeds given tokens and returns the logits `[len(tokens), vocab]` that predicted each of them.

    The sequence must have read something. block 1 is what decoding does; larger blocks are faster
    and let block-wise methods plan once for all of them. Raises NotFinite.
    """
    first = len(sequence)
    assert sequence.last_logits is not None
    found = [sequence.last_logits[None]]
    for start in range(0, len(tokens), block):
        part = list(tokens[start : start + block])
        (logits,), (new,) = extend([(sequence, part, None)], "all")
        if sequence.wants_token_nll:
            note_token_nll(sequence, logits, part)
        sequence.commit(new, part)
        sequence.last_logits = logits[-1].clone()
        found.append(logits)
    logits = torch.cat(found)[: len(tokens)]
    bad = (~logits.amax(-1).isfinite()).nonzero()
    if len(bad):
        dtype = str(logits.dtype).removeprefix("torch.")
        raise NotFinite(first + int(bad[0]), dtype=dtype)
    return logits


__all__ = [
    "CHUNK", "Progress", "begin", "extend", "finish", "follow_model", "prefill", "run", "start",
    "step", "synchronize", "teacher_force",
]  # fmt: skip
