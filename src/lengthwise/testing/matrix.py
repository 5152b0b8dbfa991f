"""What goes with what, found by running it: `docs/compatibility.json`.

`measure` runs every two methods together and every method on every family, on tiny random models,
and gives a `Matrix` of verdicts. `make docs` makes the page `docs/compatibility.md` from it, where
methods that declare the same stand together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence as Seq
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Question
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.recipes.piece import Piece
from lengthwise.recipes.registry import methods
from lengthwise.testing.drive import WHOLE, together
from lengthwise.testing.laws import (
    CHUNK,
    COUNT,
    STEPS,
    TOLERANCE,
    ConformanceError,
    check_drafting,
    check_identity,
    decoding_difference,
    difference,
    law_model,
)
from lengthwise.testing.tiny import FAMILIES, tiny, tokens

EXACT, APPROXIMATE, PARTLY, REFUSED = "exact", "approx.", "partly", "no"


@dataclass(frozen=True)
class Verdict:
    """One cell: EXACT, APPROXIMATE, PARTLY or REFUSED, the last with its reason."""

    kind: str
    reason: str = ""


@dataclass(frozen=True)
class Matrix:
    """What was found.

    pairs: two names in alphabetical order -> verdict; a name twice is the method alone.
    families: family and name -> verdict. traits: family -> what its tiny model is like, in words.
    absent: name -> why the method cannot run here at all: it needs what its user has to give it.
    """

    pairs: dict[tuple[str, str], Verdict]
    families: dict[tuple[str, str], Verdict]
    traits: dict[str, tuple[str, ...]]
    absent: dict[str, str] = field(default_factory=dict)

    def between(self, a: str, b: str) -> Verdict:
        """The verdict on two methods, in any order."""
        return self.pairs[min(a, b), max(a, b)]

    @property
    def names(self) -> list[str]:
        """The methods that were measured."""
        return sorted({name for pair in self.pairs for name in pair})

    def dump(self) -> str:
        """JSON, one line a method: verdicts with the methods before it and itself, by number."""
        reasons = _Numbers()
        names = self.names
        before = {b: [a for a in names if a <= b] for b in names}
        rows = {b: " ".join(reasons.code(self.between(a, b)) for a in before[b]) for b in names}
        families = {
            family: " ".join(reasons.code(self.families[family, name]) for name in names)
            for family in self.traits
        }
        kept = {
            "methods": " ".join(names), "pairs": rows, "families": families,
            "traits": self.traits, "absent": self.absent, "reasons": list(reasons.found),
        }  # fmt: skip
        return json.dumps(kept, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, text: str) -> Matrix:
        """What `dump` wrote."""
        kept = json.loads(text)
        names, reasons = kept["methods"].split(), kept["reasons"]

        def row(codes: str) -> Iterable[tuple[str, Verdict]]:
            return zip(names, (_verdict(code, reasons) for code in codes.split()), strict=False)

        pairs = {(a, b): each for b, codes in kept["pairs"].items() for a, each in row(codes)}
        families = {(f, n): each for f, codes in kept["families"].items() for n, each in row(codes)}
        traits = {family: tuple(words) for family, words in kept["traits"].items()}
        return cls(pairs, families, traits, kept["absent"])


class _Numbers:
    """Reasons by number, in the order in which they were met."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def code(self, verdict: Verdict) -> str:
        if verdict.kind != REFUSED:
            return verdict.kind
        return str(self.found.setdefault(verdict.reason, len(self.found)))


def _verdict(code: str, reasons: Seq[str]) -> Verdict:
    return Verdict(REFUSED, reasons[int(code)]) if code.isdigit() else Verdict(code)


def judge(pair: Seq[Method], model: AdaptedModel) -> Verdict:
    """Runs methods together; raises ConformanceError where they break what they declare."""
    try:
        plan = resolve(pair, model)
    except Refused as refusal:
        return Verdict(REFUSED, str(refusal))
    check_drafting(pair, model, seeds=1, count=2 * STEPS)
    text = tokens(COUNT)
    whole, chunked = (together(model, plan, [text], STEPS, c)[0] for c in (WHOLE, CHUNK))
    rounded = not all(method.shift_exact for method in pair)
    upto = COUNT - STEPS if rounded else COUNT
    errors = [difference(chunked[:upto], whole[:upto])]
    exact = all(m.chunking_exact and m.decoding_exact for m in pair)
    if exact and plan.retention is None:
        errors.append(decoding_difference(model, plan, text))
    if all(m.chunking_exact for m in pair) and not max(errors) <= TOLERANCE:
        raise ConformanceError(
            f"{plan.text} on {model.family}: both are declared exact, and together they differ by "
            f"{max(errors):.2g} when the same text is fed otherwise"
        )
    return Verdict(EXACT if exact else APPROXIMATE)


def judge_family(cls: type[Method], model: AdaptedModel) -> Verdict:
    """Runs the identity law of a method on a family."""
    try:
        resolve((cls.example(),), model)
        check_identity(cls, model)
    except Refused as refusal:
        return Verdict(REFUSED, str(refusal))
    own = any(layer.window is not None for layer in model.layers)
    return Verdict(PARTLY if own and not cls.lossless else EXACT)


def measured() -> dict[str, type[Method]]:
    """The registered methods that change how a prompt is read. One of prompting/ says what stands
    in it, before anything is read: it goes with all of these, and with none of its own kind. One of
    decoding/ sees the laws that come of it, and goes with all of these but some drafters."""
    beside = (Question.PROMPTING, Question.DECODING)
    return {n: cls for n, cls in methods().items() if cls.question not in beside}


def pairs() -> Iterator[tuple[type[Method], type[Method]]]:
    """Every two of them."""
    return combinations(measured().values(), 2)


def measure(progress: Callable[[str], None] = lambda _: None, kept: Matrix | None = None) -> Matrix:
    """Runs everything with everything; progress is told what is being tried.

    kept: what was found before. Of it every verdict is taken over, but those that the methods as
    they are now contradict.
    """
    known = measured()
    llama = law_model("llama")
    absent = {name: reason for name, cls in known.items() if (reason := missing(cls, llama))}
    names = sorted(known.keys() - absent.keys())
    found: dict[tuple[str, str], Verdict] = {}
    for a, b in combinations_with_replacement(names, 2):
        both = [known[name].example() for name in dict.fromkeys((a, b))]
        verdict = kept.pairs.get((a, b)) if kept else None
        if verdict is None or verdict.kind != declared(both, llama):
            progress(f"{a} + {b}")
            verdict = general(judge(both, llama), (a, b))
        found[a, b] = verdict
    families: dict[tuple[str, str], Verdict] = {}
    traits: dict[str, tuple[str, ...]] = {}
    for family in FAMILIES:
        new = [n for n in names if kept is None or (family, n) not in kept.families]
        families |= {(family, n): kept.families[family, n] for n in names if n not in new and kept}
        if not new and kept and family in kept.traits:
            traits[family] = kept.traits[family]
            continue
        model = tiny(family)
        traits[family] = family_traits(model)
        for name in new:
            progress(f"{name} on {family}")
            families[family, name] = general(judge_family(known[name], model), (name,))
    return Matrix(found, families, traits, absent)


def declared(pair: Seq[Method], model: AdaptedModel) -> str:
    """The kind of verdict that methods promise together, without a forward."""
    try:
        resolve(pair, model)
    except Refused:
        return REFUSED
    return EXACT if all(m.chunking_exact and m.decoding_exact for m in pair) else APPROXIMATE


def missing(cls: type[Method], model: AdaptedModel) -> str:
    """Why a method cannot run on this model whatever stands beside it; empty where it can."""
    try:
        Piece.of(cls.example(), model)
    except Refused as refusal:
        return re.sub(r"this '\S+' model", "this model", str(refusal))
    return ""


def family_traits(model: AdaptedModel) -> tuple[str, ...]:
    """What decides on a family: whether it rotates, and how many layers keep their own window."""
    own = [layer.window is not None for layer in model.layers]
    words = ["rotary positions" if model.rope is not None else "no rotary positions"]
    if any(own):
        words.append(f"a window of its own on {'every layer' if all(own) else 'some layers'}")
    return tuple(words)


def general(verdict: Verdict, names: Seq[str]) -> Verdict:
    """A reason without names: A and B are the methods of the cell in the order it names them."""
    letters: dict[str, str] = {}
    reason = re.sub(r"this '\S+' model", "a MODEL of this family", verdict.reason)
    for word in re.findall(r"[a-z0-9_]+", reason.partition(";")[0]):
        if word in names:
            letters.setdefault(word, "AB"[len(letters)])
    text = re.sub(r"[a-z0-9_]+", lambda match: letters.get(match[0], match[0]), reason)
    return Verdict(verdict.kind, text.replace("MODEL", "model"))
