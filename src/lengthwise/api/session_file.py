"""Opens sessions that `session_writing` wrote: nothing that a file says is run.

What it says is put into objects that the recipe makes (`engine.kv_cache.packing`).
"""

from __future__ import annotations

import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from lengthwise import recipes
from lengthwise._utils.messages import first_line
from lengthwise.api.held_model import HeldModel
from lengthwise.api.session import Session
from lengthwise.api.session_editing import Stale
from lengthwise.api.session_prompt import source_from
from lengthwise.api.session_writing import FORMAT, KEY, VERSION
from lengthwise.engine.kv_cache.saved import Damaged, unpack_sequence
from lengthwise.errors import LengthwiseError, SessionError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.recipes import Recipe, RecipeLike
from lengthwise.recipes.files import files_of


def open_session(
    path: str | PathLike[str], model: HeldModel, recipe: RecipeLike | None = None
) -> Session:
    """Opens a session that `Session.save` stored.

    Args:
        path: of the file.
        model: the model that read it, in the same dtype.
        recipe: which it must have been read under; None takes the file's, unless that reads files.

    Returns:
        The session, mapped into memory: what is not used is not read.

    Raises:
        SessionError: for a file that is missing, damaged or no session, and for one of another
            model, dtype, recipe or version.
        RecipeError: where its recipe cannot run here.
    """
    name = os.fspath(path)
    try:
        if not Path(path).is_file():
            raise SessionError(f"{name}: there is no such file")
        with safe_open(path, framework="pt") as file:
            manifest = _manifest(name, file.metadata())
            state = json.loads(file.get_tensor("state").numpy().tobytes())
            chosen = _require_ours(name, manifest, model, recipe)
            plan = model.plan(chosen)
            device = model.adapted.device

            def read(tensor: str) -> torch.Tensor:
                found: torch.Tensor = file.get_tensor(tensor)
                return found.to(device)

            sequence = unpack_sequence(state["sequence"], read, model.adapted, plan)
            tokens = [int(i) for i in file.get_tensor("tokens").tolist()]
        if list(sequence.tokens) != tokens[: len(sequence)]:
            raise Damaged("its tokens are not those of its cache")
        source = source_from(state["source"], tokens)
        sequence.lossy = bool(state.get("lossy"))
        stale = Stale(str(state["lossy"]), 0) if state.get("lossy") else None
        return Session(model, chosen, source, sequence, tokens, state["chunk"], stale)
    except (OSError, SafetensorError) as error:
        raise _damaged(name, error) from None
    except LengthwiseError:
        raise
    except (
        Damaged, AssertionError, AttributeError, IndexError, KeyError, OverflowError,
        RecursionError, RuntimeError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise _damaged(name, error) from None


def _damaged(name: str, error: BaseException) -> SessionError:
    return SessionError(
        f"{name}: is no session, or a damaged one ({first_line(error)}); save it again"
    )


def _manifest(name: str, metadata: dict[str, str] | None) -> dict[str, Any]:
    found = json.loads((metadata or {}).get(KEY, "null"))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise SessionError(f"{name}: holds no session; `Session.save` writes one")
    if found.get("version") != VERSION:
        raise SessionError(
            f"{name}: is of format version {found.get('version')}, written by lengthwise "
            f"{found.get('library')}, and this one reads version {VERSION}; read the document again"
        )
    return found


def _require_ours(
    name: str, manifest: dict[str, Any], model: HeldModel, recipe: RecipeLike | None
) -> Recipe:
    """The recipe of a session, which this model has read; raises SessionError otherwise."""
    if manifest["dtype"] != model.adapted.dtype_text:
        raise SessionError(
            f"{name}: was read in {manifest['dtype']}, and this model runs in "
            f"{model.adapted.dtype_text}; load the model in that dtype"
        )
    if manifest["fingerprint"] != fingerprint_now(model.adapted):
        raise SessionError(
            f"{name}: was read by {manifest['model']}, and this is {model.name} or has other "
            "weights; open it with that model, or read the document again"
        )
    text = str(manifest["recipe"])
    if recipe is None:
        if files := files_of([text]):
            raise SessionError(
                f"{name}: its recipe {text!r} reads {files[0]}; give that recipe too, if this is "
                "what you want"
            )
        return recipes.recipe_of(text)
    chosen = recipes.recipe_of(recipe)
    if str(chosen) != text:
        raise SessionError(
            f"{name}: was read under {text!r}, not under {str(chosen)!r}; open it without a "
            "recipe, or read the document again"
        )
    return chosen


__all__ = ["open_session"]
