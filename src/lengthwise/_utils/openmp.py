"""Threads that OpenMP keeps for one of ours, given back when another one computes from now on.

Every thread that has run a product keeps a team of threads for the next. Where all teams together
have more threads than the machine has cores, libgomp lets none of them wait actively, and each
product costs more: steps in a thread beside an idle main thread took 1.3 to 1.5 times as long.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

MAPS = Path("/proc/self/maps")
LIBRARY = re.compile(r"/lib(?:gomp|iomp5|omp)\b[^/]*\.so[^/]*$")
# `omp_pause_soft` of OpenMP 5.0: what was set stays set.
SOFT = 1


def give_back_team() -> bool:
    """Ends the team of the thread that calls, which gets a new one when it computes again.

    Returns:
        Whether there is an OpenMP library here that did so; elsewhere nothing happens.
    """
    done = [pause(SOFT) == 0 for pause in _pauses()]
    return any(done)


@cache
def _pauses() -> list[Callable[[int], int]]:
    """`omp_pause_resource_all` of every OpenMP library that is loaded."""
    if not MAPS.exists():
        return []
    paths = {line.split(maxsplit=5)[-1] for line in MAPS.read_text().splitlines() if "/" in line}
    found: list[Callable[[int], int]] = []
    for path in sorted(filter(LIBRARY.search, paths)):
        try:
            found.append(ctypes.CDLL(path).omp_pause_resource_all)
        except (OSError, AttributeError):  # An older one than OpenMP 5.0.
            continue
    return found


__all__ = ["give_back_team"]
