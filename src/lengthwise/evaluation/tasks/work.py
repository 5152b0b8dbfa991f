"""Seven kinds of work that people give a language model, as prompts of a chosen length.

What drafting gains depends on how much of the answer stands in the prompt already, so a figure for
drafting is a figure for a kind of work. All text is real and on every machine that runs Python: its
language reference, the sources of its library, and problems of arithmetic solved step by step. A
kind has five prompts, each over another text, the same on every call.
"""

from __future__ import annotations

import importlib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

from lengthwise._utils.registry import Registry
from lengthwise._utils.suggestions import did_you_mean
from lengthwise.documents.files import read_document
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks import conversations

Message = dict[str, str]
Messages = tuple[Message, ...]

SUITE = ("chat", "rewriting", "summary", "questions", "arithmetic", "code", "copying")
# Copying is no work anybody asks for; it shows the most that drafting can give.
SIX = SUITE[:-1]
# Kinds whose answer stands in the text, or nearly so.
GROUNDED = ("summary", "questions", "code", "copying")
CONTEXTS = {"short": 768, "long": 4224}
PROMPTS = 5
# A prompt is within this share of the length asked for.
TOLERANCE = 0.1
_SOLVED = 400
_TAIL = 1500
_UNSOLVED = 4

EXCEPTIONS = "Exceptions"
OBJECTS = "Objects, values and types"
MANAGERS = "With Statement Context Managers"
NAMES = "Naming and binding"
CALLS = "Calls"


@dataclass(frozen=True)
class WorkPrompt:
    """One request. kind: of `KINDS`. name: tells it from others of its kind.

    messages: for a chat template. The last is the user's, or the first words of the answer, which
        the model is to continue.
    """

    kind: str
    name: str
    messages: Messages


@dataclass(frozen=True)
class Material:
    """Text of which as much is used as fits: pieces (lines, problems) from number `start` on, and
    those before it where there are not enough; never fewer than `least`."""

    pieces: Sequence[str]
    start: int = 0
    least: int = 1

    def cut(self, count: int) -> str:
        """`count` pieces as text."""
        begin = max(0, min(self.start, len(self.pieces) - count))
        return "\n".join(self.pieces[begin : begin + count]).strip("\n")


@dataclass(frozen=True)
class Task:
    """A request with gaps: {text} in its messages is where the material goes, {line} a line of it
    from which some _TAIL characters are left."""

    name: str
    material: Callable[[], Material]
    messages: Messages

    def filled(self, text: str) -> Messages:
        before, _, after = text[:-_TAIL].rpartition("\n")
        line = next((x for x in (after + text[-_TAIL:]).split("\n")[1:] if len(x) > 40), text[:80])
        return tuple(
            {**m, "content": m["content"].replace("{line}", line).replace("{text}", text)}
            for m in self.messages
        )


@dataclass(frozen=True)
class Kind:
    """A kind of work, as it is registered: `PROMPTS` requests, each over another text."""

    name: str
    tasks: tuple[Task, ...]


def _check(name: str, found: object) -> Kind:
    if not isinstance(found, Kind):
        raise TypeError("it is no Kind of work")
    if found.name != name:
        raise ValueError(f"its kind of work is named {found.name!r}")
    if len(found.tasks) != PROMPTS:
        raise ValueError(f"it has {len(found.tasks)} tasks; a kind has {PROMPTS}")
    return found


WORK: Registry[Kind] = Registry("lengthwise.tasks", "kind of work", _check)
# The suite in the order of its tables, then what others have registered.
KINDS = (*(name for name in SUITE if name in WORK), *(name for name in WORK if name not in SUITE))


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds asked for, in the order of the suite; none means all. Raises LengthwiseError for an
    unknown one, with the nearest."""
    for kind in kinds:
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS, ".")
            raise LengthwiseError(f"unknown kind of work {kind!r}{hint} Kinds: {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if not kinds or kind in kinds)


def prompts(
    kind: str, length: int, count: int, tokens: Callable[[Messages], int]
) -> Iterator[WorkPrompt]:
    """The first `count` prompts of a kind, each within 10% of `length` tokens.

    Args:
        kind: of `KINDS`.
        length: in tokens.
        count: from 1 to 5.
        tokens: how many tokens some messages are.

    Yields:
        The prompts, the same on every call.

    Raises:
        LengthwiseError: for an unknown kind, another count, or a length that the kind cannot have.
    """
    check_kinds([kind])
    if not 1 <= count <= PROMPTS:
        raise LengthwiseError(f"{count} prompts of a kind: there are 1 to {PROMPTS}")
    found = WORK.get(kind)
    assert found is not None  # It is one of KINDS.
    for task in found.tasks[:count]:
        yield WorkPrompt(kind, task.name, _fitted(kind, task, length, tokens))


def _fitted(kind: str, task: Task, length: int, tokens: Callable[[Messages], int]) -> Messages:
    """The task with as much material as brings it nearest to `length` tokens."""
    material = task.material()

    @cache
    def size(count: int) -> int:
        return tokens(task.filled(material.cut(count)))

    low, most = material.least, len(material.pieces)
    high = low
    while high < most and size(high) < length:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        # Tokens grow nearly as pieces do, so a guess in proportion is close at once.
        share = (length - size(low)) / max(1, size(high) - size(low))
        middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        low, high = (middle, high) if size(middle) < length else (low, middle)
    best = min(low, high, key=lambda count: abs(size(count) - length))
    found = size(best)
    if abs(found - length) > TOLERANCE * length:
        bound = "least" if found > length else "most"
        raise LengthwiseError(
            f"{kind} prompt {task.name!r} has at {bound} {found:,} tokens with this tokenizer, and "
            f"{length:,} are asked for: leave out the kind or the length"
        )
    return task.filled(material.cut(best))


@cache
def _reference() -> list[str]:
    return read_document().text.split("\n")


def _topic(heading: str) -> Material:
    """The language reference from the topic of that heading on, line by line."""
    lines = _reference()
    for number, line in enumerate(lines[:-1]):
        if line == heading and lines[number + 1].startswith("***"):
            return Material(lines, number)
    raise DocumentError(f"this Python's language reference has no topic {heading!r}")


def _source(module: str, function: str) -> Material:
    """A module of the standard library up to the end of a function, line by line."""
    found = importlib.import_module(module)
    try:
        lines = inspect.getsource(found).splitlines()
        own, first = inspect.getsourcelines(getattr(found, function))
    except OSError as error:
        raise DocumentError(
            f"this Python came without the source of its module {module}: leave out the kind 'code'"
        ) from error
    end = first - 1 + len(own)
    return Material(lines[:end], end, len(own))


def _sum(draw: random.Random) -> tuple[str, str]:
    a, b, c = (draw.randint(1000, 9999) for _ in range(3))
    steps = f"{a} + {b} = {a + b}\n{a + b} + {c} = {a + b + c}\nAnswer: {a + b + c}"
    return f"Question: What is {a} + {b} + {c}?", steps


def _purchase(draw: random.Random) -> tuple[str, str]:
    a, b, x, y = draw.randint(3, 29), draw.randint(3, 29), draw.randint(11, 39), draw.randint(2, 9)
    steps = f"{a} * {x} = {a * x}\n{b} * {y} = {b * y}\n{a * x} + {b * y} = {a * x + b * y}"
    ask = f"Question: {a} crates cost {x} euros each, {b} sacks {y} euros each. What is the total?"
    return ask, f"{steps}\nAnswer: {a * x + b * y}"


def _journey(draw: random.Random) -> tuple[str, str]:
    a, b, x, y = draw.randint(2, 9), draw.randint(2, 9), draw.randint(41, 99), draw.randint(41, 99)
    steps = f"{a} * {x} = {a * x}\n{b} * {y} = {b * y}\n{a * x} + {b * y} = {a * x + b * y}"
    ask = f"Question: A train runs {a} hours at {x} km/h and {b} hours at {y} km/h. How far?"
    return ask, f"{steps}\nAnswer: {a * x + b * y}"


def _division(draw: random.Random) -> tuple[str, str]:
    a, b, c = draw.randint(3, 12), draw.randint(11, 49), draw.randint(2, 99)
    steps = f"{a} * {b} = {a * b}\n{a * b} + {c} = {a * b + c}"
    ask = f"Question: {a} children get {b} cards each and {c} are left. How many were there?"
    return ask, f"{steps}\nAnswer: {a * b + c}"


def _change(draw: random.Random) -> tuple[str, str]:
    a, x, y = draw.randint(3, 9), draw.randint(11, 49), draw.randint(11, 49)
    paid = (a * x + y) // 100 * 100 + 100
    steps = f"{a} * {x} = {a * x}\n{a * x} + {y} = {a * x + y}"
    ask = (
        f"Question: {a} books at {x} euros and a lamp at {y} euros are paid with {paid} euros. "
        "How much comes back?"
    )
    left = paid - a * x - y
    return ask, f"{steps}\n{paid} - {a * x + y} = {left}\nAnswer: {left}"


def _solved(problem: Callable[[random.Random], tuple[str, str]]) -> Material:
    draw = random.Random(1)
    return Material(["\n".join(problem(draw)) + "\n" for _ in range(_SOLVED)])


def _user(content: str, begun: str = "") -> Messages:
    """A request, and the first words of its answer."""
    asked = {"role": "user", "content": content}
    return (asked, {"role": "assistant", "content": begun}) if begun else (asked,)


def _reading(name: str, heading: str, request: str, begun: str = "") -> Task:
    return Task(name, partial(_topic, heading), _user(f"{{text}}\n\n{request}", begun))


def _quoting(name: str, heading: str, request: str) -> Task:
    asked = f"According to the text above, {request} Quote the sentences that say so."
    return _reading(name, heading, asked, 'The text says: "')


def _repeating(name: str, heading: str) -> Task:
    asked = 'Repeat the text above word for word from the line "{line}" on.'
    return _reading(name, heading, asked, "{line}\n")


def _talk(name: str, heading: str, turns: Sequence[str]) -> Task:
    roles = ("user", "assistant") * len(turns)
    messages = [{"role": r, "content": c} for r, c in zip(roles, turns, strict=False)]
    return Task(name, partial(_topic, heading), tuple(messages))


def _editing(module: str, function: str, request: str) -> Task:
    content = f"This is from Python's module {module}:\n\n```python\n{{text}}\n```\n\n{request}"
    begun = f"Here is the whole function:\n\n```python\ndef {function}("
    return Task(f"{module}.{function}", partial(_source, module, function), _user(content, begun))


def _solving(name: str, problem: Callable[[random.Random], tuple[str, str]]) -> Task:
    draw = random.Random(2)
    asked = "\n".join(problem(draw)[0] for _ in range(_UNSOLVED))
    content = f"{{text}}\n\nSolve these in the same way and show every step.\n{asked}"
    return Task(name, partial(_solved, problem), _user(content))


_TASKS: dict[str, tuple[Task, ...]] = {
    "chat": (
        _talk("exceptions", EXCEPTIONS, conversations.CHECKLIST),
        _talk("objects", OBJECTS, conversations.EMAIL),
        _talk("managers", MANAGERS, conversations.TIMER),
        _talk("names", NAMES, conversations.QUIZ),
        _talk("calls", CALLS, conversations.POST),
    ),
    "rewriting": (
        _reading("exceptions", EXCEPTIONS,
                 f'Rewrite the section "{EXCEPTIONS}" of the text above as a formal letter to a '
                 "new colleague. Keep every fact and the order of the paragraphs."),
        _reading("objects", OBJECTS,
                 f'Rewrite the section "{OBJECTS}" of the text above in British English and in '
                 "the past tense, sentence by sentence."),
        _reading("managers", MANAGERS,
                 f'Rewrite the section "{MANAGERS}" of the text above in plain words for a '
                 "beginner, in the second person, sentence by sentence."),
        _reading("names", NAMES,
                 f'Rewrite the section "{NAMES}" of the text above as a dialogue between a '
                 "teacher and a pupil. Keep every fact and the order of the paragraphs."),
        _reading("calls", CALLS,
                 f'Rewrite the section "{CALLS}" of the text above with short sentences of at '
                 "most fifteen words, paragraph by paragraph."),
    ),
    "summary": (
        _reading("exceptions", EXCEPTIONS, "Summarise the text above in one paragraph."),
        _reading("objects", OBJECTS, "Summarise the text above in five sentences."),
        _reading("managers", MANAGERS, "Summarise the text above as a list of its main points."),
        _reading("names", NAMES, "Summarise the text above in three sentences for an expert."),
        _reading("calls", CALLS, "Write an abstract of the text above of about 100 words."),
    ),
    "questions": (
        _quoting("exceptions", EXCEPTIONS,
                 "which model of error handling does Python use, and what happens when an "
                 "exception is not handled at all?"),
        _quoting("objects", OBJECTS,
                 "which three things does every object have, and which objects are called "
                 "mutable?"),
        _quoting("managers", MANAGERS,
                 "what is a context manager, and what are typical uses of it?"),
        _quoting("names", NAMES,
                 "what introduces a name, and what happens when a name is not found at all?"),
        _quoting("calls", CALLS,
                 "what does a call return, and what happens when a callable object is a class?"),
    ),
    "arithmetic": (
        _solving("sums", _sum),
        _solving("purchases", _purchase),
        _solving("journeys", _journey),
        _solving("divisions", _division),
        _solving("change", _change),
    ),
    "code": (
        _editing("statistics", "quantiles",
                 "Rename the parameter `data` of the function `quantiles` to `values`, change the "
                 "default of `n` to 10, and give me the whole function."),
        _editing("difflib", "get_close_matches",
                 "Rename the parameter `possibilities` of the function `get_close_matches` to "
                 "`candidates`, annotate all parameters with types, and give me the whole "
                 "function."),
        _editing("heapq", "nsmallest",
                 "Rename the parameter `iterable` of the function `nsmallest` to `items`, add a "
                 "sentence on its cost to the docstring, and give me the whole function."),
        _editing("shutil", "get_terminal_size",
                 "Rename the parameter `fallback` of the function `get_terminal_size` to "
                 "`default`, add a sentence on what it returns to the docstring, and give me the "
                 "whole function."),
        _editing("inspect", "cleandoc",
                 "Rename the parameter `doc` of the function `cleandoc` to `text`, annotate it "
                 "and what is returned with types, and give me the whole function."),
    ),
    "copying": (
        _repeating("exceptions", EXCEPTIONS),
        _repeating("objects", OBJECTS),
        _repeating("managers", MANAGERS),
        _repeating("names", NAMES),
        _repeating("calls", CALLS),
    ),
}  # fmt: skip

CHAT, REWRITING, SUMMARY, QUESTIONS, ARITHMETIC, CODE, COPYING = (
    Kind(name, _TASKS[name]) for name in SUITE
)
