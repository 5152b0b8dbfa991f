"""cDPO: scores by contrast, stored once, weigh the tokens of DPO."""

import copy
import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from lengthwise.testing.tiny import tiny_model
from lengthwise.training.cdpo import (
    Preference,
    Tuning,
    load_pairs,
    log_probs,
    preference_loss,
    save_pairs,
    scored,
    scores,
    token_weights,
    train_policy,
    tuned,
)
from lengthwise.training.config import TrainingError

FAST = Tuning(steps=25, batch=4, lr=5e-3)
RIGHT = [((1, n), (n + 1, n + 2, 9)) for n in (20, 30, 40, 50)]
# The middle token went wrong.
WRONG = [((1, n), (n + 1, 70, 9)) for n in (20, 30, 40, 50)]
PAIRS = [Preference(p, chosen, bad) for (p, chosen), (_, bad) in zip(RIGHT, WRONG, strict=True)]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tuned(tiny_model("llama"), [*RIGHT, *WRONG], FAST)


@pytest.fixture(scope="module")
def pairs(model: PreTrainedModel) -> list[Preference]:
    return scored(tuned(model, RIGHT, FAST), tuned(model, WRONG, FAST), PAIRS)


def laws(model: PreTrainedModel, prompt: tuple[int, ...], said: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]


def test_scores_are_those_of_the_equation(model: PreTrainedModel) -> None:
    other = tiny_model("llama")
    found = scores(model, other, *WRONG[0], contrast=1.0)
    law = (2 * laws(model, *WRONG[0]) - laws(other, *WRONG[0])).softmax(-1)
    expected = [float(law[n, token]) for n, token in enumerate(WRONG[0][1])]
    assert found == pytest.approx(expected, abs=1e-5)
    plain = scores(model, other, *WRONG[0], contrast=0)
    assert plain == pytest.approx(
        [float(each.exp()) for each in log_probs(model, WRONG[:1])[0].detach()], abs=1e-5
    )


def test_the_least_score_is_that_of_the_mistake(pairs: list[Preference]) -> None:
    for pair in pairs:
        assert pair.rejected_scores.index(min(pair.rejected_scores)) == 1
        assert min(pair.chosen_scores) > max(pair.rejected_scores[1:2])


def test_weights_are_the_papers(pairs: list[Preference]) -> None:
    pair = pairs[0]
    chosen, rejected = token_weights(pair, "rejected")
    assert chosen == [1.0, 1.0, 1.0]
    assert rejected == [*(1 - score for score in pair.rejected_scores[:2]), 1.0]
    assert token_weights(pair, "both")[0] == [*pair.chosen_scores[:2], 1.0]
    assert token_weights(PAIRS[0], "none") == ([1.0] * 3, [1.0] * 3)
    with pytest.raises(TrainingError, match="no scores"):
        token_weights(PAIRS[0], "rejected")


def test_log_probs_leave_prompts_and_filling_out(model: PreTrainedModel) -> None:
    rows = [((1, 20, 3), (5, 6)), ((1,), (7, 8, 9, 10))]
    for found, (prompt, said) in zip(log_probs(model, rows), rows, strict=True):
        law = laws(model, prompt, said).log_softmax(-1)
        expected = law[torch.arange(len(said)), torch.tensor(said)]
        torch.testing.assert_close(found.detach(), expected, atol=1e-5, rtol=1e-4)


def test_a_first_step_has_the_loss_of_no_preference(
    model: PreTrainedModel, pairs: list[Preference]
) -> None:
    told: list[float] = []
    how = Tuning(steps=1, batch=4, lr=1e-3)
    train_policy(copy.deepcopy(model), pairs, how, lambda step, loss: told.append(loss))
    assert told == [pytest.approx(math.log(2), abs=1e-4)]
    assert float(preference_loss(torch.tensor([3.0]), 0.1)) == pytest.approx(
        math.log(1 + math.exp(-0.3))
    )


@pytest.mark.parametrize("weights", ["rejected", "both", "none"])
def test_what_is_preferred_becomes_likelier(
    model: PreTrainedModel, pairs: list[Preference], weights: str
) -> None:
    policy = copy.deepcopy(model)
    train_policy(policy, pairs, Tuning(20, 4, 1e-3, weights=weights))

    def margin(of: PreTrainedModel) -> float:
        with torch.no_grad():
            good, bad = (sum(map(torch.sum, log_probs(of, rows))) for rows in (RIGHT, WRONG))
        return float(good - bad)

    assert margin(policy) > margin(model) + 1


def test_weighing_spares_what_was_right_in_a_wrong_solution(
    model: PreTrainedModel, pairs: list[Preference]
) -> None:
    def first(weights: str) -> float:
        policy = copy.deepcopy(model)
        # The side that is preferred counts little here, so that the other one shows.
        far = [Preference(p.prompt, (9,), p.rejected, (1.0,), p.rejected_scores) for p in pairs]
        train_policy(policy, far, Tuning(8, 4, 1e-3, weights=weights))
        with torch.no_grad():
            return float(sum(each[0] for each in log_probs(policy, WRONG)))

    assert first("rejected") > first("none")


def test_scores_are_stored(pairs: list[Preference], tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    save_pairs(pairs, file)
    assert load_pairs(file) == pairs
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(TrainingError, match="3 of 4 pairs"):
        load_pairs(file)
    file.write_text("{}\n")
    with pytest.raises(TrainingError, match="no pairs with scores"):
        load_pairs(file)
    file.write_text("not json\n")
    with pytest.raises(TrainingError, match="damaged"):
        load_pairs(file)
    with pytest.raises(TrainingError, match="cannot be read"):
        load_pairs(tmp_path / "nowhere")


def test_what_cannot_be_is_refused(model: PreTrainedModel) -> None:
    with pytest.raises(TrainingError, match="no token"):
        Preference((), (1,), (2,))
    with pytest.raises(TrainingError, match="2 scores for 1"):
        Preference((1,), (1,), (2,), (0.1, 0.2))
    with pytest.raises(TrainingError, match="no probability"):
        Preference((1,), (1,), (2,), (), (1.5,))
    with pytest.raises(TrainingError, match="weights=some"):
        Tuning(weights="some")
    with pytest.raises(TrainingError, match="above 0"):
        Tuning(beta=0)
    with pytest.raises(TrainingError, match="no pairs"):
        train_policy(model, [], FAST)
    with pytest.raises(TrainingError, match="no solutions"):
        tuned(model, [], FAST)
