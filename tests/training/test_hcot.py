"""Hidden thoughts: what the model reads, what losses are of, and what each stage trains."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lengthwise.testing.tiny import tiny_model
from lengthwise.training.config import TrainingError
from lengthwise.training.hcot import (
    HiddenThoughts,
    Stage,
    Thinking,
    answer_loss,
    contrast,
    states_of,
    thinking_loss,
    train_answers,
    train_thinker,
)

COT, END, SIZE = 30, 31, 32
ONE = Thinking(((1, 2), (3, END)), ((7, 8),))
TWO = Thinking(((1, 2), (3,), (4, 5, END)), ((7, 8), (9,)))


def model(**sizes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return tiny_model("llama", vocab_size=SIZE, max_position_embeddings=64, **sizes)


def both(**sizes: int) -> HiddenThoughts:
    torch.manual_seed(1)
    return HiddenThoughts(model(), model(**sizes), COT)  # type: ignore[arg-type]


def test_a_text_has_a_token_in_the_place_of_each_thought() -> None:
    assert TWO.hidden(COT) == (1, 2, COT, 3, COT, 4, 5, END)
    assert TWO.steps(COT) == [((1, 2), (7, 8)), ((1, 2, COT, 3), (9,))]


@pytest.mark.parametrize(
    ("said", "thoughts"), [(((1,),), ()), (((1,), (2,)), ()), (((1,), ()), ((3,),)),
                           (((1,), (2,)), ((),))],
)  # fmt: skip
def test_thoughts_stand_between_parts(said: tuple, thoughts: tuple) -> None:
    with pytest.raises(TrainingError):
        Thinking(said, thoughts)


@torch.no_grad()
def test_where_a_thought_stands_a_state_is_read_that_was_made_of_what_stands_before_it() -> None:
    hidden = both(hidden_size=16)
    rows = [TWO.hidden(COT), ONE.hidden(COT)]
    found = hidden.embedded(rows)
    plain = hidden.model.get_input_embeddings()
    state = states_of(hidden.thinker, [(1, 2, COT, 3, COT)])[0]
    torch.testing.assert_close(found[0, 4], hidden.projection(state))
    torch.testing.assert_close(found[0, 3], plain(torch.tensor(3)))
    torch.testing.assert_close(
        found[1, 2], hidden.projection(states_of(hidden.thinker, [(1, 2, COT)])[0])
    )
    # A shorter row beside a longer one has the state that it has alone.
    torch.testing.assert_close(states_of(hidden.thinker, [(1, 2), (5, 6, 7, 8)])[0],
                               states_of(hidden.thinker, [(1, 2)])[0])  # fmt: skip


@torch.no_grad()
def test_a_step_of_writing_reads_what_the_whole_text_would_have_there() -> None:
    hidden, ids = both(hidden_size=16), list(TWO.hidden(COT))
    for end in range(1, len(ids) + 1):
        whole = hidden.embedded([ids[:end]])[:, -1:]
        torch.testing.assert_close(hidden._last(ids[:end]), whole)


@torch.no_grad()
def test_losses_are_of_what_is_written() -> None:
    hidden = both()
    row = torch.tensor([ONE.hidden(COT)])
    logits = hidden.model(inputs_embeds=hidden.embedded([row[0].tolist()])).logits[0]
    wanted = F.cross_entropy(logits[1:-1], row[0, 2:])
    torch.testing.assert_close(answer_loss(hidden, [ONE]), wanted)
    written = torch.tensor([[1, 2, 7, 8, COT]])
    logits = hidden.thinker(input_ids=written).logits[0]
    wanted = F.cross_entropy(logits[1:-1], written[0, 2:])
    found = thinking_loss(hidden.thinker, COT, [ONE], Stage(contrast=0.0))
    torch.testing.assert_close(found, wanted)
    more = thinking_loss(hidden.thinker, COT, [ONE, TWO], Stage(contrast=1.0))
    less = thinking_loss(hidden.thinker, COT, [ONE, TWO], Stage(contrast=0.0))
    assert more > less


def test_the_contrastive_loss_is_symmetric_and_equal_thoughts_are_not_wrong() -> None:
    states, thoughts = torch.eye(3), torch.eye(3)[[0, 1, 0]]
    own = torch.eye(3, dtype=torch.bool)
    same = own.clone()
    same[0, 2] = same[2, 0] = True
    strict, fair = (contrast(states, thoughts, each, 0.1) for each in (own, same))
    assert fair < strict
    torch.testing.assert_close(contrast(thoughts, states, same.T, 0.1), fair)
    assert contrast(states, states, own, 0.1) < 1e-3


def test_stage_two_trains_the_model_and_leaves_the_thinker() -> None:
    hidden = both()
    before = {name: each.clone() for name, each in hidden.named_parameters()}
    train_answers(hidden, [ONE, TWO], Stage(steps=3, batch=4))
    moved = {
        name.partition(".")[0] for name, each in hidden.named_parameters()
        if not torch.equal(each, before[name])
    }  # fmt: skip
    assert moved == {"model", "projection"}
    assert all(each.grad is None for each in hidden.thinker.parameters())


def test_no_true_thought_is_read_in_stage_two() -> None:
    hidden = both()
    other = Thinking(ONE.said, ((20, 21, 22),))
    assert torch.equal(answer_loss(hidden, [ONE]), answer_loss(hidden, [other]))


def test_a_learned_text_is_written_with_its_thoughts_hidden() -> None:
    hidden = both()
    seen: list[float] = []
    train_thinker(hidden.thinker, COT, [TWO], Stage(steps=30, batch=2, lr=1e-2),
                  lambda step, loss: seen.append(loss))  # fmt: skip
    assert len(seen) == 30 and seen[-1] < seen[0]
    train_answers(hidden, [TWO], Stage(steps=60, batch=2, lr=1e-2))
    assert hidden.write(TWO.said[0], 16, [END]) == [COT, 3, COT, 4, 5]
    assert hidden.write(TWO.said[0], 2, [END]) == [COT, 3]


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(TrainingError, match="resize_token_embeddings first"):
        HiddenThoughts(model(), model(), SIZE)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="lr=0: give a number above 0"):
        Stage(lr=0)
    with pytest.raises(TrainingError, match="contrast=-1: give 0 or more"):
        Stage(contrast=-1)
