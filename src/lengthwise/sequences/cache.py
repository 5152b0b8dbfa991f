"""Where the embedded tokenizer is kept by itself.

The rest of the package asks `models.embedded`, which loads torch: several times the memory that a
build is allowed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lengthwise._utils.cache_folder import cache_dir
from lengthwise._utils.messages import last_line
from lengthwise.sequences.errors import SequenceError


def tokenizer_file() -> Path:
    """Where the embedded tokenizer lies or will lie."""
    return cache_dir() / "embedded-tokenizer-1" / "tokenizer.json"


def embedded_tokenizer() -> Path:
    """The tokenizer.json of the default model, taken out of its GGUF file once, by a child.

    Raises SequenceError where the model can be neither found nor fetched.
    """
    place = tokenizer_file()
    if not place.is_file():
        command = [sys.executable, "-c", f"import {__name__} as me; me.rebuild()"]
        child = subprocess.run(command, capture_output=True, text=True)
        if child.returncode:
            said = last_line(child.stderr, "it said nothing")
            raise SequenceError(
                f"the default tokenizer cannot be had ({said}); name one with --tokenizer"
            )
    return place


def rebuild() -> None:
    """What the child of `embedded_tokenizer` does."""
    import gguf

    from lengthwise._utils.embedded_file import download_gguf, find_gguf
    from lengthwise._utils.gguf_tokenizer import rebuild_tokenizer
    from lengthwise.sequences.files import written_aside

    tokenizer, _ = rebuild_tokenizer(gguf.GGUFReader(find_gguf() or download_gguf()))
    with written_aside(tokenizer_file()) as aside:
        tokenizer.save(str(aside))
