"""What a benchmark is: samples of any length, and how replies to them are scored.

A benchmark has one task or several. Its dataclass fields are its options, written as those of a
method are: `needle(needles=4)`, `ruler/vt` for one task of several.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from lengthwise._utils.papers import Papers
from lengthwise._utils.registry import Registry
from lengthwise._utils.saying import say_once
from lengthwise.errors import LengthwiseError
from lengthwise.methods.options import way_of
from lengthwise.recipes.parser import parse_one

Level = Literal["low", "high"]
# Tokens of a chat template around document and question, at most.
TEMPLATE = 64
T = TypeVar("T")


class NoRoom(LengthwiseError):
    """A length in which a task has no sample. A run leaves that task out, and says so."""


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Why a task is hard when it is long (Goldman and others 2024, arXiv 2407.00402).

    diffusion: how hard what is needed is to find. scope: how much of it is needed.
    """

    diffusion: Level
    scope: Level


@dataclass(frozen=True, slots=True)
class Forced:
    """A continuation that is given, and what else might stand in the place of each of its pieces.

    pieces: such as " b", each behind those before. among: what the law of each place is asked of;
    none of them begins as another does.
    """

    pieces: tuple[str, ...]
    among: tuple[str, ...]


# What might stand at one place, each with its probability.
Law = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """What is asked of a model once.

    context: the long text, from which a recipe may choose. question: behind it. references: right
    replies, or all parts of one, as its score has it. most: tokens of a reply. begin: what the
    reply begins with, written for the model. depth: where in the context the answer stands, from 0
    to 1. facts: what else its score needs, of values that JSON can hold. chat: whether it is put
    into the chat template, where the model has one. stop: what ends a reply. temperature: 0 is
    greedy. seed: of a reply that is sampled. forced: of a task that asks for laws, what is given
    behind `begin`. own: what of the context is the question's own, where the length decides the
    rest, by which copies of a question are known; None is all of it.
    """

    context: str
    question: str
    references: tuple[str, ...]
    most: int
    begin: str = ""
    depth: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    chat: bool = True
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    forced: Forced | None = None
    own: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which samples are wanted.

    length: tokens of a prompt and its reply together. samples: how many. seed: of all that is
    drawn. tokens: counts those of a text. haystack: the text in which things are hidden, where a
    benchmark takes any. depth: where, from 0 to 1; None leaves it to the benchmark. notes: a
    benchmark adds what was left out.
    """

    length: int
    samples: int
    seed: int
    tokens: Callable[[str], int]
    haystack: str
    depth: float | None = None
    notes: list[str] = field(default_factory=list, compare=False)

    def draws(self, task: str) -> Iterator[random.Random]:
        """A source of chance a sample: of the same task, length, depth and seed the same."""
        for number in range(self.samples):
            yield random.Random(f"{task} {self.length} {self.depth} {self.seed} {number}")

    def size(self, sample: Sample) -> int:
        """Tokens of a prompt and its reply, with those of a chat template."""
        said = f"{sample.context}\n\n{sample.question}\n{sample.begin}"
        return self.tokens(said) + sample.most + TEMPLATE

    def fits(self, sample: Sample) -> bool:
        """Whether a prompt and its reply are no longer than is wanted."""
        return self.size(sample) <= self.length


class Benchmark(Protocol):
    """Tasks whose samples are made, or read from published files. A frozen dataclass of options.

    paper: what it rests on. tasks: by name, why each is hard.
    """

    name: ClassVar[str]
    paper: ClassVar[Papers]
    tasks: ClassVar[Mapping[str, Difficulty]]

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """The samples of a task.

        Args:
            task: one of `tasks`.
            wanted: how long and how many; the same for the same wishes.

        Raises:
            NoRoom: where there are none of that length.
            LengthwiseError: for data that is not there, or not as it is published.
        """
        ...

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """How good a reply is: first the figure that counts, from 0 to 1, then others, of any size.

        Nothing, where only a judge can say.

        Args:
            task: one of `tasks`.
            said: the reply, without what it was begun with.
            sample: that was asked.
        """
        ...


@runtime_checkable
class NeedsMore(Protocol):
    """A benchmark some of whose tasks need what users have to bring: published data, a package."""

    def missing(self, task: str) -> str:
        """What a task needs that is not there, and how to give it.

        Args:
            task: one of `tasks`.

        Returns:
            Words that follow "needs"; "" where nothing is missing.
        """
        ...


@runtime_checkable
class AsksLaws(Protocol):
    """A benchmark some of whose tasks score no replies, but laws of the next token.

    laws: these tasks. Each of their samples has `forced`. Models behind a server tell no laws.
    """

    laws: ClassVar[frozenset[str]]

    def score_laws(self, task: str, laws: Seq[Law], sample: Sample) -> Mapping[str, float]:
        """How good laws are, from 0 to 1: first the figure that counts, then others.

        Args:
            task: one of `laws`.
            laws: a law before each forced piece; they may sum to less than 1.
            sample: that was asked.
        """
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a benchmark with its options. text: as it is written."""

    benchmark: Benchmark
    name: str
    text: str

    @property
    def difficulty(self) -> Difficulty:
        """Why it is hard."""
        return self.benchmark.tasks[self.name]

    @property
    def missing(self) -> str:
        """What it needs that is not there, such as data, and how to give it; "" where nothing."""
        if isinstance(self.benchmark, NeedsMore):
            return self.benchmark.missing(self.name)
        return ""

    @property
    def asks_laws(self) -> bool:
        """Whether laws of the next token are scored, and no reply."""
        return isinstance(self.benchmark, AsksLaws) and self.name in self.benchmark.laws

    def samples(self, wanted: Wanted) -> list[Sample]:
        """Its samples."""
        return list(self.benchmark.samples(self.name, wanted))

    def score(self, said: str, sample: Sample) -> dict[str, float]:
        """How good a reply is; the first figure counts, from 0 to 1."""
        return dict(self.benchmark.score(self.name, said, sample))

    def score_laws(self, laws: Seq[Law], sample: Sample) -> dict[str, float]:
        """How good laws are, from 0 to 1; the first figure counts."""
        assert isinstance(self.benchmark, AsksLaws)
        return dict(self.benchmark.score_laws(self.name, laws, sample))


def largest(
    wanted: Wanted, build: Callable[[int], Sample], least: int = 1, greatest: int | None = None
) -> Sample:
    """The sample of most units, such as lines of a haystack, that is as long as wanted.

    Counting the tokens of a long prompt is what takes time. Sizes grow nearly in a line, so each
    guess is where that line meets the length, and only a handful of long prompts are counted.

    Args:
        wanted: how long.
        build: a sample of so many units; a sample of more is no shorter.
        least: units below which there is no sample.
        greatest: units above which there is none; None is no bound.

    Raises:
        NoRoom: where the least is too long.
    """
    best, low, high = build(least), least, None if greatest is None else greatest + 1
    size = wanted.size(best)
    if size > wanted.length:
        raise NoRoom(
            f"a length of {wanted.length:,} tokens has no room for the smallest sample of "
            f"{size:,}; give more"
        )
    slope, guess, tries = 0.0, 2 * least, 0
    while high is None or high - low > 1:
        guess = guess if high is None else max(low + 1, min(guess, high - 1))
        made = build(guess)
        found, tries = wanted.size(made), tries + 1
        slope = (found - size) / (guess - low)
        if found <= wanted.length:
            best, low, size = made, guess, found
        else:
            high = guess
        # A line that is not one is halved, so that the end is always reached.
        if high is not None and tries > 12:
            guess = (low + high) // 2
        else:
            step = int((wanted.length - size) / slope) if slope > 0 else 15 * low
            guess = low + max(1, min(step, 15 * low))
    return best


def _check(name: str, found: object) -> type[Benchmark]:
    return way_of(name, found, (Benchmark,), "benchmark")


BENCHMARKS: Registry[type[Benchmark]] = Registry("lengthwise.benchmarks", "benchmark", _check)


class _Known(Mapping[str, type[Benchmark]]):
    """The benchmarks by name, each imported when it is taken."""

    def __getitem__(self, name: str) -> type[Benchmark]:
        found = BENCHMARKS.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(BENCHMARKS)

    def __len__(self) -> int:
        return len(BENCHMARKS)


def tasks_of(given: str) -> list[Task]:
    """The tasks that a text names.

    Args:
        given: a benchmark, such as "ruler", which is all of its tasks; "ruler/vt" is one. Options
            stand behind the benchmark: "needle(needles=4)". Of a whole benchmark, tasks that lack
            something are left out, which is said.

    Raises:
        RecipeError: for an unknown benchmark, with the nearest name, or option.
        LengthwiseError: for an unknown task, or one that lacks something.
    """
    text, _, name = given.partition("/") if ")" not in given else _behind(given)
    benchmark = parse_one(text, _Known())
    if name and name not in benchmark.tasks:
        known = ", ".join(benchmark.tasks)
        raise LengthwiseError(f"{benchmark.name} has no task {name!r}; it has {known}")
    alone = len(benchmark.tasks) == 1
    found = [
        Task(benchmark, each, text if alone else f"{text}/{each}")
        for each in benchmark.tasks
        if name in ("", each)
    ]
    lacks = {each.text: each.missing for each in found if each.missing}
    if len(lacks) == len(found):
        task, lack = next(iter(lacks.items()))
        more = f" (and {len(lacks) - 1} more tasks of it likewise)" if len(lacks) > 1 else ""
        raise LengthwiseError(f"{task} needs {lack}{more}")
    for task, lack in lacks.items():
        say_once(f"{task} is left out: it needs {lack}")
    return [each for each in found if not each.missing]


def difficulty_of(text: str) -> Difficulty | None:
    """Why a task is hard that is written so; None for one that is not known here.

    Args:
        text: of a Task, such as "needle(needles=4)" or "ruler/vt".
    """
    name = re.split(r"[(/]", text, maxsplit=1)[0]
    kind = BENCHMARKS.usable().get(name)
    if kind is None:
        return None
    alone = next(iter(kind.tasks)) if len(kind.tasks) == 1 else text.rpartition("/")[2]
    return kind.tasks.get(alone)


def _behind(given: str) -> tuple[str, str, str]:
    """A benchmark with options, and the task behind them."""
    text, mark, rest = given.rpartition(")")
    return text + mark, "/", rest.removeprefix("/")


def shuffled(items: Seq[T], draw: random.Random) -> list[T]:
    """Items in an order that is drawn."""
    return draw.sample(items, len(items))


__all__ = [
    "BENCHMARKS", "TEMPLATE", "AsksLaws", "Benchmark", "Difficulty", "Forced", "Law", "NeedsMore",
    "NoRoom", "Sample", "Task", "Wanted", "difficulty_of", "largest", "shuffled", "tasks_of",
]  # fmt: skip
