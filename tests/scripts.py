"""Scripts of benchmarks, run as a user runs them: no test imports them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def script(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A module of benchmarks with its arguments, from the root of the repository."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


def rows(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The rows of the first table of a reproduction check; its file is written to folder."""
    path = folder / "found.json"
    done = script("benchmarks.reproduction", *arguments, "--json", str(path))
    assert done.returncode == 0, done.stderr
    tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
    found: list[dict[str, Any]] = next(iter(tables.values()))["rows"]
    return found
