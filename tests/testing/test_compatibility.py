"""The matrix is what the resolver says, and the page by classes says as much as the matrix."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lengthwise.errors import Refused
from lengthwise.methods.base import Question
from lengthwise.recipes import resolve
from lengthwise.recipes.registry import methods
from lengthwise.testing.laws import law_model
from lengthwise.testing.matrix import (
    APPROXIMATE,
    EXACT,
    REFUSED,
    Matrix,
    Verdict,
    declared,
    family_traits,
    general,
    judge_family,
    measured,
    missing,
)
from lengthwise.testing.tiny import FAMILIES, tiny

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
import class_tables  # noqa: E402
import compatibility  # noqa: E402

TEXT = (DOCS / "compatibility.json").read_text(encoding="utf-8")
MATRIX = Matrix.read(TEXT)


def cell(verdict: Verdict) -> class_tables.Cell:
    return verdict.kind, verdict.reason


def check_page(text: str, matrix: Matrix) -> None:
    """What can be concluded from a page is what was found, for every two, alone and on families."""
    page = class_tables.read(text)
    pairs = class_tables.expand(page.pairs, page.rows, page.rows)
    wanted = {(a, b): cell(matrix.between(a, b)) for a in matrix.names for b in matrix.names}
    assert pairs == {pair: each for pair, each in wanted.items() if pair[0] != pair[1]}
    alone = class_tables.Class(class_tables.ALONE, (), (class_tables.ALONE,))
    found = class_tables.expand(page.pairs, page.rows, [alone])
    assert {name: each for (name, _), each in found.items()} == {
        name: wanted[name, name] for name in matrix.names
    }
    on_families = class_tables.expand(page.on_families, page.rows, page.families)
    assert on_families == {(n, f): cell(each) for (f, n), each in matrix.families.items()}
    assert page.absent == matrix.absent


def test_the_page_says_what_was_found() -> None:
    check_page((DOCS / "compatibility.md").read_text(encoding="utf-8"), MATRIX)


def test_what_was_found_is_of_the_methods_and_families_there_are() -> None:
    known = measured()
    assert {*MATRIX.names, *MATRIX.absent} == set(known)
    assert list(MATRIX.traits) == list(FAMILIES)
    assert set(MATRIX.families) == {(f, n) for f in FAMILIES for n in MATRIX.names}


def test_what_was_found_is_what_the_resolver_says() -> None:
    known, llama = measured(), law_model("llama")
    assert MATRIX.absent == {n: why for n, cls in known.items() if (why := missing(cls, llama))}
    for (a, b), verdict in MATRIX.pairs.items():
        both = [known[name].example() for name in dict.fromkeys((a, b))]
        assert verdict.kind == declared(both, llama), (a, b)
        assert bool(verdict.reason) == (verdict.kind == REFUSED)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mistral"])
def test_families_are_what_is_said_of_them(family: str) -> None:
    assert MATRIX.traits[family] == family_traits(tiny(family))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_found_on_a_family_is_found_again(family: str) -> None:
    """A few methods a family, others on the next; every two methods are run in test_recipes."""
    known, model = measured(), tiny(family)
    assert MATRIX.traits[family] == family_traits(model)
    for name in MATRIX.names[list(FAMILIES).index(family) % 10 :: 10]:
        found = general(judge_family(known[name], model), (name,))
        assert found == MATRIX.families[family, name], name


def test_pairs_that_are_not_as_their_classes_are_named() -> None:
    """Today no pair is: so one is made up, in a class of many, and one alone, and one family."""
    (some, other), single = ("lookup", "yarn"), ("lookup", "lookup")
    assert MATRIX.between(some, other).kind == MATRIX.between(*single).kind == EXACT
    odd = Verdict(REFUSED, "A and B are odd; choose A or B")
    changed = replace(
        MATRIX,
        pairs={**MATRIX.pairs, (some, other): odd, single: Verdict(APPROXIMATE)},
        families={**MATRIX.families, ("llama", some): Verdict(APPROXIMATE)},
    )
    text = compatibility.page(changed)
    check_page(text, changed)
    assert "\n- `lookup` with `yarn`: no " in text
    assert f"\n- `lookup` with `alone`: {APPROXIMATE}\n" in text
    assert f"\n- `lookup` with `llama`: {APPROXIMATE}\n" in text
    with pytest.raises(AssertionError):
        check_page(text, MATRIX)


def test_a_class_has_one_cell_for_each_other() -> None:
    """A class has a cell for each other, however many methods are in it."""
    page = class_tables.read(compatibility.page(MATRIX))
    assert len(page.rows) < len(MATRIX.names)
    lonely = sum(len(each.members) == 1 for each in page.rows)
    assert len(page.pairs.cells) == len(page.rows) ** 2 - lonely + len(page.rows)
    assert len(page.on_families.cells) == len(page.rows) * len(page.families)


def test_a_matrix_is_read_as_it_was_written() -> None:
    assert MATRIX.dump() == TEXT
    assert Matrix.read(MATRIX.dump()) == MATRIX


def test_methods_of_decoding_go_with_all_but_who_guesses() -> None:
    """As the page says of those that stand in no table."""
    model, refused = law_model("llama"), set()
    decoders = [cls for cls in methods().values() if cls.question == Question.DECODING]
    for cls in (cls for cls in decoders if not missing(cls, model)):
        for other in (other for other in measured().values() if not missing(other, model)):
            try:
                resolve((other.example(), cls.example()), model)
            except Refused:
                if other.question != Question.DRAFTING:
                    refused.add((cls.name, other.name))
    # Mixtures of tokens stand at no one place.
    assert refused == {("superposed", "rope_alibi")}
