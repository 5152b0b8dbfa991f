"""What goes with what, found by running it: the page `docs/compatibility.md`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass
from itertools import combinations

from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.methods.registry import methods
from lengthwise.models.adapt import Adapted
from lengthwise.recipes import resolve
from lengthwise.testing.drive import together
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

LEGEND = """\
# What goes with what

Every cell was found by running it on tiny random models: `python -m lengthwise.testing --write
docs/compatibility.md`.

## Methods with each other

On a tiny llama, each method at the setting of its `example()`; the diagonal is the method alone.

- **exact**: how the text is fed makes no difference. A prompt read whole, read in chunks or fed
  token by token gives the same logits to 1e-4 of their spread, and drafting gives the same tokens.
- **approx.**: runs, and drafting gives the same tokens. But the method plans by blocks of queries,
  or treats prompt and answer differently, so another chunking may give slightly other logits.
- **no**, with a number: refused before the run, for the reason below the table, where A and B are
  the two methods.
"""
FAMILY_LEGEND = """\
## Methods on families

- **exact**: at the setting that does nothing the method equals full attention to 1e-4.
- **partly**: the same, and layers that keep a sliding window of their own are left as they are.
- **no**, with a number: refused, for the reason below the table, where A is the method.
"""


@dataclass(frozen=True)
class Verdict:
    """One cell: EXACT, APPROXIMATE, PARTLY or REFUSED, the last with its reason."""

    kind: str
    reason: str = ""


def judge(pair: Seq[Method], model: Adapted, seeds: int = 1) -> Verdict:
    """Runs methods together; raises ConformanceError where they break what they declare."""
    try:
        plan = resolve(pair, model)
    except Refused as refusal:
        return Verdict(REFUSED, str(refusal))
    check_drafting(pair, model, seeds)
    text = tokens(COUNT)
    whole, chunked = (together(model, plan, [text], STEPS, c)[0] for c in (COUNT, CHUNK))
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


def judge_family(cls: type[Method], model: Adapted) -> Verdict:
    """Runs the identity law of a method on a family."""
    try:
        resolve((cls.example(),), model)
        check_identity(cls, model)
    except Refused as refusal:
        return Verdict(REFUSED, str(refusal))
    own = any(layer.window is not None for layer in model.layers)
    return Verdict(PARTLY if own and not cls.lossless else EXACT)


def pairs() -> Iterator[tuple[type[Method], type[Method]]]:
    """Every two registered methods."""
    return combinations(methods().values(), 2)


def page(progress: Callable[[str], None] = lambda _: None) -> str:
    """The whole page, in markdown; progress is told what is being tried."""
    known = methods()
    llama = law_model("llama")
    cells: dict[tuple[str, str], Verdict] = {}
    for name, cls in known.items():
        progress(name)
        cells[name, name] = judge((cls.example(),), llama)
    for a, b in pairs():
        progress(f"{a.name} + {b.name}")
        cells[a.name, b.name] = cells[b.name, a.name] = judge((a.example(), b.example()), llama)
    lines = [LEGEND, *_table(list(known), list(known), cells), "", FAMILY_LEGEND]
    families: dict[tuple[str, str], Verdict] = {}
    for family in FAMILIES:
        progress(family)
        for name, cls in known.items():
            families[family, name] = judge_family(cls, tiny(family))
    return "\n".join([*lines, *_table(list(FAMILIES), list(known), families)]) + "\n"


def _table(rows: Seq[str], columns: Seq[str], cells: dict[tuple[str, str], Verdict]) -> list[str]:
    numbers: dict[str, int] = {}
    lines = ["| |" + "|".join(columns) + "|", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        found = []
        for column in columns:
            verdict = cells[row, column]
            text = verdict.kind
            if verdict.kind == REFUSED:
                reason = _general(verdict.reason, (row, column))
                text += f" {numbers.setdefault(reason, len(numbers) + 1)}"
            found.append(text)
        lines.append(f"|**{row}**|" + "|".join(found) + "|")
    return [*lines, "", *(f"{number}. {reason}" for reason, number in numbers.items())]


def _general(reason: str, names: Seq[str]) -> str:
    """A reason without names: A and B are the methods of the cell in the order it names them."""
    letters: dict[str, str] = {}
    reason = re.sub(r"this '\S+' model", "a MODEL of this family", reason)
    for word in re.findall(r"[a-z0-9_]+", reason.partition(";")[0]):
        if word in names:
            letters.setdefault(word, "AB"[len(letters)])
    text = re.sub(r"[a-z0-9_]+", lambda match: letters.get(match[0], match[0]), reason)
    return text.replace("MODEL", "model")
