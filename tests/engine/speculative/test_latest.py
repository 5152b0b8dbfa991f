"""What was asked for last is remembered, and nothing grows without end."""

from __future__ import annotations

from lengthwise.engine.speculative.latest import Latest


def test_the_key_that_was_asked_for_longest_ago_is_forgotten() -> None:
    made: list[int] = []

    def make(key: int) -> list[int]:
        made.append(key)
        return [key]

    table = Latest(make, most=3)
    for key in (1, 2, 3, 1):
        table[key].append(0)
    assert made == [1, 2, 3] and table[1] == [1, 0, 0] and list(table) == [2, 3, 1]
    assert table[4] == [4] and list(table) == [3, 1, 4] and len(table) == 3
    assert table[2] == [2] and made == [1, 2, 3, 4, 2]
