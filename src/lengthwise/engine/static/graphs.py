"""Who serves a decoding step: a CUDA graph of the static step, the static step itself, or neither.

LENGTHWISE_GRAPH is `on` (the default: graphs on CUDA, the ordinary step elsewhere), `off`, or
`twin`: the static step as it is written, on any device.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise._utils.saying import say_once
from lengthwise.engine.kernels.choice import overridden, using
from lengthwise.engine.kernels.varlen import DTYPES
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.static.rooms import Rooms, open_rooms
from lengthwise.engine.static.step import Inputs, StaticStep, by_flash, inputs_of, size_of
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.fused import FusedForward, Parts
from lengthwise.models.obstacles import DEVICES

VARIABLE = "LENGTHWISE_GRAPH"
CHOICES = ("on", "off", "twin")
# Graphs that are kept for rows that come to lie where others lay.
KEPT = 16
# Steps as they are written before one is captured; twice as many each time that a graph served
# fewer than WORTH steps, up to MOST.
FIRST_STEPS, MOST, WORTH = 1, 16, 16
# How far logits of a replay may be from those of the step as it is written, of their spread.
CLOSE = 0.05


Outputs = tuple[Tensor, Tensor, Tensor]


@dataclass(eq=False)
class Served:
    """logits: `[nodes, vocab]` of each row. steps: what to commit. best: of rows of one token the
    likeliest one and its logit, where they are known. settled: the next such step takes as long;
    one that is about to be captured, or just was, takes longer."""

    logits: list[Tensor]
    steps: list[StepMetadata]
    best: list[tuple[int, float] | None]
    settled: bool = True


@dataclass(eq=False)
class _Graph:
    """A captured step. It holds nobody's cache: it may be replayed where `Rooms.address` is what
    it was."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    outputs: Outputs
    replays: int = 0

    def __call__(self, inputs: Inputs) -> Outputs:
        self.inputs.copy_(inputs)
        self.graph.replay()
        self.replays += 1
        # The next replay writes to the same memory.
        logits, best, states = self.outputs
        return logits.clone(), best.clone(), states.clone()


@dataclass(eq=False)
class _Open:
    """Rows whose memory is known, and by the size of their trees the steps over it. runs: of each
    of these, as written."""

    rooms: Rooms
    address: tuple[object, ...]
    steps: dict[int, StaticStep] = field(default_factory=dict)
    runs: Counter[int] = field(default_factory=Counter)


class StaticSteps:
    """Those of one model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakKeyDictionary[Sequence, _Open] = WeakKeyDictionary()
        self._graphs: OrderedDict[tuple[object, ...], _Graph] = OrderedDict()
        self._parts: ReferenceType[Parts] | None = None
        self._weights: tuple[object, ...] = ()
        self._off = False
        self._flash: dict[str | None, list[bool]] = {}
        self._patience = FIRST_STEPS

    @torch.no_grad()
    def serve(
        self, sequences: Seq[Sequence], tokens: Seq[Seq[int]], trees: Seq[Tree] | None = None,
        states: list[Tensor] | None = None, capturing: bool = True,
    ) -> Served | None:  # fmt: skip
        """`serve`; capturing: where that pays, as a graph."""
        model, nodes = sequences[0].model, list(map(len, tokens))
        fused, size = model.fast, size_of(nodes)
        if self._off or size is None:
            return None
        if not isinstance(fused, FusedForward) or model.forward is not fused:
            return None
        if any(map(torch.is_autocast_enabled, DEVICES)):
            return None
        with using(model.kernel):
            wanted = overridden("step")
        if wanted not in self._flash:
            self._flash[wanted] = by_flash(model, wanted)
        flash = self._flash[wanted]
        # Products over all that is allocated read more than ordinary ones.
        if capturing and model.dtype in DTYPES and not all(flash):
            return None
        starts = [len(sequence) for sequence in sequences]
        ahead = 1 if trees is None else max(tree.height for tree in trees)
        with self._lock:
            parts = fused.ready(torch.tensor(starts))
            if parts is None:
                return None
            self._follow(parts)
            opened, lines = self._opened(sequences, nodes, ahead)
            if opened is None or lines is None:
                return None
            if size not in opened.steps:
                step = StaticStep(fused, parts, opened.rooms, size, flash)
                opened.steps[size] = step
            inputs = inputs_of(sequences, tokens, trees, lines)
            settled = not capturing or (size, opened.address) in self._graphs
            try:
                logits, best, seen = self._run(opened, size, inputs, capturing)
            except Exception as error:
                # Nothing is counted as written yet; what is wrong with a model is said below.
                self._give_up(error)
                return None
            opened.rooms.advance(nodes)
        if states is not None:
            states.append(_unfilled(seen, nodes, size))
        steps = [
            StepMetadata(start, torch.arange(start, start + count))
            for start, count in zip(starts, nodes, strict=True)
        ]
        each = [row[:count] for row, count in zip(logits.split(size), nodes, strict=True)]
        return Served(each, steps, _pairs(best, size), settled)

    def _follow(self, parts: Parts) -> None:
        """Weights that lie elsewhere are in no graph."""
        address = parts.address()
        if self._parts is None or self._parts() is not parts or self._weights != address:
            self._graphs.clear()
            self._open.clear()
            self._parts, self._weights = ref(parts), address

    def _opened(
        self, sequences: Seq[Sequence], nodes: Seq[int], ahead: int
    ) -> tuple[_Open | None, list[list[int]] | None]:
        """The rows' memory as it is now, and what layers are told at this step."""
        opened = self._open.get(sequences[0])
        if opened is not None:
            lines = opened.rooms.lines(sequences, nodes, ahead)
            if lines is not None:
                return opened, lines
            del opened
        # What they held would stay beside what entries are moved to.
        stale = [row for row, each in self._open.items() if each.rooms.share(sequences)]
        for row in stale:
            del self._open[row]
        rooms = open_rooms(sequences, nodes)
        if rooms is None:
            return None, None
        opened = self._open[sequences[0]] = _Open(rooms, rooms.address())
        return opened, rooms.lines(sequences, nodes, ahead)

    def _run(self, opened: _Open, size: int, inputs: Inputs, capturing: bool) -> Outputs:
        key, step = (size, opened.address), opened.steps[size]
        graph = self._graphs.get(key)
        if graph is not None:
            self._graphs.move_to_end(key)
            return graph(inputs)
        step.inputs.copy_(inputs)
        opened.runs[size] += 1
        if capturing and opened.runs[size] > self._patience:
            right = step()[0]
            graph = self._capture(step)
            found = graph(inputs)
            _require_alike(found[0], right)
            self._graphs[key] = graph
            return found
        return step()

    def _capture(self, step: StaticStep) -> _Graph:
        # Replays follow each other and what they give is copied, so all share their scratch memory.
        beside = next(iter(self._graphs.values()), None)
        graph, outputs = captured(step, None if beside is None else beside.graph.pool())
        while len(self._graphs) >= KEPT:
            _, old = self._graphs.popitem(last=False)
            worth = old.replays >= WORTH
            self._patience = FIRST_STEPS if worth else min(MOST, 2 * self._patience)
        return _Graph(graph, step.inputs, outputs)

    def _give_up(self, error: Exception) -> None:
        """The ordinary step serves from now on, which is said once."""
        self._off = True
        self._graphs.clear()
        self._open.clear()
        say_once(
            f"decoding steps cannot be captured as CUDA graphs ({first_line(error)}); they are "
            f"launched one by one, which is slower; {VARIABLE}=off does not try"
        )


def _unfilled(states: Tensor, nodes: Seq[int], size: int) -> Tensor:
    """Of what each row's nodes gave `[rows * size, ...]`, that of those it has."""
    if min(nodes) == size:
        return states
    return torch.cat([row[:count] for row, count in zip(states.split(size), nodes, strict=True)])


def _pairs(best: Tensor, size: int) -> list[tuple[int, float] | None]:
    """The likeliest tokens and their logits, float64 `[2, rows]`, on the host; of rows of one token
    alone, for trees are walked."""
    if size > 1:
        return [None] * (best.shape[1] // size)
    ids, values = best.tolist()
    return [(int(each), float(value)) for each, value in zip(ids, values, strict=True)]


def _require_alike(found: Tensor, right: Tensor) -> None:
    """Raises where a graph, replayed for the first time, gives other logits than the step as it is
    written gave for the same tokens."""
    off = (found.float() - right.float()).abs().max()
    if not bool(off <= CLOSE * right.float().std()):
        raise ArithmeticError(f"replayed, one gives logits that are off by {float(off):.2g}")


def captured(step: StaticStep, pool: Any) -> tuple[torch.cuda.CUDAGraph, Outputs]:
    """A step as a graph, and where it leaves what it gives. Nothing of it has run yet. pool: that
    of another graph, or None."""
    graph = torch.cuda.CUDAGraph()
    # Other threads go on asking the device for memory.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        outputs = step()
    return graph, outputs


_STEPS: WeakKeyDictionary[AdaptedModel, StaticSteps] = WeakKeyDictionary()
_MAKING = threading.Lock()


def serve(
    sequences: Seq[Sequence], tokens: Seq[Seq[int]], trees: Seq[Tree] | None = None,
    states: list[Tensor] | None = None,
) -> Served | None:  # fmt: skip
    """One step of static shapes for all rows; None where the ordinary one has to serve.

    Args:
        sequences: rows of one model.
        tokens: of each the next one, chosen but not yet read, or those of its tree's nodes.
        trees: one for each row, of which one at least may have guesses.
        states: a list that gets the hidden states `[nodes of all, hidden]` that logits are read
            from.

    Raises:
        LengthwiseError: for a LENGTHWISE_GRAPH that is none of CHOICES.
    """
    wanted = os.environ.get(VARIABLE, "on")
    if wanted not in CHOICES:
        raise LengthwiseError(f"{VARIABLE}={wanted}: allowed are {', '.join(CHOICES)}")
    model = sequences[0].model
    if wanted == "off" or (wanted == "on" and model.device.type != "cuda"):
        return None
    with _MAKING:
        steps = _STEPS.setdefault(model, StaticSteps())
    return steps.serve(sequences, tokens, trees, states, capturing=wanted == "on")


__all__ = ["CHOICES", "VARIABLE", "Served", "StaticSteps", "captured", "serve"]
