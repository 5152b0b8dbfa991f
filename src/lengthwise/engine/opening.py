"""A request is opened over a sequence, with who guesses for it, and its books are closed."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lengthwise.engine.guard import start_drafters, start_verifier
from lengthwise.engine.kv_cache.held import held_bytes
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import whole
from lengthwise.engine.reach import note_beyond
from lengthwise.engine.request import Request
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_length import policy_for
from lengthwise.engine.speculative.forced_drafter import forced_drafters
from lengthwise.engine.speculative.verification import Lossless
from lengthwise.engine.steering import Steering
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.models.rules import own_rules

# Why a request ended that somebody broke off.
CANCELLED = "cancelled"


def finish(request: Request) -> RequestMetrics:
    """Closes the books of a request. Of one that was broken off only what it holds is counted: what
    drafters do at the end may take long, and its notes are of whole texts."""
    metrics = request.metrics
    if metrics.finish_reason != CANCELLED:
        request.finish()
        _note(request)
    sequence = request.sequence
    sequence.note_peak()
    held = held_bytes(request.sequences)
    metrics.kv_bytes = held
    metrics.kv_peak_bytes = max(held, sequence.peak_bytes, request.peak_bytes)
    metrics.kv_offloaded_bytes = sum(
        group.far.offloaded for each in request.sequences for _, group in each.groups()
    )
    return metrics


def _note(request: Request) -> None:
    """What the user has to know of a text that is whole."""
    sequence, metrics = request.sequence, request.metrics
    if sequence.plan.drops and not sequence.dropped():
        metrics.notes.append(
            f"nothing was dropped: all of these {len(sequence):,} tokens are within what the "
            "recipe keeps"
        )
    if sequence.lossy:
        metrics.notes.append(lossy_note(sequence))
    if (note := note_beyond(sequence)) is not None:
        metrics.notes.append(note)
    metrics.notes += [
        f"this model has other rotary frequencies beyond {length:,} tokens: they were read again"
        for length in sequence.read_again
    ]


def lossy_note(sequence: Sequence) -> str:
    """What is to be said of a sequence that came through a lossy file.

    Args:
        sequence: that did.
    """
    return f"keys and values came through {sequence.lossy}, which changed them a little"


def begin(
    sequence: Sequence, sampling: Sampling, max_new_tokens: int, stop_ids: Seq[int],
    steering: Steering | None = None, row: tuple[int, int] = (0, 1),
) -> Request:  # fmt: skip
    """A request over a sequence, before or after it has read its prompt.

    steering: processors and criteria in place of the sampling's own. row: which prompt of how many.
    """
    plan = whole(sequence.plan)
    drafters, notes = start_drafters(plan.drafters)
    verifier, more = start_verifier(plan.verifier)
    sequence.remember(max((drafter.remember for drafter in drafters), default=0))
    laws = [law for law in (make() for make in plan.laws) if law is not None]
    readers = [drafter for drafter in drafters if drafter.wants_states]
    if (readers and not len(sequence)) or any(law.wants_states for law in laws):
        # Laws want the state of the last token alone.
        sequence.noted, sequence.notes_last = [], all(each.last_state for each in readers)
    if sampling.temperature == 0 and any(law.draws for law in laws):
        raise LengthwiseError(
            f"{plan.text} corrects what is drawn, and temperature=0 draws nothing: give "
            "temperature=1 or so"
        )
    for law in laws:
        law.check(sampling)
    if drafters:
        drafters += forced_drafters(laws)
    sampler = Sampler(sampling, steering=steering, row=row, laws=laws)
    mode = plan.mode() if plan.mode else None
    if mode is not None:
        if plan.first_token is not None:
            raise Refused(
                f"{plan.text} ranks whole texts, and how an answer begins is given for one",
                "leave out the method that gives it, or the one that writes several texts",
            )
        steered = steering is not None and (steering.processors or steering.criteria)
        if steered or (mode.mixes and own_rules(sequence.model, 0, max_new_tokens)):
            raise Refused(
                f"{plan.text} ranks whole texts, and logits processors, suppressed tokens and "
                "stopping criteria look at one",
                "leave them out, or leave out the method that writes several texts",
            )
        mode.begin(sampler, max_new_tokens, frozenset(stop_ids))
    before = policy_for(sequence.model).population(plan.learned_as) if drafters else None
    return Request(
        sequence, sampler, max_new_tokens,
        frozenset(stop_ids), drafters=drafters, acceptance=Acceptance(before),
        plan=plan, verifier=verifier or Lossless(), mode=mode,
        metrics=RequestMetrics(notes=[*notes, *more]),
    )  # fmt: skip
