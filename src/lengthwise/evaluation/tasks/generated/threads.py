"""Roberts et al., "Needle Threading: Can LLMs Follow Threads through Near-Million-Scale
Haystacks?", ICLR 2025, arXiv:2411.05000.

Pairs of UUIDs in an object of JSON. One value is asked for, several, or all whose key is marked; or
a thread is followed, in which each value is the next key, to its last value. The pairs of a forward
thread stand in the order in which they are followed, those of a backward one in the other.

Ours differs. A pair stands on a line of its own. Depth is that of tokens, as elsewhere. In a
branched thread, which is not in the published files, a value is a list, of which one is a key.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.needles import thread_value, thread_values
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest, shuffled
from lengthwise.evaluation.tasks.generated._shared.pairs import (
    UUID,
    Grown,
    Pair,
    as_json,
    drawn_uuid,
    placed,
    uuid_pairs,
)  # fmt: skip
from lengthwise.methods.options import option

MARK = "*"
_MOST = 48
_INTRO = "Below is an object of JSON. Each of its keys has a value.\n\n"
_FOLLOW = (
    "Begin at the key below. Where its value is itself a key of the object, go on with the value "
    "of that key, and so on to a value that is no key."
)
_BRANCHED = (
    "Begin at the key below. Its value is a list, of which one is itself a key of the object: go "
    "on with that one, and so on to a value that is no list."
)


@dataclass(frozen=True)
class Threads:
    """Needle Threading. Scored by the value a reply begins with, or the share that it lists."""

    name: ClassVar[str] = "threads"
    paper: ClassVar[Paper] = Paper(
        "Needle Threading: Can LLMs Follow Threads through Near-Million-Scale Haystacks?",
        "Roberts et al.", 2025, arxiv="2411.05000", venue="ICLR",
        code="https://github.com/jonathan-roberts1/needle-threading",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        "single": Difficulty("high", "low"),
        "multi": Difficulty("high", "low"),
        "conditional": Difficulty("low", "high"),
        "forward": Difficulty("high", "low"),
        "backward": Difficulty("high", "low"),
        "random": Difficulty("high", "low"),
        "multi_threads": Difficulty("high", "high"),
        "branched": Difficulty("high", "low"),
    }

    needles: int = option(5, "values asked for in multi and conditional", low=1, high=50)
    placement: str = option(
        "random", "where these stand: anywhere, or side by side", choices=("random", "clustered")
    )
    steps: int = option(4, "pairs of a thread", low=2, high=50)
    threads: int = option(2, "threads of multi_threads", low=2, high=25)
    branches: int = option(3, "values of a branched step", low=2, high=10)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Samples of one of the tasks; depth is that of the key, or of clustered keys."""
        for draw in wanted.draws(f"threads/{task}"):
            case = self._case(task, wanted, draw)
            # What misleads in a branched haystack has lists as well.
            others = self._lists(draw) if task == "branched" else uuid_pairs(draw)
            least = len(case.pairs)

            def build(units: int, case: _Case = case, others: Grown[Pair] = others) -> Sample:
                around = others.first(units - len(case.pairs))
                pairs, places = placed(around, case.pairs, case.depths)
                depth = places[0] / max(1, units - 1) if case.deep else None
                return case.sample(_INTRO + as_json(pairs), depth)

            yield largest(wanted, build, least)

    def _case(self, task: str, wanted: Wanted, draw: random.Random) -> _Case:
        if task == "single":
            depth = draw.random() if wanted.depth is None else wanted.depth
            return _values(uuid_pairs(draw).first(1), [depth], True)
        if task in ("multi", "conditional"):
            return self._several(task, wanted, draw)
        if task == "branched":
            return self._branched(draw)
        if task == "multi_threads":
            return _joined([_thread(self.steps, "random", draw) for _ in range(self.threads)])
        return _thread(self.steps, task, draw)

    def _several(self, task: str, wanted: Wanted, draw: random.Random) -> _Case:
        pairs = uuid_pairs(draw).first(self.needles)
        depths = [draw.random() for _ in pairs]
        clustered = self.placement == "clustered"
        if clustered:
            depths = [depths[0] if wanted.depth is None else wanted.depth] * len(pairs)
        if task == "multi":
            return _values(pairs, depths, clustered)
        marked: list[Pair] = []
        for key, value in pairs:
            at = draw.randrange(len(key))
            marked.append((key[:at] + MARK + key[at:], value))
        asked = f'Which values have a key that contains the character "{MARK}"? Name them alone.'
        return _Case(marked, depths, asked, "The values are:", _named(marked), (), clustered)

    def _branched(self, draw: random.Random) -> _Case:
        keys = [drawn_uuid(draw) for _ in range(self.steps + 1)]
        pairs: list[Pair] = []
        for n, key in enumerate(keys[:-1]):
            ends = [keys[n + 1], *(drawn_uuid(draw) for _ in range(self.branches - 1))]
            last = n == self.steps - 1
            pairs.append((key, keys[-1] if last else shuffled(ends, draw)))
        asked = f"{_BRANCHED} Answer with the last value alone.\nKey: {keys[0]}"
        depths = [draw.random() for _ in pairs]
        return _Case(pairs, depths, asked, "The last value is", (keys[-1],), (keys[0],))

    def _lists(self, draw: random.Random) -> Grown[Pair]:
        """Pairs of which four in five have lists of values that are no keys."""
        own = random.Random(draw.getrandbits(64))

        def other() -> Pair:
            values = [drawn_uuid(own) for _ in range(self.branches)]
            return drawn_uuid(own), values[0] if own.random() * self.steps < 1 else values

        return Grown(other)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """1 where the value comes first; of several the share at its place, and that named."""
        right = sample.references
        if len(right) == 1:
            return {"thread_value": thread_value(said, right)}
        share = thread_values(said, right, ordered=task != "conditional")
        found = {each.lower() for each in UUID.findall(said)}
        return {"thread_values": share, "named": sum(each in found for each in right) / len(right)}


@dataclass(frozen=True)
class _Case:
    """Pairs with their depths, what is asked, and the right values. deep: whether depth counts."""

    pairs: Seq[Pair]
    depths: Seq[float]
    question: str
    begin: str
    right: tuple[str, ...]
    keys: tuple[str, ...]
    deep: bool = False

    def sample(self, context: str, depth: float | None) -> Sample:
        most = _MOST * len(self.right)
        return Sample(context, self.question, self.right, most, self.begin, depth)


def _named(pairs: Seq[Pair]) -> tuple[str, ...]:
    return tuple(str(value) for _, value in pairs)


def _values(pairs: Seq[Pair], depths: Seq[float], deep: bool) -> _Case:
    """The values of keys are asked for."""
    keys = tuple(key for key, _ in pairs)
    if len(keys) == 1:
        asked, begin = f"What is the value of the key below?\nKey: {keys[0]}", "Its value is"
    else:
        asked = "What are the values of the keys below, in this order? Name the values alone.\n"
        asked, begin = asked + "\n".join(f"Key: {key}" for key in keys), "The values are:"
    return _Case(pairs, depths, asked, begin, _named(pairs), keys, deep)


def _thread(steps: int, direction: str, draw: random.Random) -> _Case:
    """A thread, whose pairs stand forward, backward or at random."""
    keys = [drawn_uuid(draw) for _ in range(steps + 1)]
    pairs: list[Pair] = list(zip(keys, keys[1:], strict=False))
    depths = [draw.random() for _ in pairs]
    if direction != "random":
        depths.sort(reverse=direction == "backward")
    asked = f"{_FOLLOW} Answer with the last value alone.\nKey: {keys[0]}"
    return _Case(pairs, depths, asked, "The last value is", (keys[-1],), (keys[0],))


def _joined(cases: Seq[_Case]) -> _Case:
    """Several threads, asked for at once."""
    keys = [key for case in cases for key in case.keys]
    listed = "\n".join(f"Key: {key}" for key in keys)
    asked = f"Do this for each of the keys below. {_FOLLOW} Name the last values alone, in order."
    return _Case(
        [pair for case in cases for pair in case.pairs],
        [depth for case in cases for depth in case.depths],
        f"{asked}\n{listed}", "The last values are:",
        tuple(each for case in cases for each in case.right), tuple(keys),
    )  # fmt: skip


__all__ = ["MARK", "Threads"]
