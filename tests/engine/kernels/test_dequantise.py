"""What codecs hold: decoded first or tile by tile, it gives the same; and who reads it so."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.attention.attend import attend
from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kernels import attempts, choice, compiled, dequantise
from lengthwise.engine.kernels.kernel import BLOCK
from lengthwise.engine.kernels.part import Coded, Part
from lengthwise.engine.kv_cache.entries import KVEntries, Readable
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.methods.codecs.int8 import Int8Block, Int8Codec
from lengthwise.methods.codecs.kivi import KiviCodec
from lengthwise.methods.codecs.pruned import PlainBlock, PrunedBlock, narrow
from lengthwise.models.adapt import adapt
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens

HEADS, KEY_HEADS = 6, 2
interpreted = pytest.mark.skipif(
    not (compiled.INTERPRETED and compiled.installed()),
    reason="runs where Triton is interpreted: test_interpreted",
)
FORMATS = {
    "int8": Int8Codec(1, 32), "kivi 2": KiviCodec(2, 2, 32, 1), "kivi 4": KiviCodec(4, 4, 32, 1),
    "kivi 4/2": KiviCodec(4, 2, 16, 1), "kivi 8": KiviCodec(8, 8, 32, 1),
}  # fmt: skip


def read(name: str, queries: int, keys: int, size: int, seed: int, dtype: torch.dtype) -> Coded:
    generator = torch.Generator().manual_seed(seed)

    def normal(*given: int) -> torch.Tensor:
        return torch.randn(*given, generator=generator).to(dtype)

    key, value = normal(2, KEY_HEADS, keys, size)
    entries = KVEntries(key, value, torch.arange(keys, dtype=torch.int32)[None])
    block = FORMATS[name].close(entries)
    assert isinstance(block, Readable)
    found = block.read(normal(HEADS, queries, size))
    assert isinstance(found, Coded)
    return found


CASES = {
    "name": st.sampled_from(sorted(FORMATS)), "queries": st.sampled_from([1, 3, 20]),
    "blocks": st.integers(1, 9), "size": st.sampled_from([8, 24, 64]),
    "seed": st.integers(0, 1000),
}  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(**CASES)
def test_codes_are_what_the_codec_decodes(name, queries, blocks, size, seed) -> None:
    coded = read(name, queries, 32 * blocks, size, seed, torch.float32)
    for codes, right in zip((coded.key, coded.value), coded.decode(), strict=True):
        assert torch.allclose(codes.decode(), right, atol=1e-5)


@interpreted
@settings(max_examples=20, deadline=None)
@given(**CASES, softcap=st.sampled_from([None, 3.0]), dtype=st.sampled_from(compiled.DTYPES))
def test_triton_decodes_tile_by_tile(name, queries, blocks, size, seed, softcap, dtype) -> None:
    for kind, limit in ((torch.float32, 3e-5), (dtype, 0.05)):
        coded = read(name, queries, 32 * blocks, size, seed, kind)
        assert dequantise.serves(coded)
        out, lse = dequantise.run(coded, 0.3, softcap)
        part = coded.part()
        right, total = attend_plain(
            [Part(part.query.float(), part.key.float(), part.value.float())], 0.3, softcap
        )
        assert lse is not None and out.dtype == kind
        assert torch.allclose(out.float(), right, atol=limit)
        assert torch.allclose(lse, total, atol=limit)


def test_pruned_channels_are_a_matter_of_the_query() -> None:
    key, value = torch.randn(2, KEY_HEADS, 64, 16)
    entries = KVEntries(key, value, torch.arange(64, dtype=torch.int32)[None])
    kept = torch.stack([torch.randperm(16)[:10].sort().values for _ in range(KEY_HEADS)])
    query = torch.randn(HEADS, 3, 16)
    for inner in (PlainBlock.make(narrow(entries, kept)), FORMATS["int8"].close(
        narrow(entries, kept)
    )):  # fmt: skip
        block = PrunedBlock(inner, kept, 16)
        found, plain = block.read(query), block.decode()
        assert found is not None and found.query.shape == (HEADS, 3, 10)
        part = found if isinstance(found, Part) else found.part()
        out, _ = attend_plain([part], 0.3)
        right, _ = attend_plain([Part(query, plain.key, plain.value)], 0.3)
        assert torch.allclose(out, right, atol=1e-5)


def test_where_that_fails_entries_are_decoded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(attempts, "_FAILED", set())
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())
    monkeypatch.setattr(dequantise, "run", fails)
    monkeypatch.setattr(dequantise, "can", lambda asked: True)
    coded = read("kivi 2", 3, 64, 16, 0, torch.float32)
    assert dequantise.serves(coded)
    for _ in range(2):
        out, _ = attend([coded], 0.3)
        assert torch.allclose(out, attend_plain([coded.part()], 0.3)[0], atol=2e-5)
    assert capsys.readouterr().err.count("kernel dequantise fails here") == 1
    assert not dequantise.serves(coded), "from then on they are decoded, and that is counted"
    monkeypatch.setattr(attempts, "_FAILED", set())
    with choice.using("coded=decode"):
        assert not dequantise.serves(coded)


def pruned_and_late(queries: int, keys: int) -> tuple[list[Part], list[Part]]:
    """Entries that lack channels and plain ones behind them: as they are stored, and decoded."""
    key, value = torch.randn(2, KEY_HEADS, keys, 16)
    entries = KVEntries(key, value, torch.arange(keys, dtype=torch.int32)[None])
    kept = torch.stack([torch.randperm(16)[:10].sort().values for _ in range(KEY_HEADS)])
    block = PrunedBlock(PlainBlock.make(narrow(entries, kept)), kept, 16)
    query, late = torch.randn(HEADS, queries, 16), torch.randn(2, KEY_HEADS, queries + 5, 16)
    found, plain = block.read(query), block.decode()
    assert isinstance(found, Part)
    own = Part(query, *late, causal=True)
    return [found, own], [Part(query, plain.key, plain.value), own]


@pytest.mark.parametrize("keys", [40, 5000])
@pytest.mark.parametrize("queries", [1, 4, 33])
@pytest.mark.parametrize("name", [name for name in BLOCK if not BLOCK[name].compiled])
def test_kernels_read_parts_of_unequal_numbers_of_channels(
    name: str, queries: int, keys: int
) -> None:
    torch.manual_seed(0)
    stored, decoded = pruned_and_late(queries, keys)
    right, total = attend_plain(decoded, 0.3)
    sinks = torch.randn(HEADS)
    with choice.using(f"block={name}"):
        out, lse = attend(stored, 0.3, need_lse=True)
        assert lse is not None
        assert torch.allclose(out, right, atol=2e-5) and torch.allclose(lse, total, atol=2e-5)
        found, expected = attend(stored, 0.3, 3.0, sinks)[0], attend_plain(decoded, 0.3, 3.0, sinks)
        assert torch.allclose(found, expected[0], atol=2e-5)
        alone, expected = attend(stored[:1], 0.3)[0], attend_plain(decoded[:1], 0.3)
        assert torch.allclose(alone, expected[0], atol=2e-5)


@pytest.mark.parametrize(
    ("recipe", "decodes"),
    [("think(recent=16)", False), ("h2o(budget=120) + think(recent=16)", True),
     ("think(recent=16) + kivi(bits=4)", True), ("int8(residual=16)", True)],
)  # fmt: skip
def test_a_cpu_decodes_no_keys_that_only_lack_channels(
    recipe: str, decodes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapt(tiny_model("llama", max_position_embeddings=2048))
    text, found, decoded = tokens(205), [], []
    for kind in (PrunedBlock, Int8Block):
        run = kind.decode
        monkeypatch.setattr(kind, "decode", lambda self, run=run: decoded.append("") or run(self))
    for way in ("decode", "dequantise"):
        sequence = Sequence(model, resolve(recipe, model))
        prefill(sequence, text[:200])
        sequence.end_prefill()
        decoded.clear()
        with choice.using(f"coded={way}"):
            found.append((teacher_force(sequence, text[200:]), sequence._transient))
    assert bool(decoded) == decodes
    (right, there), (read, here) = found
    assert torch.allclose(right, read, atol=2e-4)
    assert there and (decodes or not here)


@interpreted
@pytest.mark.parametrize(
    "recipe", ["int8(residual=16)", "kivi(residual=32)", "think(recent=16)", "think + kivi(bits=4)"]
)
def test_triton_serves_a_codec_without_decoded_copies(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its plain twin, which the first call is held against, decodes.
    monkeypatch.setattr(attempts, "COMPARED", 0)
    model = adapt(tiny_model("llama", max_position_embeddings=2048))
    text, found = tokens(205), []
    decoded: list[str] = []
    for kind in (FORMATS["int8"], FORMATS["kivi 2"]):
        block = type(kind.close(KVEntries(*torch.randn(2, 1, 32, 8), torch.zeros(1, 32))))
        run = block.decode
        monkeypatch.setattr(block, "decode", lambda self, run=run: decoded.append("") or run(self))
    for way in ("decode", "dequantise"):
        sequence = Sequence(model, resolve(recipe, model))
        with choice.using(f"coded={way}"):
            prefill(sequence, text[:200])
            sequence.end_prefill()
            decoded.clear()
            logits = teacher_force(sequence, text[200:])
        assert sequence.head_groups(0)[0].near.closed
        assert way == "decode" or not decoded
        found.append((logits, sequence._transient))
    (right, there), (read, here) = found
    assert torch.allclose(right, read, atol=2e-4)
    assert here == 0 < there
