"""Key-value retrieval: UUIDs in an object of JSON, and the value of one key. After Liu et al.,
"Lost in the Middle: How Language Models Use Long Contexts", TACL 2024, arXiv:2307.03172.

Several samples share a haystack, byte for byte, and differ in the key that is asked for: what reads
long texts once reads it once. A wanted depth is that of the middle one of these keys, which then
stand side by side. Ours differs: the number of pairs follows from the length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.matching import contains_any
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest
from lengthwise.evaluation.tasks.generated._shared.pairs import Grown, Pair, as_json, uuid_pairs
from lengthwise.methods.options import option

_INTRO = "Below is an object of JSON. Each of its keys has a value.\n\n"
_MOST = 48


@dataclass(frozen=True)
class KeyValue:
    """Values of keys, several questions a haystack. Scored by whether a reply holds the value."""

    name: ClassVar[str] = "kv"
    paper: ClassVar[Paper] = Paper(
        "Lost in the Middle: How Language Models Use Long Contexts", "Liu et al.", 2024,
        arxiv="2307.03172", venue="TACL", code="https://github.com/nelson-liu/lost-in-the-middle",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {"kv": Difficulty("high", "low")}

    questions: int = option(5, "samples that share a haystack", low=1, high=1000)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Samples, of which each run of `questions` has one context."""
        count = 0
        for draw in wanted.draws("kv"):
            if count == wanted.samples:
                break
            pairs, asked = uuid_pairs(draw), min(self.questions, wanted.samples - count)
            where = [draw.random() for _ in range(self.questions)]

            def build(units: int, pairs: Grown[Pair] = pairs, where: Seq[float] = where) -> Sample:
                keyed = pairs.first(units)
                places = _places(units, where, wanted.depth)
                # The one of most tokens, so that all of them are as long as wanted at most.
                longest = max(places, key=lambda place: wanted.tokens(keyed[place][0]))
                return _sample(keyed, as_json(keyed), longest)

            found = largest(wanted, build, least=self.questions)
            units, text = found.facts["pairs"], found.context.removeprefix(_INTRO)
            for at in _places(units, where, wanted.depth)[:asked]:
                yield _sample(pairs.first(units), text, at)
            count += asked

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """1 where the value stands in the reply."""
        return {"contains_any": contains_any(said, sample.references)}


def _places(units: int, where: Seq[float], depth: float | None) -> list[int]:
    """The places of keys that are asked for, each once, in the order in which they are asked."""
    if depth is not None:
        first = round(depth * (units - 1)) - len(where) // 2
        first = max(0, min(first, units - len(where)))
        return [first + n for n in range(len(where))]
    found: dict[int, None] = {}
    for each in where:
        at = int(each * units)
        while at in found:
            at = (at + 1) % units
        found[at] = None
    return list(found)


def _sample(pairs: Seq[Pair], text: str, at: int) -> Sample:
    key, value = pairs[at]
    question = f"What is the value of the key below?\nKey: {key}"
    facts = {"pairs": len(pairs), "place": at}
    depth = at / max(1, len(pairs) - 1)
    return Sample(_INTRO + text, question, (str(value),), _MOST, "Its value is", depth, facts)


__all__ = ["KeyValue"]
