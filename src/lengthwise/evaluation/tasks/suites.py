"""Sets of tasks that are asked for by one name: `lengthwise eval run --suite kick`."""

from __future__ import annotations

from lengthwise._utils.suggestions import nearest
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import BENCHMARKS
from lengthwise.evaluation.tasks.published._shared.benchmark import PublishedBenchmark

# kick: questions to compressed models (LLM-KICK, arXiv:2310.01382). code: programs that are run.
_NAMED = {"kick": ("kick",), "code": ("humaneval", "mbpp")}
SYNTHETIC = "synthetic"
SUITES = (*_NAMED, SYNTHETIC)


def suite_of(given: str) -> list[str]:
    """The benchmarks of a suite, as they are written.

    Args:
        given: its name. Options behind it are given to each of its benchmarks, as in
            "kick(data=FOLDER)". "synthetic" is all that is made here, without published data.

    Raises:
        LengthwiseError: for an unknown suite, with the nearest name.
    """
    name, mark, options = given.strip().partition("(")
    if name not in SUITES:
        raise LengthwiseError(f"there is no suite {name!r}{nearest(name, SUITES)}")
    if name != SYNTHETIC:
        return [f"{benchmark}{mark}{options}" for benchmark in _NAMED[name]]
    if mark:
        raise LengthwiseError(
            f"suite {SYNTHETIC} takes no options, for each of its benchmarks has others; name "
            "benchmarks one by one"
        )
    kinds = BENCHMARKS.usable().items()
    return [name for name, kind in kinds if not issubclass(kind, PublishedBenchmark)]


__all__ = ["SUITES", "SYNTHETIC", "suite_of"]
