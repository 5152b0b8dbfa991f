"""A team of threads is given back, and a new one made when it is wanted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lengthwise._utils import openmp

SCRIPT = """
import os, sys
import torch
from lengthwise._utils.openmp import give_back_team
torch.set_num_threads(3)
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
x = torch.ones(512, 512)
y = x @ x + x.exp()
with_team = count()
done = give_back_team()
without = count()
same = torch.equal(x @ x + x.exp(), y)
print(done, with_team - before, with_team - without, same, torch.get_num_threads())
"""


@pytest.mark.skipif(not openmp.MAPS.exists(), reason="only Linux says what is loaded")
def test_threads_of_the_caller_end_and_come_back() -> None:
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    done, made, ended, same, threads = out.stdout.split()
    assert (same, threads) == ("True", "3")
    if done == "True":
        assert int(made) >= 2 and int(ended) >= 2


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    openmp._pauses.cache_clear()
    monkeypatch.setattr(openmp, "MAPS", openmp.Path("/no/such/file"))
    try:
        assert not openmp.give_back_team()
    finally:
        openmp._pauses.cache_clear()
