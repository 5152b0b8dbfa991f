"""Kernelised attention: the FFT is the plain sum, unit features are stable, a cache goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import lengthwise
from lengthwise.architectures.decoder import Rows
from lengthwise.architectures.kernelised import convolved, documents, log_features, products
from lengthwise.errors import LengthwiseError
from tests.architectures.test_architectures import ids, logits, made

FAMILY = "kernelised_attention"


def model_of(seed: int = 0, **settings: Any) -> Any:
    """A model whose biases are not 0."""
    model = made(FAMILY, seed, **settings)
    for layer in model.layers:
        torch.nn.init.normal_(layer.attention.bias)
    return model


def attended(model: Any, count: int, seed: int = 0, size: float = 1.0) -> tuple[Any, list[Tensor]]:
    """An attention and queries, keys, values `[1, 2, count, 16]` in the dtype of its weights."""
    attention = model.layers[0].attention
    chance = torch.Generator().manual_seed(seed)
    dtype = attention.q.weight.dtype
    drawn = torch.randn(3, 1, 2, count, 16, generator=chance, dtype=dtype) * size
    return attention, list(drawn)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("count", [1, 2, 7, 64, 300])
def test_the_fft_is_the_plain_sum(dtype: torch.dtype, close: float, count: int) -> None:
    where = Rows(torch.arange(count)[None])
    found = []
    for path in ("fft", "dense"):
        attention, drawn = attended(model_of(path=path, distances=50).to(dtype), count)
        found.append(attention.read(*drawn, where))
    assert found[0].dtype == dtype
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=close)


@pytest.mark.parametrize("path", ["fft", "dense"])
def test_halves_are_summed_in_float32(path: str) -> None:
    attention, drawn = attended(model_of(path=path), 30)
    where, halves = Rows(torch.arange(30)[None]), [x.bfloat16() for x in drawn]
    wanted = attention.read(*(x.float() for x in halves), where)
    with torch.autocast("cpu", torch.bfloat16):
        found = attention.read(*halves, where)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted.bfloat16(), rtol=1e-2, atol=1e-3)


def test_features_a_few_at_a_time_are_features(monkeypatch: pytest.MonkeyPatch) -> None:
    attention, drawn = attended(model_of(path="fft"), 30)
    where = Rows(torch.arange(30)[None])
    whole = attention.read(*drawn, where)
    monkeypatch.setattr("lengthwise.architectures.kernelised.TOGETHER", 1)
    torch.testing.assert_close(attention.read(*drawn, where), whole)


def test_weights_are_the_papers() -> None:
    """Row by row: exp of the bias, times the product of features, over its sum."""
    attention, (query, key, value) = attended(model_of(path="dense", distances=4), 9)
    found = attention.read(query, key, value, Rows(torch.arange(9)[None]))[0, 1]
    w, bias = attention.directions, attention.bias[1]
    unit = [x[0, 1] / x[0, 1].norm(dim=-1, keepdim=True) for x in (query, key)]
    phi = [(x @ w.mT - 0.5).exp() / 4 for x in unit]
    for i in range(9):
        mass = torch.stack([bias[min(i - j, 3)].exp() * (phi[0][i] @ phi[1][j])
                            for j in range(i + 1)])  # fmt: skip
        wanted = (mass[:, None] * value[0, 1, : i + 1]).sum(0) / mass.sum()
        torch.testing.assert_close(found[i], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", ["fft", "dense"])
def test_without_bias_it_is_plain_kernel_attention(path: str) -> None:
    """Which has a state: sums of phi(k) v and phi(k), token by token."""
    attention, (query, key, value) = attended(made(FAMILY, path=path), 20)
    found = attention.read(query, key, value, Rows(torch.arange(20)[None]))
    phi_q, phi_k = (attention.features_of(x).exp() for x in (query, key))
    state = (phi_k[..., None] * value[..., None, :]).cumsum(2)
    wanted = (phi_q[..., None] * state).sum(-2)
    wanted = wanted / (phi_q * phi_k.cumsum(2)).sum(-1, keepdim=True)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_many_features_estimate_the_softmax() -> None:
    attention, (query, key, value) = attended(made(FAMILY, features=20_000, path="dense"), 12)
    found = attention.read(query, key, value, Rows(torch.arange(12)[None]))
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in (query, key)]
    wanted = torch.nn.functional.scaled_dot_product_attention(
        *unit, value, is_causal=True, scale=1.0
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


def _estimates(x: Tensor, unit: bool) -> Tensor:
    """exp(x . x) by 2,000 draws of 64 features, over its value: float64 `[2000]`."""
    x = torch.nn.functional.normalize(x, dim=0) if unit else x
    w = torch.randn(
        2000, 64, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )  # fmt: skip
    return (2 * log_features(x, w) - x @ x).exp().mean(-1)


def test_the_variance_explodes_with_long_queries_unless_they_are_normalised() -> None:
    """It is (exp(4 |x|^2) - 1) / m of its square; then draws miss the mass altogether."""
    x = torch.nn.functional.normalize(torch.randn(16, dtype=torch.float64), dim=0)
    plain = {size: float(_estimates(x * size, False).var()) for size in (0.5, 0.9, 1.3)}
    assert plain[0.5] == pytest.approx((math.exp(4 * 0.25) - 1) / 64, rel=0.2)
    assert plain[0.9] > 5 * plain[0.5] and plain[1.3] > 5 * plain[0.9]
    assert float(_estimates(x * 8, False).median()) < 1e-6
    for size in (0.5, 8.0, 1000.0):
        found = _estimates(x * size, True)
        assert 0.3 < float(found.var()) < 1.5 and 0.5 < float(found.median()) < 1.5


def test_long_queries_leave_gradients_finite() -> None:
    for normalised in (True, False):
        model = made(FAMILY, normalised=normalised)
        for layer in model.layers:
            layer.attention.q.weight.data *= 100
        model(input_ids=ids()).logits.square().mean().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("path", ["fft", "dense"])
def test_gradients_reach_biases_and_weights(path: str) -> None:
    model = made(FAMILY, path=path).double()
    model(input_ids=ids()).logits[0, -1, 0].backward()
    attention = model.layers[0].attention
    moved = attention.bias.grad
    assert moved[:, :20].abs().min() > 0 and not moved[:, 20:].any()
    assert attention.q.weight.grad.abs().max() > 0
    # The derivative by one bias is what moving it a little gives.
    step, before = 1e-5, float(logits(model, ids())[-1, 0])
    attention.bias.data[1, 3] += step
    assert (float(logits(model, ids())[-1, 0]) - before) / step == pytest.approx(
        float(moved[1, 3]), rel=1e-3
    )


def test_both_paths_have_one_gradient() -> None:
    found = []
    for path in ("fft", "dense"):
        model = model_of(path=path).double()
        model(input_ids=ids()).logits.square().mean().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("path", ["fft", "dense"])
@pytest.mark.parametrize("first", [1, 7, 19])
def test_decoding_from_a_cache_is_reading_at_once(path: str, first: int) -> None:
    model, row = model_of(path=path), ids(20)
    whole, cache, found = logits(model, row), None, []
    with torch.no_grad():
        for part in row.split([first, *[1] * (20 - first)], 1):
            said = model(input_ids=part, past_key_values=cache, use_cache=True)
            cache = said.past_key_values
            found.append(said.logits[0])
    torch.testing.assert_close(torch.cat(found), whole, rtol=0, atol=1e-4)
    assert cache is not None and cache.get_seq_length() == 20


def test_generating_is_the_likeliest_token_of_whole_rows() -> None:
    model, row = model_of(), ids(6)
    said = model.generate(
        row, max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(row)
    )
    for end in range(6, said.shape[1]):
        assert int(said[0, end]) == int(logits(model, said[:, :end])[-1].argmax())


def test_padding_documents_behind_a_cache_and_other_caches_are_refused() -> None:
    model, row = model_of(), ids(6)
    with pytest.raises(ValueError, match="reads no padding"):
        model(input_ids=row, attention_mask=torch.tensor([[0, 1, 1, 1, 1, 1]]))
    cache = model(input_ids=row, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="goes on at position 6"):
        model(input_ids=row, position_ids=torch.arange(6)[None], past_key_values=cache)
    with pytest.raises(ValueError, match="urpe keeps no cache: read whole rows"):
        made("urpe")(input_ids=row, past_key_values=cache)


def test_the_seam_names_the_family_and_a_way_out() -> None:
    with pytest.raises(LengthwiseError, match=f"{FAMILY}.*no plain softmax.*`lengthwise train`"):
        lengthwise.wrap(model_of())


def test_directions_are_saved_with_the_weights(tmp_path: Path) -> None:
    model = model_of(seed=3)
    model.save_pretrained(tmp_path)
    torch.manual_seed(9)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    for one, two in zip(model.layers, again.layers, strict=True):
        assert torch.equal(one.attention.directions, two.attention.directions)
    assert torch.equal(logits(again, ids()), logits(model, ids()))


def test_documents_are_found_by_length() -> None:
    begins = torch.tensor([[1, 0, 1, 0, 1], [1, 0, 0, 1, 0]], dtype=torch.bool)
    found = [at.tolist() for at in documents(begins)]
    assert found == [[[4]], [[0, 1], [2, 3], [8, 9]], [[5, 6, 7]]]


def test_the_path_is_the_one_that_multiplies_less() -> None:
    attention = made(FAMILY, features=32, hidden_size=64).layers[0].attention
    assert attention.path(64) == "dense" and attention.path(8192) == "fft"
    grows = [products(2 * n, 32, 32, "fft") / products(n, 32, 32, "fft") for n in (512, 65536)]
    assert all(2 < each < 2.3 for each in grows)
    assert made(FAMILY, normalised=False).layers[0].attention.path(1 << 20) == "dense"


def test_convolved_does_not_come_round() -> None:
    """The last token's values reach no earlier one."""
    drawn = torch.randn(3, 1, 2, 8, 4)
    factors = torch.rand(2, 8)
    found = convolved(*drawn, factors)
    drawn[2, :, :, -1] += 100
    again = convolved(*drawn, factors)
    torch.testing.assert_close(again[:, :, :-1], found[:, :, :-1], rtol=0, atol=1e-4)
    assert (again[:, :, -1] - found[:, :, -1]).abs().min() > 1
