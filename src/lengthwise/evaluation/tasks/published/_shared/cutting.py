"""Documents that are too long lose their middle: the rule of most published long benchmarks."""

from __future__ import annotations

from dataclasses import replace

from lengthwise.evaluation.tasks.benchmark import NoRoom, Sample, Wanted

# How near to the longest prompt that fits the search ends, in characters of each half; of long
# ones it is a thousandth.
_NEAR = 4


def fitted(wanted: Wanted, sample: Sample) -> Sample:
    """The sample, its context without a middle where it is too long.

    As many characters are kept at both ends as fit. Published code cuts token ids of the whole
    prompt; here the question stays whole. `facts["cut_tokens"]` counts what is left out.

    Args:
        wanted: how long a prompt and its reply may be.
        sample: with the whole context.

    Raises:
        NoRoom: where the question alone is too long.
    """
    if wanted.fits(sample):
        return sample
    text = sample.context
    if not wanted.fits(replace(sample, context="")):
        raise NoRoom(
            f"a length of {wanted.length:,} tokens has no room for a question and a reply of "
            f"{sample.most:,}; give more"
        )
    whole = wanted.tokens(text)
    low, high = 0, (len(text) + 1) // 2
    # Tokens are about as many a character everywhere, so the end is near where they say.
    likely = int(high * max(0, wanted.length - sample.most) / max(1, whole))
    near = max(_NEAR, likely // 1000)
    guesses = [int(likely * 0.95), int(likely * 1.05)]
    while high - low > near:
        at = guesses.pop(0) if guesses else (low + high) // 2
        at = min(max(at, low + 1), high - 1)
        fits = wanted.fits(replace(sample, context=_ends(text, at)))
        low, high = (at, high) if fits else (low, at)
    kept = _ends(text, low)
    facts = {**sample.facts, "cut_tokens": max(1, whole - wanted.tokens(kept))}
    return replace(sample, context=kept, facts=facts, own=text)


def _ends(text: str, count: int) -> str:
    """So many characters of both ends."""
    return text[:count] + text[len(text) - count :]


__all__ = ["fitted"]
