"""Sessions in files: one safetensors file.

- header, as JSON: format, version, library, model's fingerprint and dtype, recipe, positions; of a
  cartridge also how it was trained;
- state, JSON in a tensor: what was read, and all of the cache that is no tensor;
- tensors: token ids; keys, values and birth ids; encoded blocks; what methods hold.

Under a codec keys and values are chunks of bytes instead (`session_codec`).
"""

from __future__ import annotations

import json
import os
from os import PathLike
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from lengthwise._utils.files import write_aside
from lengthwise._utils.messages import first_line
from lengthwise._utils.version import __version__
from lengthwise.api.held_model import HeldModel
from lengthwise.api.session_codec import CacheGen, code, same_once
from lengthwise.api.session_prompt import Source
from lengthwise.engine.kv_cache.packing import Unstorable
from lengthwise.engine.kv_cache.saved import pack_sequence
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.refreshing import without_refresh
from lengthwise.errors import SessionError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.recipes import Recipe

FORMAT = "lengthwise session"
VERSION = 1
CODED_VERSION = 2
"""Of files whose keys and values are coded, which the first version cannot read."""
KEY = "lengthwise"


def write_session(
    path: str | PathLike[str], model: HeldModel, recipe: Recipe, source: Source,
    sequence: Sequence, tokens: list[int], chunk: int | None, codec: CacheGen | None = None,
    stale: str = "",
) -> None:  # fmt: skip
    """Stores what a session holds.

    Args:
        path: of the file.
        model: that read it.
        recipe: under which.
        source: what was read.
        sequence: what is held of it.
        tokens: ids of all of it.
        chunk: tokens of a prefill forward; None leaves it to the device.
        codec: how keys and values are coded; None stores them as they are.
        stale: why its answers are not those of one call.

    Raises:
        SessionError: where something cannot be stored, or the disk refuses.
    """
    try:
        held, tensors = pack_sequence(without_refresh(sequence))
        state: dict[str, Any] = {
            "chunk": chunk, "source": source.data(), "sequence": held, "stale": stale,
        }  # fmt: skip
        tensors["tokens"] = torch.tensor(tokens, dtype=torch.int64)
        if codec is not None:
            state["coded"] = code(held, tensors, codec, model.adapted)
            state["same"] = same_once(tensors)
    except Unstorable as error:
        raise SessionError(
            f"a session of {recipe} cannot be stored: {error}; read the document again where it "
            "is needed, or store one of another recipe"
        ) from None
    positions = [str(method) for method in recipe.methods if method.question == "positions"]
    manifest: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "library": __version__, "model": model.name,
        "fingerprint": fingerprint_now(model.adapted), "dtype": model.adapted.dtype_text,
        "recipe": str(recipe), "positions": " + ".join(positions) or "the model's own",
    }  # fmt: skip
    if source.trained is not None:
        manifest["trained"] = dict(source.trained)
    if codec is not None:
        manifest |= {"version": CODED_VERSION, "codec": str(codec)}
    written = bytearray(json.dumps(state).encode())
    tensors["state"] = torch.frombuffer(written, dtype=torch.uint8)
    try:
        with write_aside(path) as aside:
            save_file(tensors, aside, metadata={KEY: json.dumps(manifest)})
    except (OSError, SafetensorError) as error:
        raise SessionError(f"{os.fspath(path)}: cannot be written ({first_line(error)})") from None


__all__ = ["CODED_VERSION", "FORMAT", "KEY", "VERSION", "write_session"]
