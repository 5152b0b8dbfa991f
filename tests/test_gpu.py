"""What only a GPU can show: its kernel beside the plain twin, the laws there, far blocks off it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from lengthwise.engine import loop
from lengthwise.engine.attention.attend import Part, attend, single_softmax
from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kernels import lengths, varlen
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.static import graphs
from lengthwise.errors import ModelError
from lengthwise.methods.base import Method
from lengthwise.methods.selection.hip import HiP
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.recipes.registry import methods
from lengthwise.testing import check_method, laws
from lengthwise.testing.drive import generate
from lengthwise.testing.tiny import tiny_model, tokens
from tests.engine.static.few_guesses import Few

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


# Steps as graphs.

STATIC = ["full", "streaming(sinks=4, window=100)", "snapkv(budget=50%)", "yarn(factor=2)"]


def begun(model: AdaptedModel, recipe: str, lengths_: list[int], new: int) -> list[Request]:
    plan, found = resolve(recipe, model), []
    for length in lengths_:
        sequence = Sequence(model, plan, expected=length + new)
        request = loop.begin(sequence, Sampling(), new, ())
        loop.start(request, loop.prefill(sequence, tokens(length, seed=length)))
        found.append(request)
    return found


def there(dtype: torch.dtype) -> AdaptedModel:
    settings = {"initializer_range": 0.15, "max_position_embeddings": 4096}
    return adapt(tiny_model("llama", **settings).to("cuda", dtype))


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches of which a step was captured."""
    found, captured = [], graphs.captured

    def noted(step: Any, pool: Any) -> Any:
        made = captured(step, pool)
        found.append(len(step.rooms))
        return made

    monkeypatch.setattr(graphs, "captured", noted)
    return found


@pytest.mark.parametrize("rows", [[300], [300, 17, 411, 64]], ids=len)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recipe", STATIC)
def test_a_graph_gives_the_logits_of_the_ordinary_step(
    recipe: str, dtype: torch.dtype, rows: list[int], captures: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = there(dtype)
    ours, right = (begun(model, recipe, rows, 40) for _ in range(2))
    near = {torch.float32: 1e-4, torch.bfloat16: 0.05}[dtype]
    for _ in range(30):
        pending = [request.pending for request in right]
        served = graphs.serve([r.sequence for r in ours], [[token] for token in pending])
        assert served is not None
        items = [(r.sequence, [token], None) for r, token in zip(right, pending, strict=True)]
        found, metadata = loop.extend(items, "all")
        for row, token in enumerate(pending):
            spread = found[row].float().std()
            error = (served.logits[row] - found[row]).float().abs().mean() / spread
            assert float(error) < near
            ours[row].sequence.commit(served.steps[row], [token])
            right[row].sequence.commit(metadata[row], [token])
            right[row].pending = int(found[row].argmax())
    assert captures == [len(rows)]


@pytest.mark.parametrize("recipe", STATIC)
def test_the_text_of_graphs_is_that_of_ordinary_steps(
    recipe: str, captures: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, said = there(torch.float32), []
    for word in ("on", "off", "twin"):
        monkeypatch.setenv("LENGTHWISE_GRAPH", word)
        requests = begun(model, recipe, [200, 60, 333], 60)
        while active := [request for request in requests if not request.done]:
            loop.step(active)
        said.append([request.output for request in requests])
    assert said[0] == said[1] == said[2]
    assert captures


@pytest.mark.parametrize("recipe", ["full", "snapkv(budget=50%)"])
def test_trees_in_graphs_leave_the_text_as_it_is(recipe: str, captures: list[int]) -> None:
    model = there(torch.float32)
    (right,), (ours,) = (begun(model, recipe, [200], 120) for _ in range(2))
    while not right.done:
        loop.step([right])
    ours.drafters.append(Few(200, right.output))
    captures.clear()
    while not ours.done:
        loop.step([ours], Fixed())
    assert ours.output == right.output
    assert len(captures) >= 2


def test_sixteen_rows_write_what_each_writes_alone() -> None:
    model, sizes = there(torch.float32), [40 + 23 * row for row in range(16)]
    together = begun(model, "full", sizes, 30)
    alone = begun(model, "full", sizes, 30)
    while active := [request for request in together if not request.done]:
        loop.step(active)
    for request in alone:
        while not request.done:
            loop.step([request])
    assert [request.output for request in together] == [request.output for request in alone]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(9, 3, 64), (32, 8, 128), (4, 4, 64)])
def test_the_kernel_reads_rows_as_its_twin_does(
    heads: int, key_heads: int, size: int, dtype: torch.dtype
) -> None:
    device = torch.device("cuda")
    assert lengths.agrees(device, dtype, heads, key_heads, size)


@pytest.mark.parametrize("rows", [1, 8])
def test_graphs_take_little_memory_beside_the_cache(rows: int) -> None:
    settings = {"num_hidden_layers": 4, "max_position_embeddings": 1 << 16}
    model = adapt(tiny_model("llama", **settings).to("cuda", torch.bfloat16))
    requests = begun(model, "full", [1 << 15] * rows, 40)
    kept = sum(request.sequence.nbytes() for request in requests)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(30):
        loop.step(requests)
    # Rows are moved side by side a layer at a time; the workspace of the products comes with it.
    assert torch.cuda.max_memory_allocated() - before < kept / 4 * 1.1 + (96 << 20)
