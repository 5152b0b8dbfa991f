"""Cartridges: sessions whose entries were trained for a corpus instead of read.

Eyuboglu et al., "Cartridges: Lightweight and general-purpose long context representations via
self-study", 2025, arXiv:2506.06266. How they are trained stands in `training/cartridge.py`.

A cartridge of p entries a layer stands where a system message with the corpus would. Queries and
keys of what is asked have positions from p on. Several are composed by putting their entries one
behind the other. Each keeps the rotations it was trained with, as in the authors' code, so theirs
overlap; `rotate` moves those of the later ones behind the earlier ones'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import replace
from typing import Any

import torch

from lengthwise.api.held_model import HeldModel
from lengthwise.api.session import Session
from lengthwise.api.session_prompt import TrainedSource
from lengthwise.api.session_reading import fresh_sequence, require_session_room
from lengthwise.api.turns import shortened, system_turn
from lengthwise.engine import loop
from lengthwise.engine.given import entries_of, last_logits_of, put_entries
from lengthwise.engine.kv_cache.entries import KVEntries, concatenate
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import Recipe, RecipeLike, recipe_of

# What may act on trained entries: it neither moves them nor leaves any of them out.
_QUESTIONS = ("drafting", "verification", "draft_length", "decoding", "codecs")


@no_autocast()
def initial_session(
    model: HeldModel, corpus: str, tokens: int, recipe: RecipeLike = "full"
) -> Session:
    """A cartridge that is not trained yet: the entries of the first tokens of a corpus.

    Args:
        model: that reads them, as a system message.
        corpus: the text.
        tokens: how many, at most; with as many as the corpus has it is a session of the corpus.
        recipe: what cartridges go with: "full", drafters and codecs.

    Raises:
        LengthwiseError: for an empty corpus, and too few tokens.
        Refused: where the recipe or the model does not go with trained entries.
    """
    if not corpus.strip():
        raise LengthwiseError("the corpus is empty: there is nothing to train on")
    ids = shortened(model, system_turn(model, corpus), tokens)
    chosen = recipe_of(recipe)
    require_trainable(model.adapted, chosen, len(ids))
    sequence = fresh_sequence(model, model.plan("full"), len(ids))
    loop.prefill(sequence, ids)
    about = {"method": "cartridge", "tokens": len(ids), "steps": 0}
    return cartridge_session(model, chosen, ids, entries_of(sequence), about)


def cartridge_session(
    model: HeldModel, recipe: RecipeLike, ids: Seq[int], layers: Seq[KVEntries],
    trained: Mapping[str, Any],
) -> Session:  # fmt: skip
    """A session that holds given entries.

    Args:
        model: for which they were trained.
        recipe: what is asked under: "full", drafters and codecs.
        ids: token ids in whose place the entries stand.
        layers: entries of each layer `[kv_heads, p, ...]`, keys rotated.
        trained: how they were trained, as plain data; the session's file says it.

    Raises:
        Refused: where the recipe or the model does not go with trained entries.
    """
    chosen = recipe_of(recipe)
    require_trainable(model.adapted, chosen, len(ids))
    plan = model.plan(chosen)
    require_session_room(model, plan, len(ids))
    sequence = fresh_sequence(model, plan, len(ids))
    if sequence.noted is not None:
        raise Refused(
            f"{chosen} guesses from hidden states of what was read, and a cartridge has none",
            "take a drafter that looks at tokens alone, such as lookup",
        )
    put_entries(sequence, ids, layers)
    sequence.last_logits = last_logits_of(sequence)
    source = TrainedSource(tuple(ids), dict(trained))
    return Session(model, chosen, source, sequence, list(ids))


def require_trainable(model: AdaptedModel, recipe: Recipe, tokens: int) -> None:
    """Refuses what trained entries cannot stand in.

    Args:
        model: that they are trained for.
        recipe: which they are asked under.
        tokens: entries a layer.

    Raises:
        Refused: with the reason.
    """
    for method in recipe.methods:
        if method.question not in _QUESTIONS:
            raise Refused(
                f"{method} moves or leaves out entries, and those of a cartridge were trained "
                "where they stand, all of them together",
                "train it under 'full', or with drafters and codecs",
            )
    if model.switch is not None:
        raise Refused(
            f"{model.family} changes its rotary frequencies at {model.switch:,} tokens and then "
            "reads all again, which trained entries cannot be",
            "take a model whose frequencies do not follow the length",
        )
    windows = [layer.window for layer in model.layers if layer.window is not None]
    if windows and tokens >= min(windows):
        raise Refused(
            f"{model.family} has layers that see {min(windows):,} tokens and would forget the "
            f"beginning of {tokens:,} trained ones",
            f"train fewer than {min(windows):,}",
        )


@no_autocast()
def compose(sessions: Seq[Session], rotate: bool = False) -> Session:
    """One cartridge of several: their entries one behind the other, without training.

    Args:
        sessions: cartridges of one model and recipe, nothing said behind them yet.
        rotate: False leaves every key at the rotation it was trained with, as the authors do; True
            turns those of later cartridges to the positions behind the earlier ones.

    Returns:
        A session whose questions have positions behind all of them.

    Raises:
        SessionError: for sessions that are no cartridges, or of several models or recipes.
        Refused: to rotate where the model has no rotary positions.
    """
    given = list(sessions)
    if not given:
        raise SessionError("there is nothing to compose; give cartridges")
    first = given[0]
    for each in given:
        _require_cartridge(each)
        if each.model.adapted is not first.model.adapted or each.recipe != first.recipe:
            raise SessionError(
                "cartridges are composed where they are of one model and one recipe; these are of "
                f"{first.model.name} under {first.recipe} and {each.model.name} under "
                f"{each.recipe}"
            )
    ids = [token for each in given for token in each.tokens]
    found, start = [], 0
    for each in given:
        layers = entries_of(each.held)
        found.append(_turned(each.held, layers, start) if rotate else layers)
        start += len(each)
    layers = [concatenate(list(parts)) for parts in zip(*found, strict=True)]
    trained = {
        "method": "cartridge", "tokens": len(ids), "rotated": rotate,
        "composed": [dict(each.source.trained or {}) for each in given],
    }  # fmt: skip
    return cartridge_session(first.model, first.parsed, ids, layers, trained)


def _require_cartridge(session: Session) -> None:
    source = session.source
    if not isinstance(source, TrainedSource) or source.messages or session.compressed:
        raise SessionError(
            f"{session!r} is no cartridge that nothing was said behind yet; "
            "`lengthwise cartridge train` makes one"
        )


def _turned(sequence: Sequence, layers: Seq[KVEntries], by: int) -> list[KVEntries]:
    """Entries whose keys stand `by` positions later."""
    rope, found = sequence.model.rope, []
    if rope is None:
        raise Refused(
            f"{sequence.model.family} has no rotary positions, so no key can be turned",
            "compose without rotate",
        )
    for layer, entries in zip(sequence.layers, layers, strict=True):
        layout = layer.facts.layout
        if layout is None or not by:
            found.append(entries)
            continue
        where = torch.tensor([by], device=entries.key.device)
        cos, sin = rope.angles(layout, layer.facts.rotary_type, where, amplitude=False)
        angles = cos.float(), sin.float()
        turned = layout.rotate(entries.key.float(), angles).to(entries.key.dtype)
        found.append(replace(entries, key=turned))
    return found


__all__ = ["cartridge_session", "compose", "initial_session", "require_trainable"]
