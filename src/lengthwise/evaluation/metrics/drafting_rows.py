"""What drafting gave on a kind of work, as rows: runs of many prompts become one line each.

The field names are a contract: they are what `bench drafting --json` prints, one line a row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lengthwise.documents.prompt_files import OWN
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.tasks.work import GROUNDED, SIX

ALL_SIX = "six kinds"
ALL_GROUNDED = "grounded"
ALL_OWN = "all kinds"
BOTH = "both"
_PARTS = ("draft_s", "verify_s")


@dataclass(frozen=True, slots=True)
class Run:
    """One recipe on one prompt (or several at once), once: decoding after the first token
    (transformers: after the first round).

    tokens, of all rows, took `seconds`, of which draft_s for guessing and learning, verify_s for
    the forwards (None: not known). outputs: all new ids of each row, a stop token left out.
    lengths: tokens that each round brought, row by row. accepted: right guesses by drafter. drawn:
    the text was made with noise of its own, so it need not be that of another run.
    """

    tokens: int
    seconds: float
    outputs: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...] = ()
    draft_s: float | None = None
    verify_s: float | None = None
    accepted: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    drawn: bool = False

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def median_run(runs: Sequence[Run]) -> Run:
    """The run of median speed (of two, the slower), so that all figures come from one real run."""
    return sorted(runs, key=lambda run: run.rate)[(len(runs) - 1) // 2]


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a text first differs from that of plain decoding.

    prompt: its kind and name. position: index of the new token. gap: by how much plain decoding's
    likeliest token leads the next one there, in logits: 0 is a tie, and in 16 bits a small gap is
    rounding.
    """

    prompt: str
    position: int
    gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftingRow:
    """One recipe on one kind of work at one context. A field that was not measured is None.

    kind: of `evaluation.tasks.work.KINDS`, or "six kinds" or "grounded" for all of those together
        (all tokens over all seconds). Own prompts have their own kinds, and "all kinds".
    context: "short", "long", or "both" together; "own" for own prompts.
    context_tokens: tokens of a prompt, mean.
    recipe: as it prints itself, or a baseline's name.
    plain: the recipe without its drafters, which it is compared with; "full" for a baseline.
    prompts, rounds, new_tokens: prompts of the row, times each was run, most tokens of an answer.
    batch: prompts decoded at once. temperature: 0 is greedy.
    tables: "cold" when drafters that learn knew nothing at the first prompt of a round, "warm" when
        they had seen all of the suite before.
    tokens: decoded after the first. tokens_per_s: of each prompt the median of its rounds.
    ratio: tokens_per_s over that of `plain`; ratio_low and ratio_high: the lowest and the highest
        of a prompt. tokens_per_round: tokens a forward of the model brings a row.
    accept_lengths: how many rounds brought so many tokens, by that number.
    shares: of all tokens, those that each drafter guessed.
    draft_s, verify_s, rest_s: seconds of decoding spent on guessing and learning from what became
        of it, on forwards with verification, and on all else.
    lossless: whether the recipe must give the text of `plain`, up to rounding. equal: whether every
        round did (None where samples were drawn apart); divergences: where not.
    """

    kind: str
    context: str
    context_tokens: int
    recipe: str
    plain: str
    model: str
    dtype: str
    device: str
    prompts: int
    rounds: int
    new_tokens: int
    tables: str
    batch: int = 1
    temperature: float = 0.0
    tokens: int | None = None
    tokens_per_s: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    tokens_per_round: float | None = None
    accept_lengths: Mapping[int, int] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    draft_s: float | None = None
    verify_s: float | None = None
    rest_s: float | None = None
    lossless: bool | None = None
    equal: bool | None = None
    divergences: tuple[Divergence, ...] = ()
    refused: str | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, in order, as JSON can hold them."""
        return asdict(self)

    def to_json(self) -> str:
        """The row as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class DraftingRows:
    """The rows of one suite, in the order they were finished. interrupted: not all of them are."""

    rows: tuple[DraftingRow, ...]
    origin: Origin
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One recipe on one prompt, or on a batch of them: its median run, and plain decoding's.

    prompt_tokens: of each prompt. comparable: the texts of both should be the same.
    """

    kind: str
    context: str
    prompt_tokens: tuple[int, ...]
    run: Run
    plain: Run
    divergences: tuple[Divergence, ...] = ()
    comparable: bool = True


def summary(base: DraftingRow, results: Sequence[Result]) -> DraftingRow:
    """`base` with the figures of some prompts: all their tokens over all their seconds."""
    runs = [result.run for result in results]
    tokens = sum(run.tokens for run in runs)
    seconds = sum(run.seconds for run in runs)
    accepted: Counter[str] = Counter()
    for run in runs:
        accepted.update(run.accepted)
    lengths = Counter(length for run in runs for length in run.lengths)
    draft_s, verify_s = (_total(getattr(run, name) for run in runs) for name in _PARTS)
    divergences = tuple(each for r in results for each in r.divergences)
    rate, plain = _rate(runs), _rate([result.plain for result in results])
    ratios = [r.run.rate / r.plain.rate for r in results if r.run.rate and r.plain.rate]
    sizes = [size for r in results for size in r.prompt_tokens]
    return replace(
        base,
        context_tokens=round(sum(sizes) / len(sizes)),
        prompts=len(sizes), tokens=tokens, tokens_per_s=rate,
        ratio=rate / plain if rate and plain else None,
        ratio_low=min(ratios, default=None), ratio_high=max(ratios, default=None),
        tokens_per_round=tokens / lengths.total() if lengths else None,
        accept_lengths=dict(sorted(lengths.items())),
        shares={source: count / tokens for source, count in accepted.items()} if tokens else {},
        draft_s=draft_s, verify_s=verify_s,
        rest_s=None if draft_s is None or verify_s is None else seconds - draft_s - verify_s,
        equal=not divergences if all(r.comparable for r in results) else None,
        divergences=divergences,
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
    )  # fmt: skip


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _rate(runs: Sequence[Run]) -> float | None:
    seconds = sum(run.seconds for run in runs)
    return sum(run.tokens for run in runs) / seconds if seconds else None


def totals(
    base: DraftingRow, results: Sequence[Result], contexts: Sequence[str]
) -> Iterator[DraftingRow]:
    """One recipe's rows over several kinds, for the groups all of whose kinds were run."""
    over = [*contexts, BOTH] if len(contexts) > 1 else list(contexts)
    for context in over:
        mine = [r for r in results if context in (r.context, BOTH)]
        groups = [(ALL_SIX, SIX), (ALL_GROUNDED, GROUNDED)]
        if context == OWN and len(own := {r.kind for r in mine}) > 1:
            groups = [(ALL_OWN, tuple(own))]
        for name, kinds in groups:
            wanted = [r for r in mine if r.kind in kinds]
            if {r.kind for r in wanted} == set(kinds):
                yield summary(replace(base, kind=name, context=context), wanted)
