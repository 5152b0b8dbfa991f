"""What is fastest on this machine: timed once, and kept in the cache folder ever after.

A file holds the timings of one machine: the processor, its features, the threads, the GPU, and the
version of torch. Another of them is another machine, with a file of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from lengthwise._utils.cache_folder import cache_dir
from lengthwise._utils.files import write_text
from lengthwise._utils.machine import cpu_features, cpu_name
from lengthwise._utils.saying import say_once
from lengthwise._utils.version import __version__

# Rounds in which the ways take turns, and the seconds after which no other round begins.
ROUNDS = 5
ENOUGH = 0.2

# The variable that says which kernels serve; see `engine.kernels.choice`.
VARIABLE = "LENGTHWISE_KERNEL"

Ways = Mapping[str, Callable[[], object]]


def facts(device: torch.device) -> dict[str, str]:
    """What timings hold for."""
    found = {
        "cpu": cpu_name(), "features": " ".join(cpu_features()), "torch": torch.__version__,
        "threads": str(torch.get_num_threads()), "lengthwise": __version__,
    }  # fmt: skip
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def timing() -> bool:
    """Whether anything is to be timed: LENGTHWISE_KERNEL=default says no."""
    return os.environ.get(VARIABLE) != "default"


@dataclass(frozen=True)
class Timed:
    """One shape of one question.

    question: of kernels ("block", "step", "scores"), "product" of rows with weights, or "norm" of
    rows. over: what the rows are multiplied by, "4096 keys" or "576x960", or their size. seconds:
    of each way that can. chosen: the one that serves. amount: what it reads in bytes, or computes
    in operations, by `unit` ("GB/s", "TFLOP/s").
    """

    question: str
    rows: int
    over: str
    seconds: Mapping[str, float]
    chosen: str
    amount: float
    unit: str

    @property
    def rate(self) -> float:
        """Of the way that serves, a second."""
        return self.amount / self.seconds[self.chosen]


class Timings:
    """The timings of one machine, by subject and way, in seconds."""

    def __init__(self, device: torch.device) -> None:
        self.facts = facts(device)
        self._device = device
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        self.path = cache_dir() / "machine" / f"{digest[:16]}.json"
        self.notes: list[str] = []
        self._seconds = self._read()
        self._changed = False

    def seconds(self, subject: str, make: Callable[[], Ways]) -> Mapping[str, float]:
        """Seconds of each way, from the file where the subject is in it, else timed now.

        make: gives the ways, by name.
        """
        if subject not in self._seconds:
            self._seconds[subject] = in_turn(make(), self._device)
            self._changed = True
        return self._seconds[subject]

    def forget(self) -> None:
        """Everything is timed again."""
        self._seconds.clear()
        self._changed = True

    def save(self) -> None:
        """Writes what is new, aside and renamed. A folder that cannot be written is said once."""
        if not self._changed:
            return
        text = json.dumps({"machine": self.facts, "seconds": self._seconds}, indent=1)
        try:
            write_text(self.path, text)
        except OSError as error:
            self._say(
                f"{self.path.parent}: timings of this machine cannot be kept ({error}); they are "
                "taken again each time; set LENGTHWISE_CACHE to a folder that can be written"
            )
        self._changed = False

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["machine"] != self.facts:
                raise ValueError("it is of another machine")
            return {
                str(subject): {str(way): _positive(value) for way, value in ways.items()}
                for subject, ways in found["seconds"].items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._say(f"{self.path}: not the timings of this machine ({error}); taken again")
            return {}

    def _say(self, text: str) -> None:
        self.notes.append(text)
        say_once(text)


def _positive(value: object) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{value!r} is no number of seconds")
    return float(value)


def drawn(*size: int, dtype: torch.dtype, device: str = "cpu") -> torch.Tensor:
    """Normal numbers to time on, which leave the user's own stream of them as it is."""
    generator = torch.Generator(device).manual_seed(0)
    return torch.randn(size, generator=generator, device=device).to(dtype)


def in_turn(ways: Ways, device: torch.device | None = None) -> dict[str, float]:
    """Least seconds of each way. They take turns, so that a noisy moment strikes all of them."""
    found = {name: _once(way, device) for name, way in ways.items()}  # the first is a warm-up
    found = {name: _once(way, device) for name, way in ways.items()}
    begin = time.perf_counter()
    for _ in range(ROUNDS - 1):
        if time.perf_counter() - begin > ENOUGH:
            break
        for name, way in ways.items():
            found[name] = min(found[name], _once(way, device))
    return found


def _once(way: Callable[[], object], device: torch.device | None) -> float:
    begin = time.perf_counter()
    way()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return max(time.perf_counter() - begin, 1e-9)


__all__ = ["VARIABLE", "Timed", "Timings", "drawn", "facts", "in_turn", "timing"]
