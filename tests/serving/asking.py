"""One that asks an engine or a scheduler, and hears what comes."""

from __future__ import annotations

import threading
from typing import Any

from lengthwise.api.generation import Generation
from lengthwise.engine.sampling import Sampling
from lengthwise.recipes import parse
from lengthwise.serving.engine import Ask, Piece
from lengthwise.serving.pace import LATELY, Pace


class Listener:
    """Collects pieces."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.over = threading.Event()

    def __call__(self, piece: Piece) -> None:
        self.pieces.append(piece)
        if piece.done is not None:
            self.over.set()

    def result(self) -> Generation:
        assert self.over.wait(60)
        done = self.pieces[-1].done
        assert isinstance(done, Generation), done
        return done


def ask(ids: list[int], recipe: str = "full", new: int = 8, **more: Any) -> Ask:
    given = {"sampling": Sampling(), "stop_ids": (), **more}
    return Ask(ids, parse(recipe), new, **given)


def set_pace(pace: Pace, step: float, token: float) -> None:
    for _ in range(LATELY):
        pace.stepped(step), pace.read(1, token)
