"""Questions made by planting facts in a user's own document, so that their evidence is known.

Five kinds, in turn:

    key        The pass key of the red door is 4081927.        What is the pass key of the red door?
    several    three sentences far apart; the question asks for all three names
    hop        Ann keeps a boat in X; the harbour master of X is Bo: who is it where Ann's boat is?
    reworded   The cobbler was born in 1871.                   When did the shoemaker come to life?
    copied     a sentence of the document itself, whose beginning is given

A question of kind reworded shares no word of weight with its fact. Places, names and figures are a
pure function of the seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import replace
from itertools import permutations, product

from lengthwise.documents.document import Document
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.qa import Evidence, QuestionAnswer

KINDS = ("key", "several", "hop", "reworded", "copied")
# Questions of a kind, at most: as many as there are different ones.
MOST = 40


def _words(text: str) -> list[str]:
    return text.split()


_COLOURS = _words("red green blue yellow black white brown purple orange silver golden grey")
_THINGS = _words("door chest cellar safe gate locker tower drawer")
_TOWNS = _words(
    "Aldby Brenholm Carrow Dunsley Eskvale Farnley Garsdale Hollin Inverley Jarrow Kelmoor "
    "Larkwater Marsden Norwick Orrest Penhale Quenby Ravensby Selwick Tarnhow Ulverton Venby "
    "Wharram Yarmley Ashcombe Birkdale Cawthorn Dentmoor Elmswell Fenwick Grassmoor Hawkshaw "
    "Irthing Keswold Langrigg Milburn Netherby Oakham Priddy Rothwell"
)
_FIRST = _words(
    "Anna Boris Clara David Edith Frank Greta Henry Irene Jonas Karin Leo Maria Nils Olga Peter "
    "Ruth Simon Tilda Victor"
)
_LAST = _words(
    "Berg Calloway Drax Ferris Holm Ibsen Kettle Lund Morrow Nash Osgood Pryce Quill Rowan Stroud "
    "Thorne Udall Vance Wicks Yardley"
)
_EVENTS = ("regatta", "harvest supper", "wool auction", "bell concert", "chess cup", "kite week")
_ROLES = {
    "physician": "doctor", "solicitor": "lawyer", "cobbler": "shoemaker", "vicar": "priest",
    "seamstress": "dressmaker", "constable": "policeman", "tutor": "teacher",
    "publican": "innkeeper", "mariner": "sailor", "novelist": "writer of stories",
}  # fmt: skip
# A fact, and how it is asked for in other words.
_REWORDED = (
    ("was born in {year}", "In which year did the {other} come into the world?", "{year}"),
    ("weighs {kilos} kilograms", "How heavy is the {other}?", "{kilos} kilograms"),
    ("dwells in {town}", "Where does the {other} live?", "{town}"),
    ("is wed to {name}", "Whom did the {other} marry?", "{name}"),
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_LEAST_WORDS, _MOST_WORDS, _GIVEN_WORDS = 14, 40, 7

Made = tuple[str, list[str], list[str], list[str]]


def planted(
    document: Document, count: int, seed: int = 0, kinds: Seq[str] = KINDS
) -> tuple[Document, list[QuestionAnswer]]:
    """A document with facts planted in it, and the questions that they answer.

    Args:
        document: in which they are planted, at ends of sentences or lines.
        count: of questions, of every kind as many.
        seed: of all that is drawn.
        kinds: of questions, some of `KINDS`.

    Returns:
        The document as it is with them, and the questions with their answers and evidence.

    Raises:
        LengthwiseError: for a count or kinds that cannot be had.
        DocumentError: for a document without sentences to ask for, where they are wanted.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds or len(set(kinds)) < len(kinds):
        raise LengthwiseError(f"kinds={list(kinds)}: allowed are {', '.join(KINDS)}, none twice")
    if not 1 <= count <= MOST * len(kinds):
        raise LengthwiseError(
            f"{count} planted questions: allowed are 1 to {MOST * len(kinds)}, {MOST} of a kind"
        )
    draw = random.Random(seed)
    makers = {kind: _MAKERS[kind](draw, document.text) for kind in kinds}
    found, sentences, whole = [], [], []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        question, answers, evidence, plants = next(makers[kind])
        where = f"planted question {number + 1}"
        pieces = tuple(Evidence(each) for each in evidence)
        found.append(QuestionAnswer(question, tuple(answers), pieces, kind, where))
        sentences += plants
        whole += [each for each in evidence if each not in plants]
    draw.shuffle(sentences)
    return replace(document, text=_plant(document.text, sentences, whole, draw), parts=()), found


def _plant(text: str, sentences: Seq[str], whole: Seq[str], draw: random.Random) -> str:
    """The text with sentences in it, each in its own stretch, and none within what stays whole."""
    kept = sorted((at := text.index(each), at + len(each)) for each in whole)
    parts, last = [], 0
    for number, sentence in enumerate(sentences):
        low = len(text) * number // len(sentences)
        high = len(text) * (number + 1) // len(sentences)
        end = _SENTENCE_END.search(text, max(last, draw.randrange(low, max(high, low + 1))), high)
        at = max(last, high) if end is None else end.end()
        at = next((stop for start, stop in kept if start < at < stop), at)
        before = text[last:at]
        gap = "\n" if before.endswith("\n") else " "
        parts += [before, "" if not before or before[-1].isspace() else " ", sentence, gap]
        last = at
    return "".join([*parts, text[last:]])


def _keys(draw: random.Random, text: str) -> Iterator[Made]:
    every = list(product(_COLOURS, _THINGS))
    for colour, thing in draw.sample(every, len(every)):
        key = str(draw.randrange(1_000_000, 10_000_000))
        fact = f"The pass key of the {colour} {thing} is {key}."
        yield f"What is the pass key of the {colour} {thing}?", [key], [fact], [fact]


def _several(draw: random.Random, text: str) -> Iterator[Made]:
    every = list(product(_EVENTS, _TOWNS))
    for event, town in draw.sample(every, len(every)):
        names = draw.sample(_names(), 3)
        facts = [f"{name} won a prize at the {event} of {town}." for name in names]
        lists = [list(each) for each in permutations(names)]
        answers = [f"{a}, {b} and {c}" for a, b, c in lists] + [", ".join(each) for each in lists]
        yield f"Who won prizes at the {event} of {town}? Name all three.", answers, facts, facts


def _hops(draw: random.Random, text: str) -> Iterator[Made]:
    people = draw.sample(_names(), 2 * len(_TOWNS))
    for number, town in enumerate(draw.sample(_TOWNS, len(_TOWNS))):
        owner, master = people[2 * number], people[2 * number + 1]
        facts = [f"{owner} keeps a boat in {town}.", f"The harbour master of {town} is {master}."]
        question = f"Who is the harbour master of the town in which {owner} keeps a boat?"
        yield question, [master], facts, facts


def _reworded(draw: random.Random, text: str) -> Iterator[Made]:
    every = list(product(_ROLES, _REWORDED))
    for role, (fact, question, answer) in draw.sample(every, len(every)):
        drawn = {
            "year": draw.randrange(1800, 1900), "kilos": draw.randrange(50, 120),
            "town": draw.choice(_TOWNS), "name": draw.choice(_names()), "other": _ROLES[role],
        }  # fmt: skip
        said = f"The {role} {fact.format(**drawn)}."
        yield question.format(**drawn), [answer.format(**drawn)], [said], [said]


def _copied(draw: random.Random, text: str) -> Iterator[Made]:
    found = [each.strip() for each in _SENTENCE_END.split(text)]
    fit = [each for each in found if _LEAST_WORDS <= len(each.split()) <= _MOST_WORDS]
    fit = list(dict.fromkeys(fit))
    draw.shuffle(fit)
    made = 0
    for each in fit:
        words = each.split()
        given, rest = " ".join(words[:_GIVEN_WORDS]), " ".join(words[_GIVEN_WORDS:])
        alike = sum(" ".join(other.split()).startswith(given) for other in found)
        if text.count(each) == 1 and alike == 1 and each[-1] in ".!?":
            made += 1
            yield f'How does the sentence go on that begins "{given}"?', [rest], [each], []
    raise DocumentError(
        f"the document has {made} sentences of {_LEAST_WORDS} to {_MOST_WORDS} words that stand in "
        "it once, and one is needed for every question of kind copied; give a longer document, or "
        "fewer questions"
    )


def _names() -> list[str]:
    return [f"{first} {last}" for first, last in product(_FIRST, _LAST)]


_MAKERS: dict[str, Callable[[random.Random, str], Iterator[Made]]] = {
    "key": _keys, "several": _several, "hop": _hops, "reworded": _reworded, "copied": _copied,
}  # fmt: skip

__all__ = ["KINDS", "MOST", "planted"]
