"""The page docs/compatibility.md: what goes with what, by class of capability.

Methods that declare the same are one class: the same hooks, the same kind of placement and the
same flags, which is all that the rules of composition ask of a method. The page gives one verdict
for two classes, the one that most pairs of their members got when they were run
(docs/compatibility.json), and names every pair that got another. So it says as much as a table of
all pairs, and `class_tables.expand` gives that table back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

from class_tables import ALONE, Cell, Class, Reasons, Table, exceptions, grid, names, shown, usual

from lengthwise.methods.base import Method, Question
from lengthwise.methods.slots import SLOTS, questions
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes.piece import Piece
from lengthwise.recipes.registry import methods
from lengthwise.testing.laws import law_model
from lengthwise.testing.matrix import Matrix, Verdict

TOP = """\
# What goes with what

Made by `make docs`. Every two methods were run together and every method on every family, on tiny
random models; [compatibility.json](compatibility.json) holds what was found, and
`python -m lengthwise.testing --write docs/compatibility.json` finds all of it again.

Methods of `prompting` say what stands in a prompt before any of it is read. Each goes with every
other method and with no second one of its kind, on every family, so they are in no table.
Methods of `decoding` see the laws that come of a prompt, and forks of what was read. Each goes with
every method here, but that drafters are refused beside searches and laws that depend on the moment
([decoding](decoding.md)).

Methods that declare the same stand together as a class, question by question: where a method
answers, its classes are listed, and what they go with of each question. A cell is what its pairs of
methods got; the pairs that got something else are named at the end of the tables.

- **exact**: how the text is fed makes no difference. A prompt read whole, read in chunks or fed
  token by token gives the same logits to 1e-4 of their spread, and drafting gives the same tokens.
- **approx.**: runs, and drafting gives the same tokens. But the method plans by blocks of queries,
  or treats prompt and answer differently, so another chunking may give slightly other logits.
- **no**, with a number: refused before the run, for the reason of that number, where A and B are
  the two methods.

## Methods with each other

On a tiny llama, each method at the setting of its `example()`.
"""
CLASSES = """\
| class | declares that it | methods |
|---|---|---|
"""
FAMILIES = """\
## Methods on families

- **exact**: at the setting that does nothing the method equals full attention to 1e-4.
- **partly**: the same, and layers that keep a sliding window of their own are left as they are.
- **no**, with a number: refused, for the reason below the table, where A is the method.

| class | has | families |
|---|---|---|
"""
# What hooks do, where the slot does not say it, and what else the rules ask of a method.
HOOK_WORDS = {
    "placement": "says where keys stand",
    "start_codec": "decides alone how keys and values are stored",
    "start_format": "decides in which numbers keys and values are stored",
    "start_drafter": "guesses",
}
FLAGS = {
    "frozen_positions": "holds objects made of rotated keys",
    "ordinary_only": "needs every key near",
    "deletes_each_step": "deletes at every step",
    "deletable": "can lose encoded entries one by one",
}
UNLESS = {
    "chunking_exact": "reads chunks otherwise than one pass",
    "decoding_exact": "decodes otherwise than it reads",
}


def declares(cls: type[Method], model: AdaptedModel) -> tuple[str, ...]:
    """What the rules of composition see of a method, in words."""
    method = cls.example()
    piece = Piece.of(method, model)
    words = [
        HOOK_WORDS.get(slot.hook) or f"decides {slot.owns}"
        for slot in SLOTS
        if slot.hook in piece.hooks
    ]
    seen = {
        "follows the length of the text": piece.rule is not None and piece.rule.dynamic,
        "moves far keys": piece.far_moved,
        "keeps a fixed few beyond a window": piece.bounded,
        "turns stored keys": piece.moves_stored_keys,
        "holds far keys off the device": bool(piece.placement and piece.placement.offload),
    }
    words += [word for word, holds in seen.items() if holds]
    words += [word for flag, word in FLAGS.items() if getattr(method, flag)]
    return (*words, *(word for flag, word in UNLESS.items() if not getattr(method, flag)))


def method_classes(matrix: Matrix) -> list[Class]:
    """The measured methods by what they declare, question by question."""
    known, model = methods(), law_model("llama")
    found: dict[tuple[Question, tuple[str, ...]], list[str]] = defaultdict(list)
    for name in matrix.names:
        found[known[name].question, declares(known[name], model)].append(name)
    classes, letters = [], dict[Question, str]()
    for question in Question:
        of_it = [(words, mine) for (each, words), mine in found.items() if each is question]
        letters[question] = next(x for x in question.value.upper() if x not in letters.values())
        for number, (words, mine) in enumerate(sorted(of_it, key=lambda x: x[1]), 1):
            classes.append(Class(f"{letters[question]}{number}", words, tuple(mine)))
    return classes


def family_classes(matrix: Matrix) -> list[Class]:
    """The families by what they have."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for family, words in matrix.traits.items():
        found[words].append(family)
    items = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Class(f"F{n}", words, tuple(names)) for n, (words, names) in enumerate(items, 1)]


def pairs_table(matrix: Matrix, classes: Sequence[Class]) -> Table:
    """One verdict for two classes; a class alone stands in the column ALONE."""
    cells, others = {}, {}
    for each in classes:
        cell, other = usual({(n, ALONE): _cell(matrix.between(n, n)) for n in each.members})
        cells[each.code, ALONE] = cell
        others.update(other)
    for a, b in combinations_with_replacement(classes, 2):
        found = {
            tuple(sorted((x, y))): _cell(matrix.between(x, y))
            for x in a.members for y in b.members if x != y
        }  # fmt: skip
        if found:
            cell, other = usual(found)
            cells[a.code, b.code] = cells[b.code, a.code] = cell
            others.update(other)
    return Table(cells, others)


def families_table(matrix: Matrix, classes: Sequence[Class], families: Sequence[Class]) -> Table:
    """One verdict for a class of methods on a class of families."""
    cells, others = {}, {}
    for a in classes:
        for b in families:
            cell, other = usual({
                (name, family): _cell(matrix.families[family, name])
                for name in a.members for family in b.members
            })  # fmt: skip
            cells[a.code, b.code] = cell
            others.update(other)
    return Table(cells, others)


def _cell(verdict: Verdict) -> Cell:
    return verdict.kind, verdict.reason


def page(matrix: Matrix) -> str:
    """The whole page."""
    classes, families = method_classes(matrix), family_classes(matrix)
    lines, reasons, inside = [TOP.rstrip("\n")], Reasons(), by_question(classes)
    pairs, words = pairs_table(matrix, classes), questions()
    for question, mine in inside.items():
        codes = [each.code for each in mine]
        lines += ["", f"### {words[question.value]} (`{question.value}`)", ""]
        lines += [CLASSES.rstrip("\n"), *map(_class_row, mine), ""]
        for other, theirs in inside.items():
            columns = [each.code for each in theirs]
            if other is question:
                lines += ["Alone, and with each other:", ""]
                columns = [ALONE, *columns]
            else:
                lines += [f"With `{other.value}`:", ""]
            lines += [*grid(pairs, codes, columns, reasons), ""]
    lines += ["### Pairs that got something else", "", *exceptions(pairs, reasons), ""]
    lines += ["### Why not", ""]
    lines += [*reasons.lines(), *_absent(matrix)]
    codes = [each.code for each in classes]
    lines += ["", FAMILIES.rstrip("\n"), *map(_class_row, families), ""]
    lines += shown(
        families_table(matrix, classes, families), codes, [each.code for each in families]
    )
    return "\n".join(lines) + "\n"


def by_question(classes: Sequence[Class]) -> dict[Question, list[Class]]:
    """Classes of methods under the question that their methods answer."""
    known = methods()
    found: dict[Question, list[Class]] = defaultdict(list)
    for each in classes:
        found[known[each.members[0]].question].append(each)
    return found


def _class_row(each: Class) -> str:
    return f"| **{each.code}** | {'; '.join(each.words)} | {names(each.members)} |"


def _absent(matrix: Matrix) -> Iterator[str]:
    if matrix.absent:
        yield "\nNot in the tables, because nothing can be run without what the user has to give:\n"
        for name, reason in matrix.absent.items():
            yield f"- `{name}`: {reason}"
