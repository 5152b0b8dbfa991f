"""A request is opened over a sequence, with who guesses for it, and its books are closed."""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lengthwise.engine.acceptance import Acceptance
from lengthwise.engine.guard import start_drafters, start_verifier
from lengthwise.engine.policy import policy_for
from lengthwise.engine.reach import note_beyond
from lengthwise.engine.request import Ledger, Request
from lengthwise.engine.sampling import Sampler, Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.engine.steering import Steering
from lengthwise.engine.verify import Lossless
from lengthwise.errors import Refused
from lengthwise.models.rules import own_rules

# Why a request ended that somebody broke off.
CANCELLED = "cancelled"


def finish(request: Request) -> Ledger:
    """Closes the books of a request. Of one that was broken off only what it holds is counted: what
    drafters do at the end may take long, and its notes are of whole texts."""
    ledger = request.ledger
    if ledger.finish_reason != CANCELLED:
        request.finish()
        _note(request)
    sequence = request.sequence
    sequence.note_peak()
    ledger.kv_bytes, ledger.kv_peak_bytes = sequence.nbytes(), sequence.peak_bytes
    ledger.kv_offloaded_bytes = sum(group.far.offloaded for _, group in sequence.groups())
    return ledger


def _note(request: Request) -> None:
    """What the user has to know of a text that is whole."""
    sequence, ledger = request.sequence, request.ledger
    if sequence.plan.drops and not sequence.dropped():
        ledger.notes.append(
            f"nothing was dropped: all of these {len(sequence):,} tokens are within what the "
            "recipe keeps"
        )
    if (note := note_beyond(sequence)) is not None:
        ledger.notes.append(note)
    ledger.notes += [
        f"this model has other rotary frequencies beyond {length:,} tokens: they were read again"
        for length in sequence.read_again
    ]


def begin(
    sequence: Sequence, sampling: Sampling, max_new_tokens: int, stop_ids: Seq[int],
    steering: Steering | None = None, row: tuple[int, int] = (0, 1),
) -> Request:  # fmt: skip
    """A request over a sequence, before or after it has read its prompt.

    steering: processors and criteria in place of the sampling's own. row: which prompt of how many.
    """
    plan = sequence.plan
    drafters, notes = start_drafters(plan.drafters)
    verifier, more = start_verifier(plan.verifier)
    sequence.remember(max((drafter.remember for drafter in drafters), default=0))
    if any(drafter.wants_states for drafter in drafters) and not len(sequence):
        sequence.noted = []
    mode = plan.mode() if plan.mode else None
    if mode is not None:
        steered = steering is not None and (steering.processors or steering.criteria)
        if steered or own_rules(sequence.model, 0, max_new_tokens):
            raise Refused(
                f"{plan.text} ranks whole texts, and logits processors, suppressed tokens and "
                "stopping criteria look at one",
                "leave them out, or leave out superposed",
            )
        mode.begin(sampling, max_new_tokens, frozenset(stop_ids))
    before = policy_for(sequence.model).population(plan.text)
    return Request(
        sequence, Sampler(sampling, steering=steering, row=row), max_new_tokens,
        frozenset(stop_ids), drafters=drafters, acceptance=Acceptance(before),
        verifier=verifier or Lossless(), mode=mode, ledger=Ledger(notes=[*notes, *more]),
    )  # fmt: skip
