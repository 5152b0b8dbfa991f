"""Far entries off the device: the same text from fewer bytes, and nothing left behind."""

from __future__ import annotations

import copy
import dataclasses
import errno
import os
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.offload import Offload, OffloadedKVStore, mapped
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import begin, prefill, start
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.base import Method
from lengthwise.methods.selection.hip import HiP
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing import check_method
from lengthwise.testing.drive import generate
from lengthwise.testing.tiny import tiny_model, tokens

KEPT: list[Method] = [
    InfLLM(budget=120, window=32, init=6, block=8, query_block=16, representatives=2),
    HiP(budget=80, window=32, init=6, block=2, dense=0, query_block=16),
    HiP(budget=80, window=32, init=6, block=2, dense=0, query_block=16, sample="first"),
]
MODEL = {"initializer_range": 0.15, "max_position_embeddings": 4096}


@pytest.fixture(scope="module")
def model() -> AdaptedModel:
    return adapt(tiny_model("llama", **MODEL))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def away(method: Method, **more: object) -> Method:
    return dataclasses.replace(method, offload="disk", **more)  # type: ignore[call-arg]


@pytest.mark.parametrize("method", KEPT, ids=str)
def test_offloaded_text_is_the_same_and_holds_fewer_bytes(
    model: AdaptedModel, method: Method, folder: Path
) -> None:
    text = tokens(1200)
    plain, held = generate(model, resolve([method], model), text, 24)
    found, sequence = generate(model, resolve([away(method)], model), text, 24)
    assert found == plain
    assert sequence.nbytes() < held.nbytes() / 2
    fork = sequence.fork()
    assert torch.equal(*(prefill(each, tokens(20, seed=3)) for each in (sequence, fork)))
    assert not list(folder.iterdir()), "a mapped file is left behind"


@pytest.mark.parametrize("method", KEPT[:2], ids=str)
def test_offloaded_bytes_stand_in_the_ledger(model: AdaptedModel, method: Method) -> None:
    books = []
    for each in (method, away(method)):
        sequence = Sequence(model, resolve([each], model))
        request = begin(sequence, Sampling(), 4, ())
        start(request, prefill(sequence, tokens(600)))
        for _ in loop.run(request, Fixed()):
            pass
        books.append(loop.finish(request))
    assert books[0].kv_offloaded_bytes == 0
    # What has left the window, but for the first and the newest: about 560 tokens of all layers.
    whole = model.bytes_per_token * 600
    assert 0.8 * whole < books[1].kv_offloaded_bytes < 2.2 * whole
    assert books[1].kv_peak_bytes < books[0].kv_peak_bytes


class AwayInfLLM(InfLLM):
    name: ClassVar[str] = "infllm"

    @classmethod
    def example(cls) -> AwayInfLLM:
        kept = dataclasses.asdict(InfLLM.example()) | {"offload": "disk", "cached": 2}
        return cls(**kept | {"budget": InfLLM.example().budget})


class AwayHiP(HiP):
    name: ClassVar[str] = "hip"

    @classmethod
    def example(cls) -> AwayHiP:
        kept = dataclasses.asdict(HiP.example()) | {"offload": "disk"}
        return cls(**kept | {"budget": HiP.example().budget})


@pytest.mark.parametrize("cls", [AwayInfLLM, AwayHiP], ids=lambda cls: cls.name)
def test_the_laws_hold_off_the_device(cls: type[Method]) -> None:
    assert not check_method(cls, ("llama",)).require().refused


def entries(start: int, stop: int, heads: int = 2) -> KVEntries:
    """Keys and values that say whose they are."""
    index = torch.arange(start, stop)
    key = index[None, :, None] * 10.0 + torch.arange(heads)[:, None, None] + torch.zeros(3)
    return KVEntries(key, -key[..., :2], index[None].int())


@pytest.mark.parametrize("where", ["cpu", "disk"])
@pytest.mark.parametrize("first", [0, 5])
def test_an_offloaded_segment_reads_like_a_plain_one(where: str, first: int) -> None:
    plain, off = KVStore(), OffloadedKVStore(Offload(where, first, unit=4, cached=2))
    torch.manual_seed(0)
    for begun, stop in [(0, 3), (3, 5), (5, 21), (21, 22), (22, 40)]:
        for each in (plain, off):
            each.append(entries(begun, stop))
        assert len(off) == stop
        chosen = torch.randperm(stop)[: stop // 2 + 1].sort().values
        heads = torch.stack([torch.randperm(stop)[:3].sort().values for _ in range(2)])
        for each in (off, copy.deepcopy(off)):
            for ids in (chosen, torch.arange(stop), heads):
                ours, theirs = each.take(ids), plain.take(ids)
                assert torch.equal(ours.key, theirs.key) and torch.equal(ours.value, theirs.value)
                assert torch.equal(ours.index.expand(2, -1), theirs.index.expand(2, -1))
            assert torch.equal(each.take_keys(heads), plain.take(heads).key)
            (everything,) = each.blocks()
            assert torch.equal(everything.key, plain.blocks()[0].key)
        assert len(off._units) <= 2
    assert off.offloaded and off.nbytes() < plain.nbytes()


def test_the_units_used_last_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    off = OffloadedKVStore(Offload("cpu", 0, unit=4, cached=2))
    off.append(entries(0, 24))
    loads: list[int] = []
    plain = OffloadedKVStore._unit
    monkeypatch.setattr(
        OffloadedKVStore, "_unit",
        lambda self, n: (n in self._units or loads.append(n), plain(self, n))[1],
    )  # fmt: skip
    for unit in (0, 1, 0, 2, 0, 1):
        off.take(torch.arange(unit * 4, unit * 4 + 4))
    assert loads == [0, 1, 2, 1]


def test_a_full_disk_is_one_error(model: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    sequence = Sequence(model, resolve([away(KEPT[0])], model))
    with pytest.raises(LengthwiseError, match=r"offload=disk: .*No space left.*TMPDIR"):
        prefill(sequence, tokens(300))


def test_space_is_claimed_before_it_is_written(folder: Path) -> None:
    """A sparse file would kill the process when the disk is full."""
    sizes = []
    plain = torch.from_file

    def noting(name: str, **rest: object) -> torch.Tensor:
        sizes.append(os.stat(name).st_blocks * 512)
        return plain(name, **rest)  # type: ignore[arg-type]

    torch.from_file = noting  # type: ignore[assignment]
    try:
        assert mapped((100, 2, 64), torch.bfloat16).shape == (100, 2, 64)
    finally:
        torch.from_file = plain
    assert sizes[0] >= 100 * 2 * 64 * 2


@pytest.mark.parametrize("cls", [InfLLM, HiP])
def test_cpu_memory_is_refused_where_the_cache_is_there_already(
    model: AdaptedModel, cls: type[Method]
) -> None:
    with pytest.raises(Refused, match="in CPU memory already; offload=disk saves memory"):
        resolve([cls(offload="cpu")], model)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "recipe",
    ["infllm(offload=disk) + kivi", "hip(offload=disk) + int8", "hip(offload=disk) + self_extend"],
)
def test_what_stores_or_places_far_keys_too_is_refused(model: AdaptedModel, recipe: str) -> None:
    with pytest.raises(Refused, match=r"offload=disk.*offload=none"):
        resolve(recipe, model)


def test_cached_blocks_need_blocks_that_are_away() -> None:
    with pytest.raises(RecipeError, match="without offload=cpu or disk"):
        InfLLM(cached=4)
    assert InfLLM(cached=4, offload="disk").cached == 4
