"""Where a number comes from: none leaves this project without machine, versions and command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run was made on and with.

    machine: "cpu", "cores", "memory" and, where a model ran, "threads" that its products ran on and
        the "gpu" in use.
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
        parts = [machine.get("gpu"), machine.get("cpu")]
        parts += [f"{machine[key]}" for key in ("cores", "threads", "memory") if key in machine]
        pairs = [
            ("Machine", ", ".join(part for part in parts if part)),
            ("Commit", self.commit or ""),
            ("Versions", ", ".join(f"{name} {text}" for name, text in self.versions.items())),
            ("Command", self.command or ""),
        ]
        return [(label, text) for label, text in pairs if text]


def _machine() -> dict[str, str]:
    machine = {"cpu": _cpu_name(), "cores": _cores(), "memory": _memory()}
    torch = sys.modules.get("torch")  # loaded by whoever ran a model; not worth loading for this
    if torch is not None:
        machine["threads"] = _threads(torch.get_num_threads())
    if torch is not None and torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    return {name: text for name, text in machine.items() if text}


def _cpu_name() -> str:
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the standard library's answer has to do
    return platform.processor() or platform.machine()


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} core{'s' if usable != 1 else ''}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return ""
    return f"{total / 2**30:.0f} GiB memory"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    source = Path(__file__).resolve().parents[3]
    top = _output(["git", "-C", str(source), "rev-parse", "--show-toplevel"])
    # An installed copy may lie inside some other project's checkout, whose commit is not ours.
    if not top or Path(top).resolve() / "src" != source:
        return None
    return _output(["git", "-C", str(source), "describe", "--always", "--dirty", "--tags"]) or None


def _command() -> str | None:
    if not sys.argv or not sys.argv[0] or sys.argv[0] == "-c":
        return None
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
