"""One sequence being generated: who guesses for it, what it has said, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field

from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise.engine.decoding_mode import DecodingMode
from lengthwise.engine.guard import accepted_by, left_out
from lengthwise.engine.kv_cache.held import Held, held_bytes
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.logprobs import TokenLogprob, logprobs_of
from lengthwise.engine.next_token_law import asked, title
from lengthwise.engine.plan import FULL, Plan, whole
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_length import LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.ranking import capped
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless, Verifier
from lengthwise.engine.token_view import TokenView
from lengthwise.errors import ConstraintError, LengthwiseError, NotFinite, OutOfMemory

# What ends one request, and no other, and how it is called where a text ended.
Failure = NotFinite | OutOfMemory | ConstraintError
ENDS: dict[type[Failure], str] = {
    NotFinite: "not_finite", OutOfMemory: "out_of_memory", ConstraintError: "constraint",
}  # fmt: skip


@dataclass(frozen=True)
class Verification:
    """What became of a row's guesses.

    tree: what was verified; proposed: the tree before pruning. logits `[nodes, vocab]`. accepted:
    nodes, root first; new: their tokens and the one that follows; taken: of these, what counts.
    states: the hidden states `[nodes, hidden]` the logits were read from, where they are wanted.
    """

    tree: Tree
    proposed: Tree
    logits: Tensor
    accepted: list[int]
    new: list[int]
    taken: list[int]
    states: Tensor | None = None


@dataclass
class Request:
    """One sequence being generated.

    pending: the newest token, chosen but not yet processed. asked: who guessed in this step (the id
    of the object), how many levels, in how many seconds. right: who guessed the newest tokens, as
    far as they were guessed. plan: of the recipe. mode: what writes in place of choosing tokens one
    by one. stopped: the stop id that ended it, which is no part of the output. cramped: steps in
    which what is kept changes with the next token already, so that no guess may follow it. failed:
    why there is no next token; what was said before it stays. lost_policy: the length policy
    failed, and the model's own goes on. wanted_logprobs: of how many of the likeliest tokens
    `logprobs` tells at each token of the output; None where nobody asked for any. peak_bytes: the
    most that it was seen to hold together with its drafters.
    """

    sequence: Sequence
    sampler: Sampler
    max_new_tokens: int
    stop_ids: frozenset[int]
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    output: list[int] = field(default_factory=list)
    pending: int = -1
    drafters: list[Drafter] = field(default_factory=list)
    acceptance: Acceptance = field(default_factory=Acceptance)
    verifier: Verifier = field(default_factory=Lossless)
    asked: dict[int, tuple[int, float]] = field(default_factory=dict)
    right: list[str] = field(default_factory=list)
    mode: DecodingMode | None = None
    plan: Plan = FULL
    stopped: int | None = None
    cramped: int = 0
    failed: Failure | None = None
    lost_policy: bool = False
    wanted_logprobs: int | None = None
    peak_bytes: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)
    _context: list[int] = field(default_factory=list)

    @property
    def wants_states(self) -> bool:
        """Whether a drafter or a law reads the target's hidden states."""
        by_laws = any(law.wants_states for law in self.sampler.laws)
        return by_laws or any(drafter.wants_states for drafter in self.drafters)

    def add_step(
        self, decoded: int, seconds: float, verify_s: float = 0.0, draft_s: float = 0.0
    ) -> None:
        """One forward of the loop, and how many tokens it gave."""
        metrics = self.metrics
        metrics.decoded += decoded
        metrics.steps += 1
        metrics.decode_s += seconds
        metrics.verify_s += verify_s
        metrics.draft_s += draft_s

    @property
    def sequences(self) -> list[Held]:
        """All that hold entries for it: its own, and those of a mode, of laws and of drafters."""
        found: list[Held] = [self.sequence, *(self.mode.held() if self.mode is not None else ())]
        found += [each for law in self.sampler.laws for each in law.held()]
        self.each_drafter(lambda drafter: found.extend(drafter.held()))
        return found

    @property
    def done(self) -> bool:
        return bool(self.metrics.finish_reason)

    def policy(self, given: LengthPolicy | None) -> LengthPolicy | None:
        """That of the next step: the one given, else the recipe's. None is the model's own."""
        if self.lost_policy:
            return None
        return given if given is not None else self.plan.policy

    def fail(self, error: Failure) -> None:
        """Ends the request, and no other: its logits are no numbers, memory ran out, or a
        constraint leaves nothing."""
        self.failed = error
        self.metrics.finish_reason = next(
            reason for kind, reason in ENDS.items() if isinstance(error, kind)
        )
        self.sequence.discard()

    def emit(
        self, tokens: Seq[int], logits: Tensor | None = None, rows: Seq[int] | None = None
    ) -> list[int]:
        """Takes new tokens up to a stop; returns those that count. logits `[n, vocab]`: which chose
        them, one a token, or those of some rows."""
        taken: list[int] = []
        steering = self.sampler.steering
        for token in tokens:
            if token in self.stop_ids:
                self.metrics.finish_reason = "stop"
                self.stopped = token
                break
            taken.append(token)
            self.output.append(token)
            if steering is not None and steering.stops(self.output, self.sequence.model.device):
                self.metrics.finish_reason = "stop"
                break
            if self.sampler.ends(self.output):
                self.metrics.finish_reason = "stop"
                break
            if len(self.output) >= self.max_new_tokens:
                self.metrics.finish_reason = "length"
                break
        if self.wanted_logprobs is not None and logits is not None:
            logits = logits if rows is None else logits[list(rows)]
            self.logprobs += logprobs_of(logits, taken, self.wanted_logprobs)
        return taken

    def cut(self, new: int, kept: int) -> None:
        """Of the `new` newest tokens the first `kept` count: a stop string ended there."""
        if kept == new:
            return
        del self.output[kept - new :]
        del self.logprobs[len(self.output) :]
        if self.mode is None:
            self.metrics.decoded -= new - kept
            for source in self.right[kept:]:
                self.metrics.accepted[source] -= 1

    def take_best(self, mode: DecodingMode) -> list[int]:
        """Takes the best text of a mode that is done, as new tokens; nothing before that."""
        if not mode.done:
            return []
        best = mode.alternatives()[0]
        self.output = list(best.tokens)
        self.metrics.finish_reason = "stop" if best.ended else "length"
        return self.output

    def context(self) -> list[int]:
        """Committed tokens and the pending one: one list that grows, so that a step copies none."""
        # No more of it is used than is committed: a walk that failed may have left some behind.
        known = min(max(0, len(self._context) - 1), len(self.sequence))
        self._context[known:] = [*self.sequence.tokens_from(known), self.pending]
        return self._context

    @property
    def drawing(self) -> bool:
        """Whether somebody who guesses draws."""
        return any(drafter.drawing for drafter in self.drafters)

    def tree(self, policy: LengthPolicy, load: Load | None, drawing: bool = False) -> Tree:
        """The pending token and all guesses below it, for the policy to choose from.

        drawing: somebody draws in a request that is stepped together with this one.
        """
        tree = Tree(self.pending, drawing or self.drawing)
        self.asked.clear()
        rooms = [self.sequence.tokens_until_change(), self.sequence.max_block()]
        room = min((room for room in rooms if room is not None), default=self.max_new_tokens)
        self.cramped += room <= 1
        limit = min(self.max_new_tokens - len(self.output), room) - 1
        if limit <= 0 or load is None:
            return tree
        context, model = TokenView(self.context()), self.sequence.model
        for drafter in sorted(self.drafters, key=_turn):
            begin = policy.clock()
            draft_depth = policy.draft_depth(load, drafter, tree, self.acceptance, limit)
            if draft_depth is None:
                continue
            before, tree.author = len(tree), drafter.name
            failed: Exception | None = None
            try:
                drafter.draft_depth = draft_depth
                with drafter.lock:
                    drafter.propose(context, tree, limit)
            except Exception as error:
                failed = error
            try:
                # Who fails after drawing may fail because of what was drawn, which therefore stays.
                if len(tree) > before or tree.draws:
                    _check_guesses(tree, before, limit, model.vocab_size)
            except Exception as error:
                tree = tree.keep(range(before))
                failed = failed or error
            tree.author = ""
            tree = capped(tree, before, self.acceptance)
            if failed is not None:
                self.drop(drafter, failed)
            else:
                self.asked[id(drafter)] = draft_depth.levels, policy.clock() - begin
        return tree

    def learn(self, verification: Verification, policy: LengthPolicy, load: Load) -> None:
        """Shows every drafter, and the policy, what became of the guesses."""
        context, tree = TokenView(self.context()), verification.tree
        self.acceptance.learn(verification.proposed, verification.new)
        won = Counter(tree.sources[node] for node in verification.accepted[1:])

        def tell(drafter: Drafter) -> None:
            begin = policy.clock()
            drafter.states = verification.states if drafter.wants_states else None
            drafter.learn(context, tree, verification.logits, verification.accepted)
            if id(drafter) in self.asked:
                levels, seconds = self.asked[id(drafter)]
                policy.drafted(load, drafter, levels, seconds + policy.clock() - begin)
                policy.gained(load, drafter, won[drafter.name])

        self.each_drafter(tell)

    def begin_drafters(self) -> None:
        """The prompt has been read, and nothing of it is dropped or encoded yet."""
        held: list[Held] = [self.sequence]

        def tell(drafter: Drafter) -> None:
            drafter.begin(self.sequence, self.sampler.sampling)
            # Asked of all drafters at every step, outside of their turns.
            _ = bool(drafter.drawing)
            own = list(drafter.held())
            held.extend(own)
            # What it keeps less of by now was whole while it began.
            caches = [each for each in own if isinstance(each, Sequence)]
            cut = sum(max(0, each.peak_bytes - each.nbytes()) for each in caches)
            self.peak_bytes = max(self.peak_bytes, held_bytes(held) + cut)

        self.each_drafter(tell)

    def begin_laws(self) -> None:
        """The prompt has been read, and nothing is written yet."""
        sampler, sequence = self.sampler, self.sequence
        sampler.state = sequence.noted[-1][-1] if sequence.noted else None
        sequence.noted = None
        sampler.prompt, sampler.stop_ids = len(sequence), self.stop_ids
        stop_ids = sorted(self.stop_ids)
        for law in sampler.laws:
            given = sequence, sampler.sampling, self.max_new_tokens, stop_ids
            asked(law, law.begin, *given)

    def each_drafter(self, tell: Callable[[Drafter], None]) -> None:
        """Tells every drafter something; one that fails is left out."""
        for drafter in list(self.drafters):
            try:
                with drafter.lock:
                    tell(drafter)
            except Exception as error:
                self.drop(drafter, error)

    def finish(self) -> None:
        """The request is over: drafters put away what they keep, and say what the user has to know.

        One that cannot keep something has done its work all the same.
        """
        for law in self.sampler.laws:
            try:
                law.finish(self.output)
                self.metrics.notes += law.notes
                self.metrics.figures |= law.figures
            except Exception as error:
                # The text is whole, and was written under it.
                self.metrics.notes.append(f"{title(law)} failed at the end: {first_line(error)}")
        if self.mode is not None:
            self.metrics.figures |= self.mode.figures
        for drafter in self.drafters:
            try:
                with drafter.lock:
                    drafter.finish()
            except Exception as error:
                self.metrics.notes.append(
                    f"{drafter.name} could not keep something: {first_line(error)}"
                )
        for drafter in list(self.drafters):
            try:
                self.metrics.notes += [str(note) for note in drafter.notes]
            except Exception as error:
                self.drop(drafter, error)
        if self.drafters and self.metrics.steps and self.cramped >= self.metrics.steps:
            names = " and ".join(drafter.name for drafter in self.drafters)
            self.metrics.notes.append(
                f"{names} guessed nothing: what the recipe keeps changes with every token, which "
                "leaves no room for guesses; give it a larger budget, or leave the drafter out"
            )

    def drop(self, drafter: Drafter, error: Exception) -> None:
        """Goes on without a drafter that failed: guesses are a matter of speed alone."""
        # Two drafters may be equal, as two objects of a dataclass are.
        self.drafters[:] = [each for each in self.drafters if each is not drafter]
        self.metrics.notes.append(left_out(f"drafter {drafter.name}", error))

    def drop_policy(self, policy: LengthPolicy, error: Exception) -> None:
        """Goes on with the model's own length policy in place of one that failed."""
        self.lost_policy = True
        self.metrics.notes.append(left_out(f"length policy {type(policy).__name__}", error))

    def walk(self, tree: Tree, logits: Tensor) -> tuple[list[int], int]:
        """What is accepted of a tree, root first, and the token after it, as `Verifier.walk`.

        A verifier that fails is left out, and the lossless one goes on.
        """
        if type(self.verifier) is not Lossless:
            try:
                found = self.verifier.walk(tree, logits, self.sampler, self.context())
                return accepted_by(found, tree, logits.shape[-1])
            except NotFinite:
                raise
            except Exception as error:
                name = type(self.verifier).__name__
                self.metrics.notes.append(left_out(f"verifier {name}", error))
                self.verifier = Lossless()
                # It may have left anything there.
                self._context.clear()
        return self.verifier.walk(tree, logits, self.sampler, self.context())


def _turn(drafter: Drafter) -> tuple[bool, bool]:
    """The place of a drafter among those of a step.

    Who runs a model comes last, to be asked only where free guesses leave something to gain. Of
    these, who draws comes first: whether a draw is made must not depend on the noise of the
    target's own choice, which a drafter of somebody else's may give away (see `Tree.drawing`).
    """
    return drafter.runs_model, drafter.runs_model and not drafter.drawing


def _check_guesses(tree: Tree, before: int, limit: int, vocab_size: int) -> None:
    """Raises where the nodes from `before` on cannot be fed to the model, ranked or verified."""
    for probs in (group.probs for groups in tree.draws.values() for group in groups):
        if probs.shape != (vocab_size,):
            raise LengthwiseError(
                f"it drew from probabilities of shape {list(probs.shape)} for a vocabulary of "
                f"{vocab_size}"
            )
    fields = (tree.tokens, tree.depths, tree.priors, tree.buckets)
    for token, depth, prior, bucket in zip(*(each[before:] for each in fields), strict=True):
        if type(bucket) is not int and not hasattr(bucket, "__index__"):
            raise LengthwiseError(f"it gave a guess the bucket {bucket!r}, no whole number")
        # Not a number is neither.
        if not 0 <= prior <= 1:
            raise LengthwiseError(f"it gave a guess the probability {prior}, and allowed is 0 to 1")
        if not 0 <= token < vocab_size:
            raise LengthwiseError(f"it guessed token {token} of a vocabulary of {vocab_size}")
        if depth > limit:
            raise LengthwiseError(f"it guessed {depth} tokens ahead where {limit} were allowed")


def load_of(requests: Seq[Request]) -> Load | None:
    """What the time of a step of these requests depends on; None where nobody drafts."""
    if not any(request.drafters for request in requests):
        return None
    recipe = " | ".join(sorted({whole(request.sequence.plan).learned_as for request in requests}))
    tokens = sum(len(request.sequence) for request in requests)
    return Load(recipe, len(requests), tokens.bit_length())
