"""What only a GPU can show of decoding steps captured as graphs: their logits, texts and memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lengthwise.engine import loop
from lengthwise.engine.kernels import lengths
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.static import graphs
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens
from tests.engine.static.few_guesses import Few

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

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
