"""Learning rates as pure functions of how far training is: cosine, wsd and power.

Each takes how much is done (`now`) and returns a rate. `now` and everything it is compared with are
in one unit, steps or tokens, whichever the caller counts. `power` counts tokens, since its rule is
one of tokens. A resumed run therefore has the rate it would have had, with no state to restore.

`power` is the Power Scheduler. Shen et al., "Power Scheduler: A Batch Size and Token Number
Agnostic Learning Rate Scheduler", 2024, arXiv:2408.13359.

The authors found the best constant rate for n tokens to be batch * a * n^b. So the rate follows
that with the tokens seen so far, and the end need not be known. The values a = 4, b = -0.51 and the
cap 0.02 hold for models whose widths are scaled by muP. `b` has to be near that, `a` hardly. The
batch is counted in sequences of 4,096 tokens, so a batch of other lengths is rescaled to that.

Where ours differs: widths are not scaled by muP, so `a` is not the paper's for every width. Warm-up
goes to the rule's value at its end and not to the cap. Tokens are those of whole steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lengthwise._utils.papers import Paper
from lengthwise._utils.suggestions import hint
from lengthwise.errors import LengthwiseError

POWER_PAPER = Paper(
    "Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler",
    "Shen et al.",
    2024,
    arxiv="2408.13359",
)
POWER_A = 4.0
POWER_B = -0.51
POWER_PEAK = 0.02
POWER_SEQUENCE = 4096
NAMES = ("cosine", "wsd", "power")
DECAYS = ("linear", "cosine", "exponential")


def cosine(
    now: float, total: float, *, peak: float, warmup: float = 0.0, floor: float = 0.0
) -> float:
    """Linear from 0 to `peak` over `warmup`, then half a cosine to `floor` at `total`."""
    _check(total, warmup, peak, floor)
    if now < warmup:
        return peak * now / warmup
    return floor + (peak - floor) * decay("cosine", (now - warmup) / (total - warmup))


def wsd(
    now: float, total: float, *, peak: float, warmup: float = 0.0, decay_last: float,
    shape: str = "linear", floor: float = 0.0,
) -> float:  # fmt: skip
    """Warm-up, stable, decay: `peak` until `decay_last` before `total`, then down to `floor`."""
    _check(total, warmup + decay_last, peak, floor)
    if now < warmup:
        return peak * now / warmup
    if now <= total - decay_last:
        return peak
    return floor + (peak - floor) * decay(shape, (now - total + decay_last) / decay_last)


def power(
    tokens: float, *, tokens_per_step: float, warmup_tokens: float = 1e9,
    total_tokens: float | None = None, decay_last: float = 0.0, shape: str = "exponential",
    a: float = POWER_A, b: float = POWER_B, peak: float = POWER_PEAK, floor: float = 0.0,
) -> float:  # fmt: skip
    """min(peak, batch * a * tokens^b) after a linear warm-up to its value at `warmup_tokens`.

    With `total_tokens` and `decay_last` the last tokens decay from the value reached to `floor`;
    without, training may go on for ever. Raises LengthwiseError where warm-up and decay overlap.
    """
    if tokens_per_step <= 0 or warmup_tokens <= 0 or b >= 0:
        raise LengthwiseError(
            "power needs tokens_per_step and warmup_tokens above 0 and b below 0; "
            f"got {tokens_per_step:g}, {warmup_tokens:g} and {b:g}"
        )
    batch = tokens_per_step / POWER_SEQUENCE

    def law(at: float) -> float:
        return min(peak, batch * a * math.pow(at, b))

    if tokens < warmup_tokens:
        return law(warmup_tokens) * tokens / warmup_tokens
    if total_tokens is None or decay_last <= 0:
        return law(tokens)
    _check(total_tokens, warmup_tokens + decay_last, peak, floor)
    start = total_tokens - decay_last
    if tokens <= start:
        return law(tokens)
    return floor + (law(start) - floor) * decay(shape, (tokens - start) / decay_last)


def decay(shape: str, progress: float) -> float:
    """From 1 at progress 0 to 0 at progress 1 and after it."""
    p = min(1.0, max(0.0, progress))
    if shape == "linear":
        return 1.0 - p
    if shape == "cosine":
        return (1.0 + math.cos(math.pi * p)) / 2.0
    if shape == "exponential":
        # Shifted so that it ends at 0 and not at 1/e.
        return (math.exp(-p) - math.exp(-1.0)) / (1.0 - math.exp(-1.0))
    raise _unknown("decay", shape, DECAYS)


def learning_rate(
    name: str, *, total_steps: int, tokens_per_step: int, peak: float, warmup_steps: int,
    decay_steps: int = 0, floor: float = 0.0, shape: str | None = None,
) -> Callable[[int], float]:  # fmt: skip
    """The rate of the 0-based step, for one of NAMES. The first step already has a rate above 0.

    peak: highest rate; for `power` the cap. decay_steps: of `wsd` and `power`, the last steps that
    decay. shape: one of DECAYS (default: linear for wsd, exponential for power).
    Raises LengthwiseError for an unknown name, with the nearest one.
    """
    if name not in NAMES:
        raise _unknown("schedule", name, NAMES)
    if name == "cosine" and (decay_steps or shape):
        raise LengthwiseError(
            "cosine decays over the whole run: leave decay_steps and shape out, or choose wsd"
        )

    def rate(step: int) -> float:
        if name == "cosine":
            return cosine(step + 1, total_steps, peak=peak, warmup=warmup_steps, floor=floor)
        if name == "wsd":
            return wsd(step + 1, total_steps, peak=peak, warmup=warmup_steps,
                       decay_last=decay_steps, shape=shape or "linear", floor=floor)  # fmt: skip
        return power(
            (step + 1) * tokens_per_step, tokens_per_step=tokens_per_step,
            warmup_tokens=max(1, warmup_steps) * tokens_per_step,
            total_tokens=total_steps * tokens_per_step, peak=peak, floor=floor,
            decay_last=decay_steps * tokens_per_step, shape=shape or "exponential",
        )  # fmt: skip

    # What is wrong is said before the first step and not at the last.
    rate(0), rate(total_steps - 1)
    return rate


def _check(total: float, taken: float, peak: float, floor: float) -> None:
    if not 0 <= taken < total:
        raise LengthwiseError(
            f"warm-up and decay take {taken:g} of {total:g}: they must leave something between"
        )
    if not 0 <= floor <= peak:
        raise LengthwiseError(f"floor={floor:g} must lie between 0 and peak={peak:g}")


def _unknown(what: str, name: str, known: tuple[str, ...]) -> LengthwiseError:
    return LengthwiseError(f"there is no {what} {name!r}{hint(name, known)}")
