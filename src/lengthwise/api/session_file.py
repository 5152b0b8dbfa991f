"""Opens sessions that `session_writing` wrote: nothing that a file says is run.

What it says is put into objects that the recipe makes (`engine.kv_cache.packing`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lengthwise import recipes
from lengthwise._utils.messages import first_line
from lengthwise.api.held_model import HeldModel
from lengthwise.api.session import Session
from lengthwise.api.session_codec import Coded
from lengthwise.api.session_editing import Stale
from lengthwise.api.session_source import source_from
from lengthwise.api.session_writing import CODED_VERSION, FORMAT, KEY, VERSION
from lengthwise.engine.kv_cache.cachegen import LOSSLESS
from lengthwise.engine.kv_cache.saved import Damaged, unpack_sequence
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import LengthwiseError, SessionError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.recipes import Recipe, RecipeLike
from lengthwise.recipes.files import files_of


def open_session(
    path: str | PathLike[str], model: HeldModel, recipe: RecipeLike | None = None,
    level: int | str | None = None,
) -> Session:  # fmt: skip
    """Opens a session that `Session.save` stored.

    Args:
        path: of the file.
        model: the model that read it, in the same dtype.
        recipe: which it must have been read under; None takes the file's, unless that reads files.
        level: of quality, where it was saved with a codec: 1 to 3 or "lossless"; None is the best
            that is stored.

    Returns:
        The session, mapped into memory: what is not used is not read. What is coded is decoded.

    Raises:
        SessionError: for a file that is missing, damaged or no session, and for one of another
            model, dtype, recipe or version, or without this level.
        RecipeError: where its recipe cannot run here.
    """
    name = os.fspath(path)
    with one_error(name):
        if not Path(path).is_file():
            raise SessionError(f"{name}: there is no such file")
        with safe_open(path, framework="pt") as file:
            manifest = manifest_of(name, file.metadata())
            state = json.loads(file.get_tensor("state").numpy().tobytes())
            chosen = require_ours(name, manifest, model, recipe)
            plan = model.plan(chosen)
            stored = Stored(file.get_tensor, state, model, level)
            tokens = stored.tokens
            sequence = unpack_sequence(state["sequence"], stored.read, model.adapted, plan)
        if list(sequence.tokens) != tokens[: len(sequence)]:
            raise Damaged("its tokens are not those of its cache")
        sequence.lossy = sequence.lossy or stored.lossy
        return session_of(state, sequence, tokens, model, chosen)


def session_of(
    state: dict[str, Any], sequence: Sequence, tokens: list[int], model: HeldModel, recipe: Recipe
) -> Session:
    """The session of a file, with what its answers have to say.

    Args:
        state: what the file says of it.
        sequence: what is held, as it was stored.
        tokens: ids of all that was read.
        model: that read it.
        recipe: under which.
    """
    source = source_from(state["source"], tokens)
    stale = Stale(str(state["stale"]), 0) if state.get("stale") else None
    sequence.stale = stale is not None
    return Session(model, recipe, source, sequence, tokens, state["chunk"], stale)


class Stored:
    """The tensors of a file by name, those that were coded decoded.

    tokens: ids of the session. lossy: the codec, where the level that is read loses something.
    """

    def __init__(
        self, get: Callable[[str], Tensor], state: dict[str, Any], model: HeldModel,
        level: int | str | None,
    ) -> None:  # fmt: skip
        self._get, self._model = get, model
        self._same: dict[str, str] = state.get("same", {})
        self.tokens = [int(i) for i in get("tokens").tolist()]
        self.lossy = ""
        self._decoded: dict[str, Tensor] = {}
        if "coded" in state:
            coded = Coded.read(state["coded"], model.adapted, len(self.tokens))
            chosen = coded.chosen(level)
            self.lossy = lossy_name([chosen])
            self._decode(coded, chosen)
        elif level is not None:
            raise SessionError("it has no levels: it was saved without a codec; leave level out")

    def _decode(self, coded: Coded, level: int) -> None:
        dtype = self._model.adapted.dtype
        parts: dict[int, list[Tensor]] = {place: [] for place in range(len(coded.names))}
        for chunk in range(coded.chunks):
            data = self._get(coded.piece(chunk, level)).numpy().tobytes()
            entries = coded.decode(data, chunk, level, dtype)
            for (place, _, _), tensor in zip(coded.of_chunk(chunk), entries, strict=True):
                parts[place].append(tensor)
        self._decoded = {coded.names[p]: torch.cat(found, 1) for p, found in parts.items()}

    def read(self, name: str) -> Tensor:
        """A tensor on the model's device.

        Args:
            name: as the state has it.
        """
        device = self._model.adapted.device
        if name in self._decoded:
            return self._decoded.pop(name).to(device)
        if name in self._same:
            # Tensors that stand once in the file are written to apart.
            return self._get(self._same[name]).clone().to(device)
        return self._get(name).to(device)


def lossy_name(levels: Iterable[int]) -> str:
    """The codec as a session tells it that came through it; nothing where nothing was lost.

    Args:
        levels: that were read; 0 is text.
    """
    lost = sorted({level for level in levels if level not in (0, LOSSLESS)})
    if not lost:
        return ""
    return f"cachegen level{'s' if len(lost) > 1 else ''} {', '.join(map(str, lost))}"


@contextmanager
def one_error(name: str) -> Iterator[None]:
    """Makes one `SessionError` of whatever a damaged file leads to.

    Args:
        name: of the file.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _damaged(name, error) from None
    except SessionError as error:
        said = str(error)
        raise error if said.startswith(name) else SessionError(f"{name}: {said}") from None
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


def manifest_of(name: str, metadata: dict[str, str] | None) -> dict[str, Any]:
    """What the header of a session's file says.

    Args:
        name: of the file.
        metadata: of its header.

    Raises:
        SessionError: where it is none, or of another version.
    """
    found = json.loads((metadata or {}).get(KEY, "null"))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise SessionError(f"{name}: holds no session; `Session.save` writes one")
    if found.get("version") not in (VERSION, CODED_VERSION):
        raise SessionError(
            f"{name}: is of format version {found.get('version')}, written by lengthwise "
            f"{found.get('library')}, and this one reads versions {VERSION} and {CODED_VERSION}; "
            "read the document again"
        )
    return found


def require_ours(
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


__all__ = [
    "Stored", "lossy_name", "manifest_of", "one_error", "open_session", "require_ours",
    "session_of",
]  # fmt: skip
