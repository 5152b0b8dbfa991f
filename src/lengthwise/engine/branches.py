"""Branches: many continuations of one text that do not see each other, in one forward.

They are a tree of several roots behind what was read (Uni-Encoder, arXiv 2106.01263: candidates
behind one context under an arrow mask, positions of each anew). The text sees none of them, for it
was read before. So each gets what it gets alone, by the law that drafting changes nothing. What
begins alike is one branch. What is longer than the sequence has room for before its cache changes
is fed on a fork of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq

import torch
from torch import Tensor

from lengthwise._utils.messages import ran_out
from lengthwise.engine.forced import forced_together, most_fed, require_numbers
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, NotFinite

# Tokens of a forward: their logits and their mask are small beside the model.
TOKENS = 512

# The number of a row, and of one of its branches.
Name = tuple[int, int]
Rows = Seq[tuple[Sequence, Seq[Seq[int]]]]


def forced_branches(rows: Rows, most: int = TOKENS) -> Iterator[tuple[int, int, Tensor]]:
    """Feeds branches behind texts and tells what predicted them; the texts stay as they were.

    Args:
        rows: sequences of one model, their prompts read and ended; each with its branches, ids of
            at least one token. No two sequences are one.
        most: tokens of a forward.

    Yields:
        The number of a row, that of a branch, and logits `[n, vocab]` that predicted its next n
        tokens. A branch may come in several parts, in order.

    Raises:
        NotFinite: for logits that are no numbers.
        LengthwiseError: for a sequence that has read no prompt, or has not ended it.
    """
    together: list[Name] = []
    alone: list[Name] = []
    for row, (sequence, branches) in enumerate(rows):
        if sequence.last_logits is None or sequence.prompt_length is None:
            raise LengthwiseError("branches can only be fed behind a prompt that was read")
        room = 1 if _plans_are_shared(sequence) else most_fed(sequence, most)
        for number, tokens in enumerate(branches):
            if len(tokens) > 1:
                (together if len(tokens) - 1 <= room else alone).append((row, number))
                continue
            require_numbers(sequence.last_logits[None], len(sequence))
            yield row, number, sequence.last_logits[None]
    for group in _groups(rows, together, most):
        yield from _score(rows, group)
    yield from _on_forks(rows, alone)


class _Forest:
    """Branches behind one sequence, as a tree of several roots."""

    def __init__(self) -> None:
        self.tree: Tree | None = None
        self._roots: dict[int, int] = {}
        self.nodes: dict[int, list[int]] = {}

    def missing(self, fed: Seq[int]) -> int:
        """Nodes that a chain would add."""
        return len(fed) - len(self._known(fed))

    def add(self, number: int, fed: Seq[int]) -> None:
        """Adds a chain; `nodes` says where a branch of that number stands."""
        path = self._known(fed)
        if not path:
            if self.tree is None:
                self.tree, node = Tree(fed[0]), 0
            else:
                node = self.tree.add_root(fed[0])
            self._roots[fed[0]] = node
            path = [node]
        assert self.tree is not None
        for token in fed[len(path) :]:
            path.append(self.tree.add(path[-1], token))
        self.nodes[number] = path

    def _known(self, fed: Seq[int]) -> list[int]:
        path: list[int] = []
        for token in fed:
            below = self._roots if not path or self.tree is None else self.tree.children[path[-1]]
            if token not in below:
                break
            path.append(below[token])
        return path


def _plans_are_shared(sequence: Sequence) -> bool:
    """Whether a selection uses a plan again that one of several branches would have made."""
    selectors = ((g.selector, g.near_start) for _, g in sequence.groups() if g.selector is not None)
    return any(each.tokens_until_change(len(sequence), at) is not None for each, at in selectors)


def _groups(rows: Rows, names: Seq[Name], most: int) -> Iterator[dict[int, _Forest]]:
    """Forests by row, of `most` nodes together at most."""
    found: dict[int, _Forest] = {}
    held = 0
    for row, number in names:
        fed = rows[row][1][number][:-1]
        new = found.get(row, _Forest()).missing(fed)
        if held + new > most and found:
            yield found
            found, held, new = {}, 0, len(fed)
        found.setdefault(row, _Forest()).add(number, fed)
        held += new
    if found:
        yield found


def _score(rows: Rows, group: dict[int, _Forest]) -> Iterator[tuple[int, int, Tensor]]:
    """One forward for the forests of a group; several where memory or numbers say so."""
    names = [(row, number) for row, forest in group.items() for number in forest.nodes]
    try:
        found = _feed([(rows[row][0], forest) for row, forest in group.items()])
    except Exception as error:
        for row in group:
            rows[row][0].discard()
        if len(names) == 1 or not (ran_out(error) or isinstance(error, NotFinite)):
            raise
        found = None
    if found is None:
        # A branch that overflows spoils the others: in attention nothing times NaN is NaN.
        half = len(names) // 2
        for part in (names[:half], names[half:]):
            for smaller in _groups(rows, part, sum(len(rows[r][1][n]) for r, n in part)):
                yield from _score(rows, smaller)
        return
    for (row, forest), logits in zip(group.items(), found, strict=True):
        last = rows[row][0].last_logits
        assert last is not None
        for number, nodes in forest.nodes.items():
            at = torch.tensor(nodes, device=logits.device)
            yield row, number, torch.cat([last[None], logits[at]])


def _feed(forests: Seq[tuple[Sequence, _Forest]]) -> list[Tensor]:
    """Logits `[nodes, vocab]` of each forest; the sequences are as they were."""
    items = []
    for sequence, forest in forests:
        assert forest.tree is not None and sequence.last_logits is not None
        require_numbers(sequence.last_logits[None], len(sequence))
        items.append((sequence, forest.tree.tokens, forest.tree))
    found, _ = extend(items, "all")
    for sequence, _ in forests:
        sequence.discard()
    for (sequence, _), logits in zip(forests, found, strict=True):
        require_numbers(logits, len(sequence))
    return found


def _on_forks(rows: Rows, names: Seq[Name]) -> Iterator[tuple[int, int, Tensor]]:
    """Branches that no forest has room for, each on a fork."""
    for start in range(0, len(names), 8):
        part = names[start : start + 8]
        forks = [(rows[row][0].branch(), rows[row][1][number]) for row, number in part]
        for place, logits in forced_together(forks):
            yield *part[place], logits


__all__ = ["TOKENS", "forced_branches"]
