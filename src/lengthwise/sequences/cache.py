"""Where the embedded tokenizer is kept by itself.

The rest of the package asks `models.embedded`, which loads torch: several times the memory that a
build is allowed. A test holds the two folders equal.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lengthwise.sequences.errors import SequenceError


def cache_dir() -> Path:
    """$LENGTHWISE_CACHE, or the platform's cache folder."""
    if chosen := os.environ.get("LENGTHWISE_CACHE"):
        return Path(os.path.expanduser(chosen))
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "lengthwise"


def embedded_tokenizer() -> Path:
    """The tokenizer.json of the default model, taken out of its GGUF file once, by a child.

    Raises SequenceError where the model can be neither found nor fetched.
    """
    place = cache_dir() / "embedded-tokenizer-1" / "tokenizer.json"
    if not place.is_file():
        command = [sys.executable, "-c", f"import {__name__} as me; me.rebuild()"]
        child = subprocess.run(command, capture_output=True, text=True)
        if child.returncode:
            said = child.stderr.strip().splitlines() or ["it said nothing"]
            raise SequenceError(
                f"the default tokenizer cannot be had ({said[-1]}); name one with --tokenizer"
            )
    return place


def rebuild() -> None:
    """What the child of `embedded_tokenizer` does."""
    import gguf

    from lengthwise.models.embedded import download_gguf, find_gguf
    from lengthwise.models.gguf_files import rebuild_tokenizer
    from lengthwise.sequences.files import written_aside

    tokenizer, _ = rebuild_tokenizer(gguf.GGUFReader(find_gguf() or download_gguf()))
    place = cache_dir() / "embedded-tokenizer-1" / "tokenizer.json"
    with written_aside(place) as aside:
        tokenizer.save(str(aside))
