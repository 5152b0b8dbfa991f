"""SirLLM: numbers and words planted in 4,096 tokens of which 1,024 are kept."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.planted import PLANTED, bench

from lengthwise.methods.retention.sirllm import SirLLM
from lengthwise.methods.retention.streaming import Streaming

TEXT = 4096
SETTINGS = {
    "`full`": None,
    "`sirllm`: the turn and surprising tokens": SirLLM(),
    "`sirllm(recent=0.35)`: our former default": SirLLM(recent=0.35),
    "`sirllm(turn=1)`: surprising tokens alone": SirLLM(turn=1),
    "`sirllm(recent=1)`: recency alone": SirLLM(recent=1.0),
    "`streaming`": Streaming(sinks=4, window=1020),
}


@check({"recipe": "", **PLANTED})
def sirllm() -> Iterator[Found]:
    """The turn under way and surprising tokens, with more recent ones, with the latest token alone,
    or recent ones only."""
    chosen = bench()
    for name, method in SETTINGS.items():
        yield {"recipe": name, **chosen.look_back(method, TEXT)}
    yield {"recipe": "unplanted, `sirllm`", **chosen.unplanted(SirLLM(), TEXT)}
