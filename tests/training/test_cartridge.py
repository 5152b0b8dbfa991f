"""Cartridges are trained: gradients, losses, pairs, files, and going on after a kill."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.api.cartridge import cartridge_session, initial_session
from lengthwise.engine.given import entries_of
from lengthwise.errors import LengthwiseError
from lengthwise.testing.tiny import tiny_model, tokens
from lengthwise.training.cartridge import Settings, evaluate, train
from lengthwise.training.cartridge_fit import check_student, fit, rows_of_step, train_on_text
from lengthwise.training.cartridge_rows import Row, next_token_rows
from lengthwise.training.cartridge_student import Prefix, batches, frozen, loss_of, mean_loss
from lengthwise.training.cartridge_study import SelfStudy
from lengthwise.training.config import TrainingError
from tests.training.cartridge_cases import CORPUS, SETTINGS, STUDY, begun, talker


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return talker()


@pytest.fixture(scope="module")
def rows(model: lengthwise.Model) -> list[Row]:
    study = SelfStudy(model, CORPUS, STUDY)
    return study.teach([*study.converse(0), *study.converse(1)])


def test_gradients_reach_the_trained_slice_alone(model: lengthwise.Model, rows: list[Row]) -> None:
    prefix = begun(model)
    weights = list(model.adapted.model.parameters())
    asked = [each.requires_grad for each in weights]
    with frozen(model.adapted.model):
        loss_of(model.adapted, prefix, rows[:3]).backward()
    assert all(each.grad is None for each in weights)
    assert [each.requires_grad for each in weights] == asked
    assert not any(t.requires_grad for pair in prefix.still for t in pair)
    for parameter in prefix.trained:
        assert parameter.dtype == torch.float32 and parameter.shape[1] == 23
        assert parameter.grad is not None and bool((parameter.grad.abs().amax((0, 2)) > 0).all())


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("which", [0, 1], ids=["key", "value"])
def test_gradients_are_those_of_small_differences(
    model: lengthwise.Model, rows: list[Row], layer: int, which: int
) -> None:
    prefix, adapted = begun(model), model.adapted
    parameter = prefix.trained[2 * layer + which]
    with frozen(adapted.model):
        loss_of(adapted, prefix, rows[:2]).backward()
    assert parameter.grad is not None
    direction = parameter.grad / parameter.grad.norm()
    step = 2e-2
    with torch.no_grad():
        found = []
        for sign in (1, -1):
            parameter += sign * step * direction
            found.append(float(loss_of(adapted, prefix, rows[:2])))
            parameter -= sign * step * direction
    assert (found[0] - found[1]) / (2 * step) == pytest.approx(
        float(parameter.grad.norm()), rel=0.03
    )


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_oss", "phi", "smollm3", "gpt2"])
def test_the_student_is_what_the_session_computes(family: str) -> None:
    model = lengthwise.wrap(tiny_model(family))
    ids, after = tokens(6), tokens(14, seed=5)
    session = cartridge_session(model, "full", ids, entries_of(model.read(ids).held), {})
    prefix = Prefix(entries_of(session.held))
    with torch.no_grad():
        for t in prefix.trained:
            t += 0.3 * torch.randn(t.shape, generator=torch.Generator().manual_seed(1))
    session = cartridge_session(model, "full", ids, prefix.entries(), {})
    check_student(model, prefix, session)
    row = next_token_rows(after, 20)
    wanted = -float(session.score(after)[1:].sum())
    assert float(loss_of(model.adapted, prefix, row).detach()) == pytest.approx(wanted, rel=1e-5)


def test_a_family_that_holds_its_cache_otherwise_is_refused_by_name() -> None:
    model = lengthwise.wrap(tiny_model("deepseek_v3"))
    ids = tokens(6)
    session = cartridge_session(model, "full", ids, entries_of(model.read(ids).held), {})
    with pytest.raises(LengthwiseError, match="'deepseek_v3' cannot be trained behind a cartridge"):
        check_student(model, Prefix(entries_of(session.held)), session)


def test_a_student_that_computes_something_else_is_told(model: lengthwise.Model) -> None:
    session = initial_session(model, CORPUS, 24)
    other = Prefix(entries_of(initial_session(model, CORPUS[::-1], 24).held))
    with pytest.raises(LengthwiseError, match="nats a token apart"):
        check_student(model, other, session)


def test_weights_without_gradients_are_refused_before_anything_is_asked(
    model: lengthwise.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: torch.Tensor) -> None:
        raise RuntimeError("derivative for aten::_weight_int8pack_mm is not implemented")

    monkeypatch.setattr(torch.Tensor, "backward", refuses)
    with pytest.raises(LengthwiseError, match=r"gives no gradients.*load it in bf16 or fp32"):
        train(model, CORPUS, tmp_path / "made", STUDY, SETTINGS)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    with pytest.raises(LengthwiseError, match="some layer cuts them off"):
        train(model, CORPUS, tmp_path / "made", STUDY, SETTINGS)


def test_a_row_in_a_batch_counts_what_it_counts_alone(
    model: lengthwise.Model, rows: list[Row]
) -> None:
    prefix = begun(model)
    short = [replace_length(rows[0], 3), *rows[1:4]]
    with torch.no_grad():
        alone = sum(float(loss_of(model.adapted, prefix, [row])) for row in short)
        together = float(loss_of(model.adapted, prefix, short))
        without = float(loss_of(model.adapted, None, short))
    assert together == pytest.approx(alone, rel=1e-5)
    assert without != pytest.approx(together, rel=1e-3)
    assert mean_loss(model.adapted, prefix, short, together=3) == pytest.approx(
        alone / sum(row.predicted for row in short), rel=1e-5
    )


def replace_length(row: Row, predicted: int) -> Row:
    cut = row.cut(row.start + predicted)
    assert cut is not None and cut.predicted == predicted
    return cut


def test_the_loss_is_the_cross_entropy_of_the_top_alone(model: lengthwise.Model) -> None:
    session, prefix = initial_session(model, CORPUS, 24), begun(model)
    ids = tuple(tokens(5))
    top_ids = torch.tensor([[3, 9], [4, 5]])
    top_log_probs = torch.tensor([[0.5, 0.25], [0.9, 0.01]]).log()
    row = Row(ids, 3, top_ids, top_log_probs)
    wanted = 0.0
    for n, (tops, probs) in enumerate(zip(top_ids, top_log_probs.exp(), strict=True)):
        for top, prob in zip(tops.tolist(), probs.tolist(), strict=True):
            wanted -= prob * float(session.score([*ids[: 4 + n], top])[-1])
    found = float(loss_of(model.adapted, prefix, [row]).detach())
    assert found == pytest.approx(wanted, rel=1e-5)


def test_a_short_forward_serves_models_without_logits_to_keep(
    model: lengthwise.Model, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, stock = begun(model), model.adapted.model
    with torch.no_grad():
        wanted = float(loss_of(model.adapted, prefix, rows[:2]))
        whole = stock.forward

        def forward(input_ids: Any, position_ids: Any, past_key_values: Any, use_cache: Any) -> Any:
            return whole(input_ids=input_ids, position_ids=position_ids, use_cache=use_cache,
                         past_key_values=past_key_values)  # fmt: skip

        monkeypatch.setattr(stock, "forward", forward)
        assert float(loss_of(model.adapted, prefix, rows[:2])) == pytest.approx(wanted, rel=1e-6)


# Updates.


def test_the_loss_falls_below_that_of_no_context_and_of_next_tokens(
    model: lengthwise.Model, rows: list[Row]
) -> None:
    prefix, text = begun(model), begun(model)
    before = evaluate(model, prefix, CORPUS, rows)
    assert set(before) == {"without", "cartridge", "corpus"}
    settings = replace(SETTINGS, steps=60, batch=6)
    assert fit(model, prefix, rows, settings, 60) == 60
    train_on_text(model, CORPUS, text, replace(settings, max_length=64), 60)
    after = evaluate(model, prefix, CORPUS, rows)
    assert after["cartridge"] < before["cartridge"] - 0.02
    assert after["cartridge"] < evaluate(model, text, CORPUS, rows)["cartridge"]
    assert after["cartridge"] < after["without"] and after["corpus"] == before["corpus"]
    still = begun(model)
    assert all(
        torch.equal(mine, theirs)
        for pairs in zip(prefix.still, still.still, strict=True)
        for mine, theirs in zip(*pairs, strict=True)
    )


def test_next_token_training_lowers_the_loss_of_the_text(model: lengthwise.Model) -> None:
    prefix = begun(model)
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(CORPUS, add_special_tokens=False)
    text = next_token_rows(ids, 64)
    assert sum(row.predicted for row in text) == len(ids) - 1
    before = mean_loss(model.adapted, prefix, text)
    train_on_text(model, CORPUS, prefix, replace(SETTINGS, max_length=64, batch=8), 20)
    assert mean_loss(model.adapted, prefix, text) < before - 0.05


def test_rows_of_steps_are_whole_passes_in_new_orders() -> None:
    settings = Settings(tokens=8, batch=4, seed=3)
    taken = [each for step in range(15) for each in rows_of_step(10, settings, step)]
    turns = [taken[n : n + 10] for n in range(0, 60, 10)]
    assert all(sorted(turn) == list(range(10)) for turn in turns)
    assert len({tuple(turn) for turn in turns}) == 6
    assert rows_of_step(3, settings, 0) == rows_of_step(3, settings, 0)
    assert rows_of_step(10, settings, 0) != rows_of_step(10, replace(settings, seed=4), 0)


def test_batches_are_of_similar_lengths(rows: list[Row]) -> None:
    made = batches(range(len(rows)), rows, 2)
    lengths = [len(row) for part in made for row in part]
    assert lengths == sorted(lengths) and len(lengths) == len(rows)


def test_a_loss_that_is_no_number_ends_it(model: lengthwise.Model, rows: list[Row]) -> None:
    prefix = begun(model)
    with torch.no_grad():
        prefix.trained[0].fill_(math.inf)
    with pytest.raises(TrainingError, match="not finite: train with a lower lr"):
        fit(model, prefix, rows, SETTINGS, 4)


# Self-study.
