"""What processors and criteria of transformers are shown."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from lengthwise.engine.steering import Steering


class Keeps(LogitsProcessor):
    """Keeps the ids that it is shown, and writes into them."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []
        self.shown: list[list[int]] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
        self.shown.append(input_ids[0].tolist())
        self.kept.append(input_ids)
        return scores


class Notes(StoppingCriteria):
    def __init__(self, seen: list[list[int]]) -> None:
        self.seen = seen

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> Any:
        self.seen.append(input_ids[0].tolist())
        return torch.tensor([input_ids[0, -1] == 9])


def test_each_is_shown_the_text_of_its_moment_whatever_was_guessed_before() -> None:
    keeps, seen = Keeps(), []
    # Two tokens of padding stand before the prompt.
    steering = Steering(
        LogitsProcessorList([keeps]), StoppingCriteriaList([Notes(seen)]), [0, 0, 5, 6], 2
    )
    paths = [[], [7], [7, 8], [7, 8, 3], [7, 4], [7, 4, 9], [1], []]
    for path in paths:
        steering.process(torch.zeros(10), [5, 6, *path])
    expected = [[0, 0, 5, 6, *path] for path in paths]
    assert keeps.shown == expected
    assert [each[0].tolist() for each in keeps.kept] == expected, "what was kept stays"
    ended = [steering.stops(path, torch.device("cpu")) for path in paths if path]
    assert seen == [each for each in expected if len(each) > 4]
    assert ended == [path[-1] == 9 for path in paths if path]
