"""Programs as trees: what is a node, whose a token is, and what completes what."""

from __future__ import annotations

import math

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.pac.program_tree import (
    MOST,
    ProgramNode,
    completes,
    program_of,
    weigh,
    with_holes,
)

SOURCE = 'def add(a, b):\n    """Säure."""\n    return a + b * 2\n'


def tree(source: str) -> ProgramNode:
    found = program_of(source)
    assert found is not None
    return found


def texts(source: str) -> list[str]:
    data = source.encode()
    return [data[slice(*node.span)].decode() for node in tree(source).preorder()]


def without(source: str, hole: str) -> list[bool]:
    """Keeps all but one subtree, by its text."""
    gone: tuple[int, int] | None = None
    kept = []
    for node in tree(source).preorder():
        if gone is None and source.encode()[slice(*node.span)].decode() == hole:
            gone = node.span
        inside = gone is not None and gone[0] <= node.span[0] and node.span[1] <= gone[1]
        kept.append(not inside)
    assert gone is not None
    return kept


def test_nodes_span_their_text_whatever_the_letters() -> None:
    assert texts(SOURCE) == [SOURCE, SOURCE.strip(), "a", "b", '"""Säure."""', '"""Säure."""',
                             "return a + b * 2", "a + b * 2", "a", "b * 2", "b", "2"]  # fmt: skip
    assert texts("@f\ndef g(): pass\n")[1] == "@f\ndef g(): pass"
    # Signs that end a line for `str.splitlines`, and none of Python's.
    for sign in ("\x0c", "\x1d", "\x85", "\u2028"):
        assert texts(f"a = 'x{sign}y'\nb = 2\n")[-2:] == ["b", "2"]
    assert program_of("def (") is None and program_of("(" * 5000) is None
    assert program_of("a\0b") is None


def test_a_hole_stands_for_any_one_subtree() -> None:
    kept = without(SOURCE, "b * 2")
    for other, right in (("b * 2", True), ("f(b)[0]", True), ("3", True)):
        assert completes(tree(SOURCE), tree(SOURCE.replace("b * 2", other)), kept) is right
    assert not completes(tree(SOURCE), tree(SOURCE.replace("a +", "a -")), kept)
    assert not completes(tree(SOURCE), tree(SOURCE.replace("add", "sum")), kept)
    assert not completes(tree(SOURCE), tree(SOURCE + "x = 1\n"), kept)
    # Where all is left out everything completes it; spaces and comments are no part of a program.
    assert completes(tree(SOURCE), tree("x"), [False] * len(kept))
    spaced = SOURCE.replace("a + b", "(a  +  b").replace("2\n", "2)  # twice\n").replace("(a", "a")
    assert completes(tree("f(a)"), tree("f( a )  # b"), [True] * 5)
    assert program_of(spaced) is None


def test_text_with_holes() -> None:
    assert with_holes(SOURCE, tree(SOURCE), without(SOURCE, "b * 2")).endswith("return a + ??\n")
    assert with_holes("f(a, b)", tree("f(a, b)"), [False] * 6) == "??"
    assert with_holes("f(a, b)", tree("f(a, b)"), [True, True, True, True, False, False]) == (
        "f(??, ??)"
    )


def test_tokens_are_of_the_deepest_node() -> None:
    program = tree("f(a, bb)")
    pieces = [b"f", b"(", b"a", b",", b" b", b"b", b")"]
    weigh(program, pieces, [-1.0, -0.5, -2.0, -0.25, -3.0, -20.0, -0.125])
    nodes = {(node.label.split("(")[0], node.span): node for node in program.preorder()}
    assert nodes["Call", (0, 8)].nll == 0.5 + 0.25 + 0.125 and nodes["Call", (0, 8)].tokens == 3
    assert nodes["Name", (2, 3)].nll == 2.0
    # Of one node no more than the most counts.
    assert nodes["Name", (5, 7)].nll == MOST and nodes["Name", (5, 7)].tokens == 2
    assert math.isclose(sum(node.tokens for node in program.preorder()), len(pieces))


def test_tokens_before_the_program_are_of_nobody() -> None:
    program = tree("x = 1\n")
    weigh(program, [b"```", b"py\n", b"x", b" =", b" 1", b"\n"], [-5, -5, -1, -1, -1, -1], -6)
    assert sum(node.tokens for node in program.preorder()) == 4
    with pytest.raises(LengthwiseError, match="1 tokens have 2"):
        weigh(program, [b"x"], [0.0, 0.0])
