"""Zhang et al., "InfiniteBench: Extending Long Context Evaluation Beyond 100K Tokens", ACL 2024,
arXiv:2402.13718.

The half of it that is made, at any length: a string of digits in filler, values of keys, a number
of a list by rank, a long sum step by step, and calls of functions. Its passkey is `passkey`. Scores
are those of the released code. Ours differs: sentences are ours, lists and functions are made in
the manner of the published ones, and in `math_calc` the reply takes as much of the length as the
sum.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.numbers import (
    code_run,
    first_int,
    kv_value,
    math_calc,
    math_find,
)
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest, shuffled
from lengthwise.evaluation.tasks.generated._shared.hay import FILLER
from lengthwise.evaluation.tasks.generated._shared.pairs import (
    Grown,
    apart,
    as_json,
    placed,
    uuid_pairs,
)  # fmt: skip
from lengthwise.methods.options import option

_LARGEST = 100_000
_RANKS: dict[str, Callable[[list[int]], int]] = {
    "largest number": lambda ranked: ranked[-1],
    "second largest number": lambda ranked: ranked[-2],
    "third largest number": lambda ranked: ranked[-3],
    "smallest number": lambda ranked: ranked[0],
    "second smallest number": lambda ranked: ranked[1],
    "third smallest number": lambda ranked: ranked[2],
    "median": lambda ranked: ranked[len(ranked) // 2],
}
_SCORERS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "number_string": first_int, "kv_retrieval": kv_value, "math_find": math_find,
    "code_run": code_run,
}  # fmt: skip


@dataclass(frozen=True)
class Infinite:
    """The synthetic half of InfiniteBench. Scored as its tasks are."""

    name: ClassVar[str] = "infinite"
    paper: ClassVar[Paper] = Paper(
        "InfiniteBench: Extending Long Context Evaluation Beyond 100K Tokens", "Zhang et al.",
        2024, arxiv="2402.13718", venue="ACL", code="https://github.com/OpenBMB/InfiniteBench",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        "number_string": Difficulty("low", "low"),
        "kv_retrieval": Difficulty("high", "low"),
        "math_find": Difficulty("low", "high"),
        "math_calc": Difficulty("low", "high"),
        "code_run": Difficulty("high", "low"),
    }

    digits: int = option(10, "digits of number_string", low=2, high=100)
    calls: int = option(4, "functions of code_run that are called for an answer", low=1, high=50)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Samples of one of the five."""
        for draw in wanted.draws(f"infinite/{task}"):
            depth = draw.random() if wanted.depth is None else wanted.depth
            if task == "number_string":
                yield largest(wanted, partial(_digits, _doubled(self.digits, draw), depth))
            elif task == "kv_retrieval":
                yield largest(wanted, _keyed(depth, draw))
            elif task == "math_find":
                yield largest(wanted, _listed(draw), least=3)
            elif task == "math_calc":
                yield largest(wanted, _summed(wanted, draw))
            else:
                yield largest(wanted, _called(self.calls, draw), least=self.calls)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """As the released code scores the task; the first number of a sum may be said again."""
        if task == "math_calc":
            first = sample.begin.split()[-1].rstrip(",")
            again = int(first_int(said, (first,)))
            return {"math_calc": math_calc(said, sample.references[0].split(", "), skip=again)}
        scorer = _SCORERS[task]
        return {scorer.__name__: scorer(said, sample.references)}


def _doubled(digits: int, draw: random.Random) -> str:
    """Digits of which each stands twice or three times in a row."""
    found = ""
    while len(found) < digits:
        other = draw.choice([each for each in "0123456789" if each != found[-1:]])
        found += other * draw.choice((2, 3))
    return found[:digits]


def _digits(key: str, depth: float, units: int) -> Sample:
    before = round(depth * units)
    hidden = f"The string of digits is {key}. Remember it: {key} is the string of digits.\n"
    intro = (
        "Somewhere in the text below stands a string of digits. Find it and keep it in mind.\n\n"
    )
    text = f"{intro}{FILLER * before}{hidden}{FILLER * (units - before)}"
    asked, stub = "What is the string of digits?", "The string of digits is"
    return Sample(text, asked, (key,), 24, stub, before / units)


def _keyed(depth: float, draw: random.Random) -> Callable[[int], Sample]:
    ((key, value),), others = uuid_pairs(draw).first(1), uuid_pairs(draw)

    def build(units: int) -> Sample:
        pairs, (at,) = placed(others.first(units - 1), [(key, value)], [depth])
        text = "Find the value of a key in the object of JSON below.\n\n" + as_json(pairs)
        asked, stub = f'Key: "{key}"\nWhat is its value?', f'The value of "{key}" is'
        return Sample(text, asked, (str(value),), 48, stub, at / max(1, units - 1))

    return build


def _listed(draw: random.Random) -> Callable[[int], Sample]:
    """A list of numbers, of which one is asked for by its rank."""
    rank, own = draw.choice(list(_RANKS)), apart(draw)
    listed = Grown(lambda: own.randrange(1, _LARGEST))

    def build(units: int) -> Sample:
        # An odd number of them has a median.
        items = listed.first(2 * (units // 2) + 1)
        text = f"Below is a list of numbers.\n\n{', '.join(map(str, items))}"
        asked = f"What is the {rank} in the list? Answer with the number alone."
        return Sample(text, asked, (str(_RANKS[rank](sorted(items))),), 16, f"The {rank} is")

    return build


def _summed(wanted: Wanted, draw: random.Random) -> Callable[[int], Sample]:
    """A sum whose value is asked for after every step. It stays between 0 and 999."""
    first, own = draw.randrange(100, 900), apart(draw)
    total = first

    def step() -> tuple[str, str]:
        nonlocal total
        by = own.randrange(1, 100)
        signs = [sign for sign in (1, -1) if 0 <= total + sign * by < 1000]
        sign = own.choice(signs)
        total += sign * by
        return f" {'+' if sign > 0 else '-'} {by}", str(total)

    steps = Grown(step)

    def build(units: int) -> Sample:
        made = steps.first(units)
        text = "Compute the sum below from left to right.\n\n" + str(first)
        text += "".join(term for term, _ in made)
        right = ", ".join(value for _, value in made)
        asked = "Give the first number, and the value after each step, with commas between them."
        return Sample(text, asked, (right,), wanted.tokens(right) + 16, f"The values are: {first},")

    return build


def _called(calls: int, draw: random.Random) -> Callable[[int], Sample]:
    """Functions that call one another; what one gives is asked for, a chain of calls."""
    own = apart(draw)
    names: dict[str, None] = {}

    def name() -> str:
        while (found := f"func_{own.randrange(10**5)}") in names:
            pass
        names[found] = None
        return found

    chain = [name() for _ in range(calls)]
    given, by = draw.randrange(1, 100), [draw.randrange(-99, 100) for _ in chain]
    bodies = [*(f"{callee}(x)" for callee in chain[1:]), "x"]
    needed = [_function(*each) for each in zip(chain, bodies, by, strict=True)]
    depths = [draw.random() for _ in chain]
    known = list(chain)

    def other() -> str:
        made = _function(name(), f"{own.choice(known)}(x)", own.randrange(-99, 100))
        known.append(made.split("(")[0].removeprefix("def "))
        return made

    others, order = Grown(other), draw.getrandbits(64)

    def build(units: int) -> Sample:
        around = shuffled(others.first(units - calls), random.Random(order))
        code, _ = placed(around, needed, depths)
        text = "Below are functions of Python.\n\n" + "\n".join(code)
        asked = f"What does {chain[0]}({given}) return? Answer with the number alone."
        stub = f"{chain[0]}({given}) returns"
        return Sample(text, asked, (str(given + sum(by)),), 16, stub)

    return build


def _function(name: str, body: str, by: int) -> str:
    return f"def {name}(x):\n    return {body} {'+' if by >= 0 else '-'} {abs(by)}\n"


__all__ = ["Infinite"]
