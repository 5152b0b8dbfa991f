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


def free_memory() -> int | None:
    """Bytes that this process may still take, its container's limit included; None where the
    system does not say."""
    found = [_available(), _container()]
    known = [value for value in found if value is not None]
    return min(known) if known else None


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _container() -> int | None:
    """What a control group of Linux (version 2) leaves."""
    group = Path("/sys/fs/cgroup")
    try:
        most = (group / "memory.max").read_text(encoding="utf-8").strip()
        used = (group / "memory.current").read_text(encoding="utf-8").strip()
        return None if most == "max" else max(0, int(most) - int(used))
    except (OSError, ValueError):
        return None


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
