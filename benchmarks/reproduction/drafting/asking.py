"""What checks of drafters that ask a model share: tokens a round behind prompts of several kinds.

Float32, greedy, everything guessed is verified, every text that of plain decoding; guesses are
counted, no time is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.reproduction.drafting.prose import HEAD, NEXT, PASSAGE
from benchmarks.reproduction.harness import Row, encode, load

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence as Context
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.models.adapted_model import AdaptedModel

NEW = 32
KINDS = {
    "rewrite": "Rewrite this text in the past tense: " + PASSAGE[:160],
    "facts": "List five facts about the sea.",
    "question": "What is the capital of France?",
}

COLUMNS = dict.fromkeys(KINDS, ".2f")

Ids = list[int]
Starter = Callable[[], Drafter]


def adapted() -> AdaptedModel:
    """The embedded model in float32, with its tokenizer."""
    return load("float32").adapted


def chat(text: str) -> Ids:
    """A user's turn, without the template's system turn."""
    return encode(load("float32"), f"{HEAD}{text}{NEXT}")


def rounds(base: Context, suffix: Ids, starter: Starter | None, new: int = NEW) -> Request:
    """A greedy request behind what the base has read."""
    sequence = base.fork(Plan(drafters=() if starter is None else (starter,)))
    request = loop.begin(sequence, Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, suffix))
    for _ in loop.run(request, Fixed()):
        pass
    return request


def compare(
    base: Context, suffixes: dict[str, Ids], starters: dict[str, Starter], new: int = NEW
) -> Iterator[tuple[str, Row]]:
    """Tokens a round (guesses, of those right) of each drafter, by kind. Raises RuntimeError where
    a text is not that of plain decoding, or a drafter has something to say."""
    plain = {kind: rounds(base, suffix, None, new).output for kind, suffix in suffixes.items()}
    for name, starter in starters.items():
        row: Row = {}
        for kind, suffix in suffixes.items():
            request = rounds(base, suffix, starter, new)
            if request.output != plain[kind] or request.metrics.notes:
                raise RuntimeError(f"{name}, {kind}: another text, or {request.metrics.notes}")
            row[kind] = {
                "tokens a round": round(request.metrics.accepted_per_step, 2),
                "guesses": request.metrics.drafted,
                "right": sum(request.metrics.accepted.values()),
            }
        yield name, row


def of_kinds(starters: dict[str, Starter], new: int = NEW) -> Iterator[tuple[str, Row]]:
    """The comparison behind the prompts of KINDS."""
    suffixes = {kind: chat(text)[1:] for kind, text in KINDS.items()}
    base = Context(adapted(), Plan())
    loop.prefill(base, chat("")[:1])
    return compare(base, suffixes, starters, new)
