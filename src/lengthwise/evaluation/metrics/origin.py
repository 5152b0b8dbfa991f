"""Where a number comes from: none leaves this project without machine, versions and command."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from lengthwise._utils.machine import cores, cpu_features, cpu_name, memory, output_of


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run was made on and with.

    machine: "cpu", "features" (instructions that decide which products are fast), "cores",
        "memory" and, where a model ran, "threads" that its products ran on and the "gpu" in use.
    versions: of lengthwise, torch, transformers and python.
    commit: `git describe` of the checkout this package runs from; None outside of one.
    command: what to type to get the run again.
    """

    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    command: str | None = None

    @classmethod
    def here(cls, command: str | None = None) -> Origin:
        """This machine, now. `command` defaults to the one this process was started with."""
        versions = {name: _version(name) for name in ("lengthwise", "torch", "transformers")}
        versions["python"] = platform.python_version()
        return cls(_machine(), versions, _commit(), command or _command())

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) pairs for a report, most telling first."""
        machine = dict(self.machine)
        told = ("gpu", "cpu", "features", "cores", "threads", "memory")
        parts = [machine[key] for key in told if key in machine]
        pairs = [
            ("Machine", ", ".join(parts)),
            ("Commit", self.commit or ""),
            ("Versions", ", ".join(f"{name} {text}" for name, text in self.versions.items())),
            ("Command", self.command or ""),
        ]
        return [(label, text) for label, text in pairs if text]


def _machine() -> dict[str, str]:
    machine = {
        "cpu": cpu_name(), "features": " ".join(cpu_features()), "cores": _cores(cores()),
        "memory": _memory(memory()),
    }  # fmt: skip
    torch = sys.modules.get("torch")  # loaded by whoever ran a model; not worth loading for this
    if torch is not None:
        machine["threads"] = _threads(torch.get_num_threads())
    if torch is not None and torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    return {name: text for name, text in machine.items() if text}


def _cores(count: int) -> str:
    return f"{count} core{'s' if count != 1 else ''}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _memory(total: int | None) -> str:
    return "" if total is None else f"{total / 2**30:.0f} GiB memory"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    source = Path(__file__).resolve().parents[3]
    top = output_of(["git", "-C", str(source), "rev-parse", "--show-toplevel"])
    # An installed copy may lie inside some other project's checkout, whose commit is not ours.
    if not top or Path(top).resolve() / "src" != source:
        return None
    return (
        output_of(["git", "-C", str(source), "describe", "--always", "--dirty", "--tags"]) or None
    )


def _command() -> str | None:
    if not sys.argv or not sys.argv[0] or sys.argv[0] == "-c":
        return None
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
