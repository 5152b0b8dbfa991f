"""What only a GPU can show: its kernel beside the plain twin, the laws there, far blocks off it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.engine.attention.attend import Part, attend, single_softmax
from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kernels import dequantise, gather, ragged, tree, varlen
from lengthwise.engine.kernels.kernel import BLOCK
from lengthwise.engine.kernels.part import Asked, Chosen
from lengthwise.engine.kernels.ragged import Piece
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.errors import ModelError
from lengthwise.methods.base import Method
from lengthwise.methods.codecs.int8 import Int8Codec
from lengthwise.methods.codecs.kivi import KiviCodec
from lengthwise.methods.selection.hip import HiP
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.recipes.registry import methods
from lengthwise.testing import check_method, laws
from lengthwise.testing.drive import generate
from lengthwise.testing.tiny import tiny_model, tokens
from tests.cache_recipes import RECIPES
from tests.evaluation.drafting_cases import saved_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
KEPT: list[Method] = [
    InfLLM(budget=120, window=32, init=6, block=8, query_block=16, representatives=2),
    HiP(budget=80, window=32, init=6, block=2, dense=0, query_block=16),
]


def parts(
    heads: int, groups: int, queries: int, keys: int, size: int, dtype: torch.dtype, causal: bool
) -> list[Part]:
    """One part whose keys lie in a room larger than they are, as a cache's do."""
    torch.manual_seed(queries + keys)
    made: dict[str, Any] = {"device": "cuda", "dtype": dtype}
    query = torch.randn(heads, queries, size, **made)
    room = torch.randn(2, heads // groups, keys + 100, size, **made)
    return [Part(query, room[0, :, :keys], room[1, :, :keys], None, causal)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "groups", "size"), [(9, 3, 64), (8, 1, 128), (4, 4, 256)])
@pytest.mark.parametrize(
    ("queries", "keys", "causal"),
    [(64, 64, True), (40, 1100, True), (1, 3000, False), (17, 500, False), (1024, 2048, True)],
)
def test_the_kernel_is_its_plain_twin(
    heads: int, groups: int, size: int, queries: int, keys: int, causal: bool, dtype: torch.dtype
) -> None:
    given = parts(heads, groups, queries, keys, size, dtype, causal)
    assert varlen.can(given[0].query, given[0].key, given[0].value)
    out, lse = attend(given, size**-0.5, need_lse=True)
    exact = [dataclasses.replace(p, query=p.query.float(), key=p.key.float(),
                                 value=p.value.float()) for p in given]  # fmt: skip
    right, total = attend_plain(exact, size**-0.5)
    assert lse is not None
    assert float((out.float() - right).norm() / right.norm()) < 1e-2
    assert float((lse - total).abs().max()) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_two_parts_are_one_softmax(dtype: torch.dtype) -> None:
    before, own = parts(9, 3, 33, 700, 64, dtype, False), parts(9, 3, 33, 33, 64, dtype, True)
    both = [before[0], dataclasses.replace(own[0], query=before[0].query)]
    out, lse = attend(both, 0.125, need_lse=True)
    exact = [dataclasses.replace(p, query=p.query.float(), key=p.key.float(),
                                 value=p.value.float()) for p in both]  # fmt: skip
    right, total = attend_plain(exact, 0.125)
    assert lse is not None
    assert float((out.float() - right).norm() / right.norm()) < 1e-2
    assert float((lse - total).abs().max()) < 1e-2


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_one_step_is_its_plain_twin(rows: int) -> None:
    made: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    query, key, value = (torch.randn(3, n, 64, **made) for n in (rows, 5000, 5000))
    found = single_softmax(query, key, value, 0.125).float()
    weights = torch.softmax(query.float() @ key.float().transpose(1, 2) * 0.125, -1)
    right = weights @ value.float()
    assert float((found - right).norm() / right.norm()) < 1e-2


SHAPES = [(9, 3, 64), (32, 8, 128)]
LONG = 32_768


def close(out: torch.Tensor, right: torch.Tensor) -> bool:
    return float((out.float() - right).norm() / right.norm()) < 1e-2


def exact(part: Part) -> Part:
    return dataclasses.replace(
        part, query=part.query.float(), key=part.key.float(), value=part.value.float()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("queries", [1, 7, 64, 128])
@pytest.mark.parametrize("kind", ["causal", "tree", "masked", "weighted", "capped"])
def test_triton_is_its_plain_twin(
    kind: str, queries: int, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    pytest.importorskip("triton")
    (part,) = parts(shape[0], shape[0] // shape[1], queries, LONG, shape[2], dtype, False)
    scaling, cap, given = shape[2] ** -0.5, 3.0 if kind == "capped" else None, {}
    seen = torch.rand(queries, queries, device="cuda").tril() + torch.eye(queries).cuda() > 0.5
    whole = torch.ones(queries, LONG, dtype=torch.bool, device="cuda")
    whole[:, -queries:] = seen
    if kind == "causal":
        part = dataclasses.replace(part, causal=True)
    elif kind in ("tree", "masked"):
        part = dataclasses.replace(part, mask=whole)
        given = {"hidden": ~seen} if kind == "tree" else {"mask": whole}
    elif kind == "weighted":
        part = dataclasses.replace(part, log_weight=torch.rand(shape[1], LONG, device="cuda") * 3)
    assert BLOCK["triton"].serves(Asked([part], scaling, cap))
    if kind in ("tree", "masked"):
        out, lse = tree.attend_spans(part.query, part.key, part.value, scaling, **given)
    else:
        out, lse = BLOCK["triton"].attend(Asked([part], scaling, cap, None, True))
    right, total = attend_plain([exact(part)], scaling, cap)
    assert close(out, right) and float((lse - total).abs().max()) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["causal", "masked", "weighted", "capped"])
def test_flex_is_its_plain_twin(kind: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    heads, key_heads, size = shape
    for queries, keys in ((1, LONG), (64, LONG), (128, 4096)):
        (part,) = parts(heads, heads // key_heads, queries, keys, size, dtype, kind == "causal")
        if kind == "masked":
            part = dataclasses.replace(part, mask=torch.rand(queries, keys, device="cuda") > 0.5)
        if kind == "weighted":
            weight = torch.rand(key_heads, keys, device="cuda") * 3
            part = dataclasses.replace(part, log_weight=weight)
        asked = Asked([part], size**-0.5, 3.0 if kind == "capped" else None, None, True)
        assert BLOCK["flex"].serves(asked)
        out, lse = BLOCK["flex"].attend(asked)
        right, total = attend_plain([exact(part)], asked.scaling, asked.softcap)
        assert close(out, right) and lse is not None
        assert float((lse - total).abs().max()) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("queries", [1, 64, 128])
@pytest.mark.parametrize("rows", ["shared", "by key head", "by head"])
def test_chosen_keys_are_read_where_they_lie(
    rows: str, queries: int, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    pytest.importorskip("triton")
    heads, key_heads, size = shape
    (part,) = parts(heads, heads // key_heads, queries, LONG, size, dtype, False)
    count = {"shared": 1, "by key head": key_heads, "by head": heads}[rows]
    ids = torch.rand(count, LONG, device="cuda").argsort(-1)[:, :2048].sort(-1).values
    asked = Chosen(part.query, part.key, part.value, ids)
    assert gather.can(asked)
    out, lse = gather.run(asked, size**-0.5)
    right, total = attend_plain([exact(asked.part())], size**-0.5)
    assert close(out, right) and lse is not None and float((lse - total).abs().max()) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("queries", [1, 64, 128])
@pytest.mark.parametrize("bits", [2, 4, 8, "int8"])
def test_encoded_keys_are_decoded_tile_by_tile(
    bits: int | str, queries: int, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    pytest.importorskip("triton")
    heads, key_heads, size = shape
    (part,) = parts(heads, heads // key_heads, queries, LONG, size, dtype, False)
    index = torch.arange(LONG, dtype=torch.int32, device="cuda")[None]
    codec = Int8Codec(1, 32) if isinstance(bits, str) else KiviCodec(bits, bits, 32, 1)
    block = codec.close(KVEntries(part.key.contiguous(), part.value.contiguous(), index))
    coded = block.read(part.query)
    assert dequantise.can(coded)
    out, lse = dequantise.run(coded, size**-0.5)
    right, total = attend_plain([exact(coded.part())], size**-0.5)
    assert close(out, right) and lse is not None and float((lse - total).abs().max()) < 2e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("queries", [1, 128])
def test_heads_that_keep_unequal_numbers_are_attended_to_together(
    queries: int, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    pytest.importorskip("triton")
    heads, key_heads, size = shape
    (part,) = parts(heads, heads // key_heads, queries, LONG, size, dtype, False)
    rest = list(range(1, key_heads))
    weight = torch.rand(key_heads - 1, 5, device="cuda") * 5
    pieces = [
        Piece([0], part.key[:1], part.value[:1]),
        Piece(rest, part.key[1:, :700], part.value[1:, :700]),
        Piece(rest, part.key[1:, 900:905], part.value[1:, 900:905], weight),
    ]
    assert ragged.can(part.query, pieces)
    out, lse = ragged.run(part.query, pieces, size**-0.5)
    assert lse is not None
    group = heads // key_heads
    alone = exact(part)
    first = Part(alone.query[:group], alone.key[:1], alone.value[:1])
    others = [
        Part(alone.query[group:], piece.key.float(), piece.value.float(), log_weight=w)
        for piece, w in zip(pieces[1:], (None, weight), strict=True)
    ]
    for rows, given in ((slice(group), [first]), (slice(group, None), others)):
        right, total = attend_plain(given, size**-0.5)
        assert close(out[rows], right) and float((lse[rows] - total).abs().max()) < 1e-2


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_oss"])
@pytest.mark.parametrize("name", sorted(methods()))
def test_the_laws_hold_there(name: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def there(which: str) -> AdaptedModel:
        settings = {"initializer_range": 0.15, "max_position_embeddings": laws.TRAINED}
        return adapt(tiny_model(which, **settings).cuda())

    monkeypatch.setattr(laws, "law_model", there)
    if name == "datastore":
        pytest.importorskip("pydivsufsort")
    try:
        check_method(name, (family,)).require()
    except ModelError as error:
        # A drafter that is another model guesses with the embedded one.
        pytest.skip(str(error))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", KEPT, ids=str)
def test_far_blocks_in_cpu_memory_leave_the_text_as_it_is(
    method: Method, dtype: torch.dtype
) -> None:
    settings = {"initializer_range": 0.15, "max_position_embeddings": 8192}
    model = adapt(tiny_model("llama", **settings).to("cuda", dtype))
    text, used, said = tokens(4000), [], []
    for offload in ("none", "none", "cpu"):
        away = dataclasses.replace(method, offload=offload)  # type: ignore[call-arg]
        before = torch.cuda.memory_allocated()
        tokens_, sequence = generate(model, resolve([away], model), text, 24)
        used.append(torch.cuda.memory_allocated() - before)
        said.append(tokens_)
        del sequence
    # The first run also makes the tables that all share.
    assert said[0] == said[1] == said[2]
    assert used[2] < used[1] / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt_oss", "phi3"])
def test_prefill_and_steps_are_those_of_float32(family: str, dtype: torch.dtype) -> None:
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.engine.loop import prefill, teacher_force

    ids, found = tokens(600), []
    for device, kind in (("cpu", torch.float32), ("cuda", dtype)):
        model = adapt(tiny_model(family, max_position_embeddings=2048).to(device, kind))
        sequence = Sequence(model, resolve("full", model))
        prefill(sequence, ids[:560])
        found.append(teacher_force(sequence, ids[560:]).float().cpu())
    exact, ours = found
    assert float((ours - exact).abs().mean() / exact.std()) < 0.05


# Parts of a model elsewhere.

PARTS = ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.1",
         "model.norm", "lm_head")  # fmt: skip
AWAY: dict[str, Any] = {
    "cpu": {**dict.fromkeys(PARTS, 0), "model.layers.1": "cpu"},
    "disk": {**dict.fromkeys(PARTS, 0), "model.layers.0": "disk"},
    "first layers": {**dict.fromkeys(PARTS, 0), "model.embed_tokens": "cpu", "lm_head": "disk"},
    "auto": "auto",
}


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import LlamaConfig, LlamaForCausalLM

    place = saved_model(tmp_path_factory.mktemp("models") / "two")
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(
        place, num_hidden_layers=2, tie_word_embeddings=False, initializer_range=0.15
    )
    LlamaForCausalLM(config).save_pretrained(place)
    return str(place)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("away", AWAY)
def test_layers_that_wait_elsewhere_leave_the_text_as_it_is(
    two_layers: str, away: str, dtype: str, tmp_path: Path
) -> None:
    whole = lengthwise.load(two_layers, dtype, "cuda")
    placed = lengthwise.load(
        two_layers, dtype, device_map=AWAY[away], offload_folder=tmp_path / "weights"
    )
    waiting = sum(weight.is_meta for weight in placed.adapted.model.parameters())
    assert (waiting > 0) == (away != "auto") and placed.adapted.device.type == "cuda"
    ids = [token % 500 + 4 for token in tokens(120)]
    near = 1e-4 if dtype == "float32" else 0.1
    for recipe in RECIPES:
        theirs = whole.score(ids, recipe, prompt=100)
        assert float((placed.score(ids, recipe, prompt=100) - theirs).abs().max()) <= near, recipe
        if dtype == "float32":
            said = {"recipe": f"{recipe} + lookup", "max_new_tokens": 16, "stop_ids": []}
            ours = placed.generate(ids, **said).token_ids
            assert ours == whole.generate(ids, **said).token_ids, recipe


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss"])
def test_layers_on_two_gpus_leave_the_text_as_it_is(family: str) -> None:
    from tests.second_devices import spread

    places = [torch.device("cuda:0"), torch.device("cuda:1")]
    whole = lengthwise.wrap(tiny_model(family).cuda())
    split = lengthwise.wrap(spread(tiny_model(family), places, *places))
    assert [layer.device for layer in split.adapted.layers] == places
    ids = [min(token, 119) for token in tokens(90)]
    for recipe in RECIPES:
        theirs = whole.score(ids, recipe, prompt=80)
        assert float((split.score(ids, recipe, prompt=80) - theirs).abs().max()) <= 1e-4, recipe
