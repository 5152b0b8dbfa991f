"""Kernels in Triton on a CPU: the tests of this room again, where Triton is interpreted.

The interpreter is asked for before Triton is imported, hence in a process of its own. There the
tests that skip here run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lengthwise.engine.kernels import compiled

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
FILES = [
    "test_kernels.py",
    "test_triton.py",
    "test_gather.py",
    "test_dequantise.py",
    "test_ragged.py",
]


@pytest.mark.slow
@pytest.mark.skipif(not compiled.installed(), reason="needs triton")
@pytest.mark.skipif(compiled.INTERPRETED, reason="is interpreted")
@pytest.mark.parametrize("file", FILES)
def test_the_tests_hold_where_triton_is_interpreted(file: str) -> None:
    called = [sys.executable, "-m", "pytest", "-q", "-x", str(HERE / file), "-k", "triton"]
    given = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    done = subprocess.run(
        [*called, "-p", "no:cacheprovider"], cwd=ROOT, capture_output=True, text=True,
        env=given | {"TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout and "skipped" not in done.stdout, done.stdout[-1000:]
