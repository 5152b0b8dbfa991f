"""Programs as trees: what of a program may be left out, and when one completes another.

A node is one of Python's `ast` that stands somewhere in the text. What stands nowhere (operators,
lists of parameters) is part of the node it belongs to. Each has the bytes it spans, so the tokens
that a model wrote are the tokens of nodes: a token is of the deepest node that its first letter
stands in.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from io import StringIO
from itertools import accumulate

from lengthwise.errors import LengthwiseError

# A node's negative log-likelihood counts for so many nats at most, as in the released code.
MOST = 10.0


@dataclass
class ProgramNode:
    """A node of a program. label: all that it says itself. span: bytes of the text, half open.

    nll: of the tokens that are its own, in nats. tokens: how many these are.
    """

    label: str
    span: tuple[int, int]
    children: list[ProgramNode] = field(default_factory=list)
    nll: float = 0.0
    tokens: int = 0

    def preorder(self) -> list[ProgramNode]:
        """The nodes, each in front of those below it."""
        found, waiting = [], [self]
        while waiting:
            node = waiting.pop()
            found.append(node)
            waiting.extend(reversed(node.children))
        return found


def program_of(source: str) -> ProgramNode | None:
    """The tree of a Python program; None for what is none.

    Args:
        source: its text.
    """
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    # Python's lines end at fewer characters than those of `str.splitlines`.
    lines = StringIO(source, newline="")
    starts = [0, *accumulate(len(line.encode()) for line in lines)]
    try:
        return _Reader(starts, source.encode()).node(module)
    except RecursionError:
        return None


class _Reader:
    """Nodes of `ast` as ours. starts: where each line begins, in bytes."""

    def __init__(self, starts: Seq[int], data: bytes) -> None:
        self._starts, self._data = starts, data

    def node(self, found: ast.AST) -> ProgramNode:
        below: list[ast.AST] = []
        label = self._label(found, below)
        children = [self.node(each) for each in below]
        start, end = self._span(found)
        start = min([start, *(child.span[0] for child in children)])
        end = max([end, *(child.span[1] for child in children)])
        if getattr(found, "decorator_list", None):
            # Decorators stand before what is said to be a function's beginning.
            start = self._data.rindex(b"@", 0, start)
        return ProgramNode(label, (start, end), children)

    def _span(self, found: ast.AST) -> tuple[int, int]:
        if isinstance(found, ast.Module):
            return 0, len(self._data)
        places = (found.lineno, found.col_offset, found.end_lineno, found.end_col_offset)  # type: ignore[attr-defined]
        line, column, last, end = places
        return self._starts[line - 1] + column, self._starts[last - 1] + end

    def _label(self, found: ast.AST, below: list[ast.AST]) -> str:
        if isinstance(found, ast.JoinedStr):
            # Where the parts of a formatted string stand is not told by all versions.
            return ast.dump(found)
        fields = [f"{name}={self._value(value, below)}" for name, value in ast.iter_fields(found)]
        return f"{type(found).__name__}({', '.join(fields)})"

    def _value(self, value: object, below: list[ast.AST]) -> str:
        if isinstance(value, list):
            return f"[{', '.join(self._value(each, below) for each in value)}]"
        if isinstance(value, ast.expr_context):
            return ""
        if isinstance(value, ast.AST):
            if hasattr(value, "lineno"):
                below.append(value)
                return "_"
            return self._label(value, below)
        return repr(value)


def completes(program: ProgramNode, other: ProgramNode, kept: Seq[bool]) -> bool:
    """Whether another program is this one, but for what was left out of it.

    A subtree that was left out stands for one subtree, whatever it is.

    Args:
        program: that nodes were left out of.
        other: the program that may complete it.
        kept: of each node of `program`, in preorder, whether it was kept.
    """
    place = {id(node): number for number, node in enumerate(program.preorder())}
    waiting = [(program, other)]
    while waiting:
        one, two = waiting.pop()
        if not kept[place[id(one)]]:
            continue
        if one.label != two.label or len(one.children) != len(two.children):
            return False
        waiting.extend(zip(one.children, two.children, strict=True))
    return True


def weigh(program: ProgramNode, pieces: Seq[bytes], logprobs: Seq[float], start: int = 0) -> None:
    """Gives every node the negative log-likelihood of its own tokens.

    Args:
        program: whose text ends with the tokens.
        pieces: the bytes of each token.
        logprobs: natural log-probability of each.
        start: where the first one begins in the program's bytes; below 0 where tokens stand in
            front of it, which count for nothing.
    """
    if len(pieces) != len(logprobs):
        raise LengthwiseError(f"{len(pieces)} tokens have {len(logprobs)} log-probabilities")
    at = start
    for piece, logprob in zip(pieces, logprobs, strict=True):
        if at >= program.span[1]:
            break
        letter = at + len(piece) - len(piece.lstrip())
        if at + len(piece) > 0 and letter >= 0:
            node = _deepest(program, letter)
            node.nll, node.tokens = node.nll - logprob, node.tokens + 1
        at += len(piece)
    for node in program.preorder():
        node.nll = min(MOST, max(0.0, node.nll))


def _deepest(program: ProgramNode, at: int) -> ProgramNode:
    found = program
    while True:
        inside = [each for each in found.children if each.span[0] <= at < each.span[1]]
        if not inside:
            return found
        found = inside[0]


def with_holes(source: str, program: ProgramNode, kept: Seq[bool], hole: str = "??") -> str:
    """The text of a program with a sign for each subtree that was left out.

    Args:
        source: its text.
        program: its tree.
        kept: of each node, in preorder, whether it was kept.
        hole: the sign.
    """
    data, out, at = source.encode(), bytearray(), 0
    left_out_to = -1
    for node, keep in zip(program.preorder(), kept, strict=True):
        start, end = node.span
        if keep or start < left_out_to:
            continue
        out += data[at:start] + hole.encode()
        at = left_out_to = max(end, at)
    return (bytes(out) + data[at:]).decode()


__all__ = ["MOST", "ProgramNode", "completes", "program_of", "weigh", "with_holes"]
