"""Checks of which entries are named: those a selection reads, and those a retention keeps.

Attention does not care about the order of keys, so no other law sees ids that are out of order; but
windows, blocks and the positions of far keys rely on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Seq
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.retention import CacheUpdate, Retention
from lengthwise.engine.kv_cache.selection import (
    PromptSelector,
    Queries,
    RawSelector,
    SelectedKeys,
    Selector,
)
from lengthwise.engine.plan import Plan
from lengthwise.methods.base import Method
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.recipes import resolve
from lengthwise.testing.drive import together
from lengthwise.testing.laws import CHUNK, COUNT, STEPS, fail
from lengthwise.testing.tiny import tokens


class WrongIds(Exception):
    """Ids of entries are not what they must be."""


def out_of_order(ids: Tensor, count: int) -> str:
    """What is wrong with ids `[..., n]` of `count` entries; "" where nothing is."""
    if ids.dtype != torch.int64:
        return f"ids are {str(ids.dtype).removeprefix('torch.')}, and int64 is due"
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= count):
        return f"ids reach from {int(ids.min())} to {int(ids.max())}, and there are {count} entries"
    steps = ids.diff(dim=-1)
    if bool((steps == 0).any()):
        return "ids are repeated"
    return "ids are not in ascending order" if bool((steps < 0).any()) else ""


class _Selector:
    """Looks at every choice of another selector."""

    def __init__(self, inner: Selector) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        self.inner.extend(entries, far)

    def extend_raw(self, key: Tensor) -> None:
        if isinstance(self.inner, RawSelector):
            self.inner.extend_raw(key)

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        choice = self.inner.plan(queries, far)
        if choice is not None and (wrong := out_of_order(choice.ids, len(far))):
            raise WrongIds(f"plan: {wrong}")
        return choice


class _PromptSelector(_Selector):
    """The same for one that looks at the whole prompt."""

    @property
    def window(self) -> int:
        return int(self.inner.window)  # type: ignore[attr-defined]

    def index_prompt(self, queries: Tensor, far: KVStore) -> None:
        self.inner.index_prompt(queries, far)  # type: ignore[attr-defined]

    def agree(self, layers: Seq[_PromptSelector]) -> None:
        self.inner.agree([layer.inner for layer in layers])  # type: ignore[attr-defined]


class _Retention:
    """Looks at what another retention leaves behind."""

    def __init__(self, inner: Retention) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def retain(self, group: HeadGroup, update: CacheUpdate) -> Seq[HeadGroup] | None:
        try:
            found = self.inner.retain(group, update)
        except (IndexError, RuntimeError) as error:
            # PyTorch raises either, by the way it indexes.
            raise WrongIds(f"retain: there is no such entry, or {error}") from error
        for each in (group,) if found is None else found:
            for store in (each.near, each.far):
                born = [block.index for block in store.blocks()]
                if born and (wrong := _disorder(torch.cat(born, -1))):
                    raise WrongIds(f"retain: {wrong}")
        return found


def _disorder(born: Tensor) -> str:
    """What is wrong with birth ids `[heads, n]` of entries that are held; "" where nothing is."""
    steps = born.diff(dim=-1)
    if bool((steps == 0).any()):
        return "an entry is held twice, so its id was repeated"
    return "what is kept is not in ascending order" if bool((steps < 0).any()) else ""


def _run(cls: type[Method], model: AdaptedModel, plan: Plan) -> None:
    try:
        for chunk in (COUNT, CHUNK):
            together(model, plan, [tokens(COUNT)], STEPS, chunk)
    except (WrongIds, IndexError) as error:
        fail(cls, model, str(error))


def check_selection_ids(cls: type[Method], model: AdaptedModel) -> None:
    """The entries that a query reads are named once each, in order, and are there."""
    plan = resolve((cls.example(),), model)
    start = plan.selector
    if start is None:
        return

    def watch(layer: LayerFacts) -> Any:
        found = start(layer)
        watching = _PromptSelector if isinstance(found, PromptSelector) else _Selector
        return None if found is None else watching(found)

    _run(cls, model, dataclasses.replace(plan, selector=watch))


def check_retention_ids(cls: type[Method], model: AdaptedModel) -> None:
    """The entries that are kept are named once each, in order, and are there."""
    plan = resolve((cls.example(),), model)
    start = plan.retention
    if start is None:
        return

    def watch() -> Any:
        found = start()
        return None if found is None else _Retention(found)

    _run(cls, model, dataclasses.replace(plan, retention=watch))


__all__ = ["check_retention_ids", "check_selection_ids", "out_of_order"]
