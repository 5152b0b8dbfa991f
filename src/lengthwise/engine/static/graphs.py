"""Who serves a decoding step: a CUDA graph of the static step, the static step itself, or neither.

LENGTHWISE_GRAPH is `on` (the default: graphs on CUDA, the ordinary step elsewhere), `off`, or
`twin`: the static step as it is written, on any device.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line, say_once
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.static.rooms import open_rooms
from lengthwise.engine.static.step import StaticStep
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.fused import FusedForward, Parts
from lengthwise.models.obstacles import DEVICES

VARIABLE = "LENGTHWISE_GRAPH"
CHOICES = ("on", "off", "twin")
# Graphs that are kept for rows that come to lie where others lay.
KEPT = 8
# Steps as they are written before one is captured; twice as many each time that a graph served
# fewer than WORTH steps, up to MOST.
FIRST_STEPS, MOST, WORTH = 2, 64, 16


@dataclass(eq=False)
class Served:
    """logits: `[1, vocab]` of each row. steps: what to commit. best: the likeliest token of each
    row and its logit, where they are known."""

    logits: list[Tensor]
    steps: list[StepMetadata]
    best: list[tuple[int, float] | None]


@dataclass(eq=False)
class _Graph:
    """A captured step. It holds nobody's cache: it may be replayed where `Rooms.address` is what
    it was."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    logits: Tensor
    best: Tensor
    replays: int = 0

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        self.inputs.copy_(inputs)
        self.graph.replay()
        self.replays += 1
        # The next replay writes to the same memory.
        return self.logits.clone(), self.best


@dataclass(eq=False)
class _Open:
    """Rows whose memory is known. runs: steps since it was."""

    step: StaticStep
    address: tuple[object, ...]
    runs: int = 0


class StaticSteps:
    """Those of one model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakKeyDictionary[Sequence, _Open] = WeakKeyDictionary()
        self._graphs: OrderedDict[tuple[object, ...], _Graph] = OrderedDict()
        self._parts: ReferenceType[Parts] | None = None
        self._failed = False
        self._patience = FIRST_STEPS

    @torch.no_grad()
    def serve(
        self, model: AdaptedModel, sequences: Seq[Sequence], tokens: Seq[int], capturing: bool
    ) -> Served | None:
        """One step of all rows, their new entries in place; None where it is no static one."""
        fused = model.fast
        if not isinstance(fused, FusedForward) or model.forward is not fused:
            return None
        if any(map(torch.is_autocast_enabled, DEVICES)):
            return None
        starts = [len(sequence) for sequence in sequences]
        with self._lock:
            parts = fused.ready(torch.tensor(starts))
            if parts is None:
                return None
            self._follow(parts)
            opened, lines = self._opened(fused, parts, sequences, tokens, model.kernel)
            if opened is None or lines is None:
                return None
            logits, best = self._run(opened, torch.tensor(lines), capturing)
            opened.step.rooms.advance()
            ids, values = best.tolist()
        steps = [StepMetadata(start, torch.tensor([start])) for start in starts]
        pairs = [(int(each), float(value)) for each, value in zip(ids, values, strict=True)]
        return Served(list(logits.split(1)), steps, [*pairs])

    def _follow(self, parts: Parts) -> None:
        """Weights that changed, or lie elsewhere, are in no graph."""
        if self._parts is None or self._parts() is not parts:
            self._graphs.clear()
            self._open.clear()
            self._parts = ref(parts)

    def _opened(
        self, fused: FusedForward, parts: Parts, sequences: Seq[Sequence], tokens: Seq[int],
        kernel: str | None,
    ) -> tuple[_Open | None, list[list[int]] | None]:  # fmt: skip
        """The rows' memory as it is now, and what this step is given."""
        opened = self._open.get(sequences[0])
        if opened is not None:
            lines = opened.step.rooms.inputs(sequences, tokens)
            if lines is not None:
                return opened, lines
            del opened
        # What they held would stay beside what entries are moved to.
        stale = [row for row, each in self._open.items() if each.step.rooms.share(sequences)]
        for row in stale:
            del self._open[row]
        rooms = open_rooms(sequences)
        if rooms is None:
            return None, None
        step = StaticStep(fused, parts, rooms, kernel)
        opened = self._open[sequences[0]] = _Open(step, rooms.address())
        return opened, rooms.inputs(sequences, tokens)

    def _run(self, opened: _Open, inputs: Tensor, capturing: bool) -> tuple[Tensor, Tensor]:
        graph = self._graphs.get(opened.address)
        if graph is not None:
            self._graphs.move_to_end(opened.address)
            return graph(inputs)
        opened.step.inputs.copy_(inputs)
        opened.runs += 1
        if capturing and not self._failed and opened.runs > self._patience:
            graph = self._capture(opened.step)
            if graph is not None:
                self._graphs[opened.address] = graph
                return graph(inputs)
        return opened.step()

    def _capture(self, step: StaticStep) -> _Graph | None:
        """A graph of the step; None, which is said once, where there can be none."""
        try:
            graph, logits, best = captured(step)
        except Exception as error:
            self._failed = True
            say_once(
                f"a decoding step cannot be captured as a CUDA graph ({first_line(error)}); steps "
                f"are launched one by one, which is slower; {VARIABLE}=off does not try"
            )
            return None
        while len(self._graphs) >= KEPT:
            _, old = self._graphs.popitem(last=False)
            worth = old.replays >= WORTH
            self._patience = FIRST_STEPS if worth else min(MOST, 2 * self._patience)
        return _Graph(graph, step.inputs, logits, best)


def captured(step: StaticStep) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
    """A step as a graph, and where it leaves what it gives. Nothing of it has run yet."""
    graph = torch.cuda.CUDAGraph()
    # Other threads go on asking the device for memory.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        logits, best = step()
    return graph, logits, best


_STEPS: WeakKeyDictionary[AdaptedModel, StaticSteps] = WeakKeyDictionary()
_MAKING = threading.Lock()


def serve(sequences: Seq[Sequence], tokens: Seq[int]) -> Served | None:
    """One decoding step of static shapes for all rows; None where the ordinary one has to serve.

    Args:
        sequences: rows of one model.
        tokens: the next of each, chosen but not yet read.

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
    return steps.serve(model, sequences, tokens, wanted == "on")


__all__ = ["CHOICES", "VARIABLE", "Served", "StaticSteps", "captured", "serve"]
