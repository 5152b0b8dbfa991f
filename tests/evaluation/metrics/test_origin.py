"""A figure says where it ran, and how."""

from __future__ import annotations

import torch

from lengthwise.evaluation.metrics.origin import Origin


def test_origin_says_where_it_ran() -> None:
    here = Origin.here("lengthwise compare x.md")
    assert here.machine["cpu"] and "core" in here.machine["cores"]
    assert here.versions["python"] and set(here.versions) >= {"lengthwise", "torch", "transformers"}
    assert dict(here.lines())["Command"] == "lengthwise compare x.md"


def test_origin_says_how_many_threads_ran() -> None:
    before = torch.get_num_threads()
    try:
        for count, words in ((1, "1 thread"), (3, "3 threads")):
            torch.set_num_threads(count)
            here = Origin.here()
            assert here.machine["threads"] == words
            assert f", {words}, " in f"{dict(here.lines())['Machine']}, "
    finally:
        torch.set_num_threads(before)
