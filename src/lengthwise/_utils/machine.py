"""What machine this is: its processor, what that can do, its cores and its memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

# Instructions that decide which products are fast, as Linux spells them (x86, then ARM).
TELLING = (
    "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "amx_tile",
    "asimd", "bf16", "i8mm", "sve", "sme",
)  # fmt: skip


# The control group of a container, of Linux.
GROUP = Path("/sys/fs/cgroup")


@cache
def cpu_name() -> str:
    """The processor's name, as far as the system tells it."""
    if sys.platform == "darwin":
        return output_of(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()
    found = _cpuinfo("model name")
    return found or platform.processor() or platform.machine()


@cache
def cpu_features() -> tuple[str, ...]:
    """Which of the TELLING instructions it has; none where the system does not say."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return tuple(name for name in TELLING if name in flags)


def cores() -> int:
    """Cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def memory() -> int | None:
    """Bytes of memory of the machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def free_memory(swap: bool = False) -> int | None:
    """Bytes that this process may still take, its container's limit included; None where the
    system does not say.

    swap: whether what may be swapped out counts.
    """
    found = [_available(swap), _container()]
    known = [value for value in found if value is not None]
    return min(known) if known else None


def _available(swap: bool) -> int | None:
    """What Linux says it can give without swapping, and beside it what swap still takes."""
    wanted = ("MemAvailable", "SwapFree") if swap else ("MemAvailable",)
    found = _numbers(Path("/proc/meminfo"), ":")
    return sum(found.get(name, 0) for name in wanted) * 1024 if "MemAvailable" in found else None


def _container() -> int | None:
    """What a control group of Linux (version 2) leaves. Files it has read may be forgotten."""
    try:
        most = (GROUP / "memory.max").read_text(encoding="utf-8").strip()
        used = int((GROUP / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not most.isdigit():  # "max" is no limit
        return None
    files = _numbers(GROUP / "memory.stat")
    cached = files.get("active_file", 0) + files.get("inactive_file", 0)
    return max(0, int(most) - used + cached)


def _numbers(path: Path, mark: str = "") -> dict[str, int]:
    """Names and numbers, a pair a line, a mark behind the name; none where there is no file."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {
        line[0].removesuffix(mark): int(line[1])
        for line in lines
        if len(line) > 1 and line[1].isdigit()
    }


def _cpuinfo(name: str) -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.partition(":")[0].strip() == name:
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return ""


def output_of(command: list[str]) -> str:
    """What a program prints; nothing where it is missing, fails or takes long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


__all__ = ["cores", "cpu_features", "cpu_name", "free_memory", "memory", "output_of"]
