"""PIE: Python files of the standard library are edited in the middle, and what follows is kept.

The first `length` tokens of a file are read, an edit is made, and the laws of the next 64 tokens of
the file are compared with those of a session that read the edited text. `unturned` is the same
without the rotation: what stands behind the edit keeps the positions it was read at.
"""

from __future__ import annotations

import argparse
import heapq
import re
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from benchmarks.reproduction.harness import Found, Note, check, encode, load
from benchmarks.reproduction.sessions.following import (
    Distance,
    distance,
    first_layer_keys,
    following,
    source_of,
)

from lengthwise.api.model import Model
from lengthwise.api.session import Session
from lengthwise.api.session_editing import aligned
from lengthwise.engine.kv_cache import editing
from lengthwise.engine.kv_cache.sequence import Sequence

FILES = (argparse, heapq, textwrap)
FOLLOWING = 64
STATEMENT = "    # checked before anything else is done\n    assert self is not None, 'no self'\n"
TYPED = (
    "def", "clamp(value,", "low,", "high):\n   ", '"""Value', "inside", '[low, high]."""\n   ',
    "if", "value", "<", "low:\n       ", "return", "low\n   ", "return", "min(value,", "high)\n\n",
)  # fmt: skip
Edit = tuple[int, int, str]


@dataclass(frozen=True)
class Case:
    """A text cut to some tokens, and what follows in it."""

    text: str
    after: list[int]


def cases(model: Model, length: int) -> list[Case]:
    """The beginnings of the files that are long enough."""
    assert model.tokenizer is not None
    found = []
    for module in FILES:
        ids = encode(model, source_of(module))
        if len(ids) >= length + FOLLOWING:
            text = model.tokenizer.decode(ids[:length])
            found.append(Case(text, ids[length : length + FOLLOWING]))
    return found


def lines_at(text: str, share: float, count: int = 1) -> tuple[int, int]:
    """Start and stop of whole lines, somewhere in a text."""
    start = text.index("\n", int(len(text) * share)) + 1
    stop = start
    for _ in range(count):
        stop = text.index("\n", stop) + 1
    return start, stop


def insertion(text: str) -> list[Edit]:
    start, _ = lines_at(text, 0.5)
    return [(start, start, STATEMENT)]


def deletion(text: str) -> list[Edit]:
    return [(*lines_at(text, 0.5, 4), "")]


def several(text: str) -> list[Edit]:
    """Three places, the last first, so that the earlier spans stay right."""
    places = [lines_at(text, share)[0] for share in (0.75, 0.5, 0.25)]
    return [(place, place, STATEMENT) for place in places]


def renaming(text: str) -> list[Edit]:
    """The commonest long name becomes another: what stands behind was read with the old one."""
    names = Counter(re.findall(r"[a-z_]{4,}", text))
    name = max(names, key=lambda each: (names[each] * len(each), each))
    places = [match.start() for match in re.finditer(rf"\b{name}\b", text)][:8]
    return [(place, place + len(name), "thing") for place in reversed(places)]


EDITS: dict[str, Callable[[str], list[Edit]]] = {
    "a statement of two lines is inserted": insertion,
    "four lines are deleted": deletion,
    "a statement is inserted at three places": several,
    "eight uses of a name become another name": renaming,
}


def edited(text: str, edits: list[Edit]) -> str:
    for start, stop, new in edits:
        text = text[:start] + new + text[stop:]
    return text


def session_of(model: Model, read: Session, text: str, edits: list[Edit]) -> Session:
    """A session that has read a text, with the edits, by what the tokenizer then makes of it."""
    session = read.fork()
    for edit in edits:
        text = edited(text, [edit])
        to(model, session, text)
    return session


def to(model: Model, session: Session, text: str) -> None:
    """Edits a session of ids so that it holds a text."""
    session.edit(*span(session, encode(model, text)))


def span(session: Session, new: list[int]) -> tuple[tuple[int, int], list[int]]:
    """What to replace in a session of ids, and by what, so that it holds others."""
    start, stop, behind = aligned(session.tokens, new)
    return (start, stop), new[start:behind]


@contextmanager
def unturned() -> Iterator[None]:
    """Keys stay where they were computed."""
    before = editing.Turner.__call__
    editing.Turner.__call__ = lambda self, layer, key: key  # type: ignore[method-assign]
    try:
        yield
    finally:
        editing.Turner.__call__ = before  # type: ignore[method-assign]


@check({"edit of 1,024 tokens": "", "KL, turned": ".1e", "unturned": ".1e",
        "first token, turned": ".1e", "first token, unturned": ".1e",
        "likeliest token the same": ".3f",
        "loss, turned": ".3f", "read again": ".3f"})  # fmt: skip
def pie(length: int = 1024, dtype: str = "float32") -> Iterator[Found]:
    """KL to full reading over the 64 tokens that follow, with and without the rotation."""
    model, worst, tokens = load(dtype), 0.0, []
    chosen = [(case, model.read(encode(model, case.text))) for case in cases(model, length)]
    for name, kind in EDITS.items():
        rows: list[tuple[Distance, Distance, float]] = []
        for case, read in chosen:
            edits = kind(case.text)
            fresh = model.read(encode(model, edited(case.text, edits)))
            tokens.append(len(fresh) - length)
            whole = following(fresh, case.after)
            session = session_of(model, read, case.text, edits)
            keys = first_layer_keys(fresh)
            gap = (first_layer_keys(session) - keys).norm() / keys.norm()
            worst = max(worst, float(gap))
            with unturned():
                still = session_of(model, read, case.text, edits)
            loss = float(-whole[range(len(case.after)), case.after].mean())
            near, far = (
                distance(following(each, case.after), whole, case.after)
                for each in (session, still)
            )
            rows.append((near, far, loss))
        turned, left = [row[0] for row in rows], [row[1] for row in rows]
        yield {
            "edit of 1,024 tokens": name, "KL, turned": _mean(d.mean for d in turned),
            "unturned": _mean(d.mean for d in left),
            "first token, turned": _mean(d.first for d in turned),
            "first token, unturned": _mean(d.first for d in left),
            "likeliest token the same": _mean(d.agree for d in turned),
            "loss, turned": _mean(d.loss for d in turned),
            "read again": _mean(row[2] for row in rows),
        }  # fmt: skip
    yield Note(
        files=len(chosen), keys_of_the_first_layer=worst, tokens_added=[min(tokens), max(tokens)]
    )


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


@check({"edits": "", "from the first version": ".1e", "turned on and on": ".1e"})
def drift(length: int = 512, edits: tuple[int, ...] = (1, 10, 100, 1000)) -> Iterator[Found]:
    """Relative error of keys in bfloat16 that were turned many times, against float32, all layers:
    from the key as it was computed, and from the key as the last edit left it."""
    model = load("bfloat16")
    ids = encode(model, source_of(textwrap))[:length]
    held = model.read(ids).held
    generator = torch.Generator().manual_seed(0)
    shifts = torch.randint(1, 40, (max(edits),), generator=generator).tolist()
    exact, first, again = 0.0, 0.0, 0.0
    steps = [key_of(held, layer) for layer in range(len(held.layers))]
    total = 0
    for count, shift in enumerate(shifts, 1):
        total += shift
        turner = editing.Turner(held.model, torch.tensor([shift]), length)
        steps = [turner(layer, key) for layer, key in zip(held.layers, steps, strict=True)]
        if count not in edits:
            continue
        whole = editing.Turner(held.model, torch.tensor([total]), length)
        exact = first = again = 0.0
        for index, layer in enumerate(held.layers):
            key = key_of(held, index)
            truth = whole(layer, key.float())
            exact += float(truth.square().sum())
            first += float((whole(layer, key).float() - truth).square().sum())
            again += float((steps[index].float() - truth).square().sum())
        yield {"edits": count, "from the first version": (first / exact) ** 0.5,
               "turned on and on": (again / exact) ** 0.5}  # fmt: skip


def key_of(sequence: Sequence, layer: int) -> torch.Tensor:
    tail = sequence.head_groups(layer)[0].near.tail
    assert tail is not None
    return tail.key


@check({"typed": "", "tokens before": ",d", "tokens behind": ",d", "ms to edit": ".0f",
        "ms to read again from the edit": ".0f", "KL": ".1e"})  # fmt: skip
def typing(length: int = 2048, words: int = len(TYPED), dtype: str = "") -> Iterator[Found]:
    """A function is typed word by word into the middle of a Python file: what each edit took, what
    reading again from there on takes, and the KL of the 64 tokens that follow."""
    model = load(dtype or None)
    assert model.tokenizer is not None
    ids = encode(model, source_of(argparse))
    text, after = model.tokenizer.decode(ids[:length]), ids[length : length + FOLLOWING]
    session, exact = model.read(encode(model, text)), model.read(encode(model, text))
    place, _ = lines_at(text, 0.5)
    for word in TYPED[:words]:
        text = text[:place] + word + " " + text[place:]
        place += len(word) + 1
        new = encode(model, text)
        edit = span(session, new)
        took = _timed(lambda edit=edit: session.edit(*edit))  # type: ignore[misc]
        edit = span(exact, new)
        again = _timed(lambda edit=edit: exact.edit(*edit, exact=True))  # type: ignore[misc]
        whole = following(exact, after)
        yield {
            "typed": f"`{word.strip()}`", "tokens before": edit[0][0],
            "tokens behind": len(new) - edit[0][0] - len(edit[1]), "ms to edit": 1e3 * took,
            "ms to read again from the edit": 1e3 * again,
            "KL": distance(following(session, after), whole, after).mean,
        }  # fmt: skip


def _timed(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
