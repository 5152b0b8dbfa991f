"""Gates are trained on what a model reads of planted passkeys, and leave the model as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import lengthwise
from lengthwise.cli.calibrate import calibrate
from lengthwise.cli.main import ModelChoice
from lengthwise.errors import Refused
from lengthwise.methods import gates as gates_
from lengthwise.methods.gates import KIND, Training, attention, gates, retrieval, train_gates
from lengthwise.methods.passkeys import MARGIN, Passkeys
from lengthwise.models.adapt import adapt
from lengthwise.testing.tiny import tiny, tiny_model, tokens

SHORT = Training(steps=4, length=60, passkeys=2, words=3, sinks=2, recent=6)


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("sinks, recent", [(0, None), (3, 7), (0, 1), (40, 40)])
def test_attention_is_a_softmax_over_first_and_latest_tokens(
    family: str, sinks: int, recent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates_, "ROWS", 16)
    facts = tiny(family).layers[-1]
    query = torch.randn(facts.num_heads, 40, facts.head_dim)
    key, value = torch.randn(2, facts.num_kv_heads, 40, facts.head_dim)
    found = attention(facts, query, key, value, sinks, recent)
    group = facts.num_heads // facts.num_kv_heads
    for head in range(facts.num_heads):
        for at in range(40):
            seen = [k for k in range(at + 1) if k < sinks or recent is None or at - k < recent]
            logits = key[head // group, seen] @ query[head, at] * facts.scaling
            if facts.softcap is not None:
                logits = facts.softcap * (logits / facts.softcap).tanh()
            own = [] if facts.sinks is None else [facts.sinks[head, None]]
            weights = torch.cat([logits, *own]).softmax(0)[: len(seen)]
            assert difference(found[head, at], weights @ value[head // group, seen]) < 1e-4


def test_gates_of_one_and_windows_of_everything_are_the_model_itself() -> None:
    model = tiny("llama")
    text = Passkeys(model, tokens(200), 2, 3, 0).draw(60)
    ones, zeros = torch.ones(4), torch.zeros(4)
    assert float(gates_._distance(model, ones, text, SHORT)) < 1e-9
    wide = Training(sinks=0, recent=60)
    assert float(gates_._distance(model, zeros, text, wide)) < 1e-9
    assert float(gates_._distance(model, zeros, text, SHORT)) > 1e-6


def test_gradients_are_those_of_the_distance() -> None:
    model = tiny("qwen3")
    text = Passkeys(model, tokens(200), 2, 3, 0).draw(60)
    at = torch.tensor([0.5, 0.3, 0.6, 0.4], requires_grad=True)
    with torch.enable_grad():
        gates_._distance(model, at, text, SHORT).backward()
    assert at.grad is not None
    for number in range(4):
        step = torch.zeros(4)
        step[number] = 1e-2
        ahead, behind = (
            float(gates_._distance(model, at.detach() + side * step, text, SHORT))
            for side in (1, -1)
        )
        assert abs((ahead - behind) / 2e-2 - float(at.grad[number])) < 0.02 * float(
            at.grad.abs().max()
        )


def test_training_moves_gates_alone() -> None:
    model = adapt(tiny_model("llama"))
    weight = next(iter(model.model.parameters()))
    assert weight.requires_grad
    before = {name: each.clone() for name, each in model.model.state_dict().items()}
    found, again = (train_gates(model, replace(SHORT, penalty=10.0)) for _ in range(2))
    assert found == again
    assert all(torch.equal(before[n], each) for n, each in model.model.state_dict().items())
    assert weight.requires_grad and weight.grad is None
    assert len(found["distance"]) == len(found["mean"]) == 4
    assert found["distance"][0] < 1e-9 and found["mean"][0] == 1.0
    flat = [gate for row in found["gates"] for gate in row]
    assert len(flat) == 4 and all(0 <= gate <= 1 for gate in flat) and sum(flat) < 4


def test_heads_that_a_text_needs_keep_their_gates() -> None:
    """Where a head's far tokens count for nothing, its gate falls to 0."""
    model = adapt(tiny_model("llama"))
    with torch.no_grad():
        # What key head 0 of layer 1 reads has no weight any more.
        out = model.model.model.layers[1].self_attn.o_proj.weight
        out[:, :32] = 0
        out[:, 32:] *= 20
    how = Training(steps=25, length=60, passkeys=2, words=3, sinks=1, recent=4, penalty=0.02)
    found = train_gates(model, how)["gates"]
    assert found[1][0] < 0.05 < 0.5 < found[1][1]


def test_layers_with_a_window_of_their_own_have_no_gates() -> None:
    found = train_gates(tiny("gemma2"), SHORT)["gates"]
    assert found[0] == [0.0, 0.0] and min(found[1]) > 0


def test_a_small_model_is_trained_on_once_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    model = tiny("llama")
    first = gates(model)
    assert "training gates" in capsys.readouterr().err
    assert gates(model) == first and capsys.readouterr().err == ""
    assert gates_.find(KIND, adapt(tiny_model("llama", seed=8))) is None


@pytest.mark.parametrize("share, wanted", [
    (0.0, []), (0.25, [3]), (0.5, [0, 3]), (0.75, [0, 1, 3]), (1.0, [0, 1, 2, 3]),
])  # fmt: skip
def test_a_share_of_all_heads_is_chosen_and_ties_go_to_the_earlier(
    share: float, wanted: list[int]
) -> None:
    layers = tiny("llama").layers
    chosen = retrieval([[0.5, 0.2], [0.2, 0.9]], layers, share)
    flat = [each for layer in layers for each in chosen[layer.index]]
    assert [head for head, each in enumerate(flat) if each] == wanted


def test_passkeys_stand_in_the_text_and_are_asked_for() -> None:
    model = tiny("llama")
    filler = [3] * 300
    drawn = Passkeys(model, filler, 3, 4, 0)
    text = drawn.draw(120)
    assert len(text.ids) == 120
    ids, asked = list(text.ids), list(text.ids[text.start :])
    for number in range(3):
        question, planted = drawn.asked[number], drawn.planted[number]
        at = next(i for i in range(len(asked)) if asked[i : i + 4] == question)
        key = asked[at + 4 : at + 8]
        places = [i for i in range(len(ids)) if ids[i : i + 8] == planted + key]
        assert len(places) == 1 and 1 + MARGIN * 60 <= places[0] < text.start
    assert drawn.draw(120) != text
    assert Passkeys(model, filler, 3, 4, 0).draw(120) == text


def test_passkeys_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Refused, match="give 52 tokens or more"):
        Passkeys(tiny("llama"), [3], 3, 4, 0).draw(40)
    assert Training().within(64) == Training(length=64, passkeys=1, words=2)
    assert Training().within(100_000) == Training()


def test_calibrate_trains_gates_and_prints_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lengthwise.wrap(tiny_model("llama"))
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(ModelChoice, "open", lambda _: model)
    monkeypatch.setattr(gates_, "Training", lambda: SHORT)
    said = CliRunner().invoke(calibrate, ["duo"])
    assert said.exit_code == 0, said.output
    held = gates(model.adapted)
    largest = max(gate for row in held for gate in row)
    assert "4 gates after 4 steps" in said.output and f"{largest:.3f}" in said.output
    refused = CliRunner().invoke(calibrate, ["duo", "--trials", "3"])
    assert "--trials is for calibrate layers" in str(refused.exception)
