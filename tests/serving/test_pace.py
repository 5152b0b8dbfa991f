"""How much of a prompt is read in a round: what was measured lately says it."""

from __future__ import annotations

from lengthwise.serving.pace import FIRST, LEAST, Pace
from tests.serving.asking import set_pace


def test_a_chunk_is_as_long_as_a_round_may_be() -> None:
    pace = Pace(slowed=3.0)
    assert pace.chunk(512) == pace.slice(512, 30) == FIRST
    pace.stepped(0.02), pace.read(100, 0.1), pace.sliced(100, 0.2)
    assert pace.chunk(512) == 40 and pace.chunk(30) == 30
    # A layer of 300 tokens takes half of the 0.04 seconds that a round has.
    assert pace.slice(512, 30) == 300 and pace.slice(200, 30) == 200
    pace.read(10, 10.0), pace.read(10, 10.0)
    assert pace.chunk(512) == LEAST and pace.chunk(2) == 2
    pace.read(5, -1.0), pace.read(5, -1.0), pace.read(5, -1.0), pace.read(5, -1.0)
    assert pace.chunk(512) == 512


def test_one_round_that_was_held_up_does_not_change_the_pace() -> None:
    pace = Pace()
    set_pace(pace, 0.02, 0.001)
    before = pace.chunk(512)
    pace.stepped(0.8), pace.read(10, 2.0)
    assert pace.chunk(512) == before == 25
