"""What tokens behind a text attend to: the probabilities of one layer, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lengthwise.engine import regarding
from lengthwise.engine.attention import scores
from lengthwise.engine.kernels.part import Part
from lengthwise.engine.kernels.plain import plain_tempered
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.regarding import layer_that_sees, regard
from lengthwise.errors import Refused
from lengthwise.models.adapt import adapt
from lengthwise.testing.tiny import tiny, tiny_model, tokens

TEXT, BEHIND = 40, 9


def stock(family: str) -> list[Tensor]:
    """Attention `[heads, queries, keys]` of each layer of the model as transformers computes it."""
    model = tiny_model(family)
    model.set_attn_implementation("eager")
    ids = torch.tensor([[*tokens(TEXT), *tokens(BEHIND, seed=1)]])
    with torch.no_grad():
        found = model(ids, output_attentions=True, use_cache=False).attentions
    return [layer[0] for layer in found]


def regarded(family: str, depth: float = 1.0) -> Tensor:
    return regard(tiny(family), tokens(TEXT), tokens(BEHIND, seed=1), depth)


# Groups of heads, soft caps, windows, sinks, latent keys, learned positions, layers without RoPE.
@pytest.mark.parametrize(
    "family",
    ["llama", "gemma2", "gemma3_text", "gpt_oss", "deepseek_v3", "gpt2", "smollm3", "phi"],
)
def test_it_is_the_attention_of_the_stock_model(family: str) -> None:
    layer = layer_that_sees(tiny(family), TEXT + BEHIND)
    wanted = stock(family)[layer.index].mean(0)[-BEHIND:]
    found = regarded(family)
    assert found.shape == (BEHIND, TEXT + BEHIND)
    assert torch.allclose(found, wanted[:, : TEXT + BEHIND], atol=1e-5)


def test_the_last_layer_that_sees_all_is_looked_at() -> None:
    assert layer_that_sees(tiny("gemma3_text"), 40).index == 2
    deep = [layer_that_sees(tiny("smollm3"), 40, depth).index for depth in (0.0, 0.5, 0.6, 1.0)]
    assert deep == [0, 1, 2, 3]
    model = tiny("mistral")
    assert layer_that_sees(model, 8).index == len(model.layers) - 1
    with pytest.raises(Refused, match="no layer of mistral .*sees a text of 9 tokens.* has 8"):
        layer_that_sees(model, 9)
    with pytest.raises(Refused, match="give a shorter text"):
        regarded("mistral")


def test_a_window_that_is_wide_enough_is_read_like_any_layer() -> None:
    found = regard(tiny("mistral"), tokens(5), tokens(3, seed=1))
    assert found.shape == (3, 8) and torch.allclose(found.sum(1), torch.ones(3), atol=1e-5)


def test_deeper_layers_are_not_run_and_the_next_forward_is_sound() -> None:
    model = tiny("smollm3")
    run: list[int] = []
    for number, layer in enumerate(model.model.model.layers):  # type: ignore[union-attr]
        layer.register_forward_pre_hook(lambda *_, number=number: run.append(number))
    first = regarded("smollm3", 0.5)
    assert run == [0, 1]
    assert torch.allclose(first, stock("smollm3")[1].mean(0)[-BEHIND:], atol=1e-5)
    sequence = Sequence(model)
    found = prefill(sequence, tokens(TEXT), 16)
    ids = torch.tensor([tokens(TEXT)])
    with torch.no_grad():
        wanted = tiny_model("smollm3")(ids, use_cache=False).logits[0, -1]
    assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("block", [1, 64, 1 << 24])
def test_sums_over_heads_are_those_of_all_scores(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "SCORE_BLOCK", block)
    torch.manual_seed(0)
    query, held, new = torch.randn(4, 5, 8), torch.randn(2, 7, 8), torch.randn(2, 5, 8)
    parts = [Part(query, held, held), Part(query, new, new, causal=True)]
    sinks = torch.randn(4)
    found = scores.head_sums(parts, 0.3, 5.0, sinks)
    # With unit vectors as values the output is the probabilities.
    units = torch.eye(12)[None].expand(2, -1, -1)
    shown = [
        Part(query, held, units[:, :7]), Part(query, new, units[:, 7:], causal=True),
    ]  # fmt: skip
    out, _ = plain_tempered(shown, 0.3, 5.0, sinks)
    assert torch.allclose(found, out.sum(0), atol=1e-5)


def test_long_texts_are_read_in_a_few_lengths_with_the_same_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = adapt(tiny_model("llama", max_position_embeddings=512))
    text = [3 + n % 40 for n in range(290)]
    found = regard(model, text, [5, 6, 7])
    monkeypatch.setattr(regarding, "STEP", 1)
    plain = regard(model, text, [5, 6, 7])
    assert found.shape == plain.shape == (3, 293)
    assert torch.allclose(found, plain, atol=1e-6)
    monkeypatch.undo()
    # At the end of what it was trained for nothing is added.
    assert regard(model, text[:250] * 2, [5] * 11).shape == (11, 511)
