"""The real server in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.chat_models import chat_model


def saved_model(place: Path) -> Path:
    """A folder of a tiny model that never stops by itself."""
    model = chat_model()
    model.adapted.model.save_pretrained(place)
    assert model.tokenizer is not None
    model.tokenizer.save_pretrained(place)
    return place


class Served:
    """A server in a process of its own. url: as it said."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lengthwise", "serve", "--port", "0", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        if not self.said:
            raise AssertionError(self.process.communicate()[1])
        self.url = self.said.split()[0]

    def end(self) -> tuple[int, str]:
        """Tells it to end; its status, and what it said of errors."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err
