"""A drafter that is taught by what it serves guesses better, and never changes a text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence as Seq
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.drafting._shared.distillation import (
    BETA,
    KEPT,
    Example,
    ReplayBuffer,
    Student,
    TopKProbs,
    divergence,
    training_examples,
)
from lengthwise.methods.drafting.osd import OSD, OnlineTrainer, OSDDrafter, trainer_of
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

VOCAB = 48
OPTIONS = OSD(every=4, lr=4e-3, batch=2, depth=3, window=64)


@lru_cache
def target() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15, vocab_size=VOCAB))


def drafter(tied: bool = False) -> AdaptedModel:
    """A smaller model that knows nothing of the target. tied: its head is its embedding."""
    found = tiny_model(
        "llama", seed=7, vocab_size=VOCAB, num_hidden_layers=1, initializer_range=0.05,
        tie_word_embeddings=tied,
    )  # fmt: skip
    return adapt(found)


def domain(name: str) -> list[list[int]]:
    """Questions of a kind: no two kinds share a token."""
    generator = random.Random(name)
    low = 3 if name == "A" else VOCAB // 2
    return [[generator.randrange(low, low + 20) for _ in range(20)] for _ in range(3)]


def ask(prompt: Seq[int], trainer: OnlineTrainer | None = None, **sampling: float) -> Request:
    starters = () if trainer is None else (lambda: OSDDrafter(trainer.options, trainer),)
    sequence = Sequence(target(), Plan(drafters=starters))
    request = loop.begin(sequence, Sampling(**sampling), 24, ())  # type: ignore[arg-type]
    loop.start(request, loop.prefill(sequence, prompt))
    for _ in loop.run(request, Fixed()):
        pass
    loop.finish(request)
    assert not [note for note in request.metrics.notes if "left out" in note]
    return request


def served(trainer: OnlineTrainer, name: str, rounds: int) -> Iterator[float]:
    """Tokens a forward of each pass over the questions of a domain, all texts being plain ones."""
    for _ in range(rounds):
        requests = [ask(prompt, trainer) for prompt in domain(name)]
        for prompt, request in zip(domain(name), requests, strict=True):
            assert request.output == ask(prompt).output
        yield sum(r.metrics.decoded for r in requests) / sum(r.metrics.steps for r in requests)


def test_acceptance_recovers_after_a_change_of_domain_only_where_updates_are_on() -> None:
    learning, still = (
        OnlineTrainer(OPTIONS, drafter()),
        OnlineTrainer(OSD(every=0, depth=3), drafter()),
    )
    first = list(served(learning, "A", 8))
    then = list(served(learning, "B", 8))
    without = [*served(still, "A", 1), *served(still, "B", 1)]
    assert first[-1] > first[0] + 0.5
    assert then[-1] > then[0] + 0.5
    assert max(without) < min(first[-1], then[-1]) - 0.5
    assert still.student.updates == 0 and len(still.buffer) == 0


def test_weights_change_only_between_requests() -> None:
    trainer = OnlineTrainer(OSD(every=1, lr=1e-2, depth=3), drafter())
    drafting = OSDDrafter(trainer.options, trainer)
    sequence = Sequence(target())
    loop.prefill(sequence, domain("A")[0])
    drafting.begin(sequence, Sampling())
    before = [weight.clone() for weight in trainer.student.serving.model.parameters()]
    under_way = drafting.runner.sequence.model  # type: ignore[attr-defined]
    ask(domain("A")[1], trainer)
    assert trainer.student.updates == 1
    kept, new = (list(each.model.parameters()) for each in (under_way, trainer.student.serving))
    assert all(torch.equal(one, other) for one, other in zip(before, kept, strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(before, new, strict=True))


@pytest.mark.parametrize("draws", ["coupled", "rejection"])
def test_a_student_learns_from_sampled_text_too(draws: str) -> None:
    trainer = OnlineTrainer(OSD(every=1, lr=1e-2, depth=3, draws=draws), drafter())
    for seed in range(2):
        request = ask(domain("A")[0], trainer, temperature=0.7, seed=seed)
        if draws == "coupled":
            assert request.output == ask(domain("A")[0], temperature=0.7, seed=seed).output
    assert trainer.student.updates == 2


def test_an_update_is_told_with_acceptance_before_and_after() -> None:
    trainer = OnlineTrainer(OSD(every=1, lr=1e-2, depth=3), drafter())
    notes = []
    for prompt in domain("A")[:2]:
        drafting = OSDDrafter(trainer.options, trainer)
        sequence = Sequence(target(), Plan(drafters=(lambda d=drafting: d,)))  # type: ignore[misc]
        request = loop.begin(sequence, Sampling(), 16, ())
        loop.start(request, loop.prefill(sequence, prompt))
        for _ in loop.run(request, Fixed()):
            pass
        loop.finish(request)
        notes += drafting.notes
    assert len(notes) == 2
    assert notes[0].startswith("osd: update 1 on ") and "before the update" not in notes[0]
    assert "% of guesses were right before it, " in notes[1]


def lesson(logits: torch.Tensor) -> TopKProbs:
    return TopKProbs.of(logits, len(logits))


def test_a_rejected_guess_is_learned_at_the_place_that_guessed_it() -> None:
    trainer = OnlineTrainer(OSD(), drafter())
    drafting = OSDDrafter(trainer.options, trainer)
    drafting._vocab_size = VOCAB
    drafting._chain = [5, 6, 7]
    # Behind token 9 at place 2: 5 was right, and 8 came where 6 had been guessed.
    text = [1, 2, 9, 5, 8]
    tree = Tree(9)
    tree.add_chain([5, 6])
    logits = torch.full((3, VOCAB), -30.0)
    logits[0, 5], logits[1, 8], logits[2, 3] = 9.0, 9.0, 9.0
    drafting.learn(text, tree, logits, [0, 1])
    ((place, target),) = drafting._targets.items()
    assert (place, int(target.ids[0])) == (3, 8)
    assert (trainer.right, trainer.tested) == (1, 2)


def test_a_chain_that_was_right_to_its_end_teaches_nothing() -> None:
    trainer = OnlineTrainer(OSD(), drafter())
    drafting = OSDDrafter(trainer.options, trainer)
    drafting._chain = [5, 6]
    tree = Tree(9)
    tree.add_chain([5, 6])
    drafting.learn([1, 9, 5, 6, 4], tree, torch.zeros(3, VOCAB), [0, 1, 2])
    assert drafting._targets == {} and trainer.right == trainer.tested == 2
    drafting.learn([1, 9, 5, 6, 4, 3], Tree(4), torch.zeros(1, VOCAB), [0])
    assert trainer.tested == 2


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd", "both"])
def test_divergences_are_those_of_the_whole_distribution_where_all_of_it_is_kept(kind: str) -> None:
    torch.manual_seed(0)
    target_logits, draft_logits = torch.randn(2, 4, KEPT)
    p, q = target_logits.softmax(-1), draft_logits.softmax(-1)
    mixed = BETA * p + (1 - BETA) * q

    def kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one * (one / other).log()).sum(-1).mean()

    expected = {
        "forward": kl(p, q), "reverse": kl(q, p),
        "jsd": BETA * kl(p, mixed) + (1 - BETA) * kl(q, mixed),
        "both": 0.9 * kl(p, q) + 0.1 * kl(q, p),
    }  # fmt: skip
    found = divergence(draft_logits, [lesson(row) for row in target_logits], kind)
    torch.testing.assert_close(found, expected[kind], atol=1e-5, rtol=1e-4)


def test_a_distribution_cut_to_its_largest_entries_is_a_lower_bound() -> None:
    torch.manual_seed(0)
    logits, draft = torch.randn(1, 4 * KEPT) * 2, torch.randn(1, 4 * KEPT)
    whole = (logits.softmax(-1) * (logits.log_softmax(-1) - draft.log_softmax(-1))).sum()
    found = divergence(draft, [lesson(logits[0])], "forward")
    assert 0.7 * whole < found <= whole


def test_the_loss_compares_the_distribution_with_the_output_that_guessed() -> None:
    student = Student(drafter(), 1e-3, "forward")
    text = domain("A")[0]
    logits = student.trained(input_ids=torch.tensor([text])).logits[0].detach()
    own = {place: TopKProbs.of(logits[place], VOCAB) for place in (4, 9, 19)}
    assert float(student._loss(Example(text, own)).detach()) == pytest.approx(0, abs=1e-4)
    shifted = {place: TopKProbs.of(logits[place - 1], VOCAB) for place in (4, 9, 19)}
    assert float(student._loss(Example(text, shifted)).detach()) > 1e-3


def test_windows_hold_every_place_with_text_before_it() -> None:
    target = lesson(torch.zeros(VOCAB))
    text = list(range(300))
    found = training_examples(text, dict.fromkeys([3, 40, 130, 131, 200, 299], target), 64)
    places = [each.tokens[place] for each in found for place in each.targets]
    assert sorted(places) == [3, 40, 130, 131, 200, 299]
    assert all(len(each.tokens) <= 64 for each in found)
    assert all(place >= 32 or each.tokens[0] == 0 for each in found for place in each.targets)
    assert training_examples(text, {}, 64) == []


def test_the_buffer_forgets_the_oldest() -> None:
    target = lesson(torch.zeros(VOCAB))
    buffer = ReplayBuffer(5)
    buffer.add(Example([number], {0: target, 1: target}) for number in range(4))
    assert len(buffer) == 4
    assert [each.tokens for each in buffer.take()] == [[2], [3]]
    assert len(buffer) == 0


@pytest.mark.parametrize("tied", [False, True])
def test_taught_weights_are_kept_in_a_file(tied: bool, tmp_path: Path) -> None:
    path = tmp_path / "taught.safetensors"
    options = OSD(every=1, lr=1e-2, depth=3, save=str(path))
    trainer = OnlineTrainer(options, drafter(tied))
    ask(domain("A")[0], trainer)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    again = OnlineTrainer(options, drafter(tied))
    assert again.student.updates == 1
    for one, other in zip(
        trainer.student.serving.model.parameters(), again.student.serving.model.parameters(),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(one, other)


def test_a_file_of_another_drafter_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taught.safetensors"
    options = OSD(every=1, lr=1e-2, depth=3, save=str(path))
    ask(domain("A")[0], OnlineTrainer(options, drafter()))
    with pytest.raises(LengthwiseError, match="guesser is"):
        OnlineTrainer(OSD(layers="50%", save=str(path)), drafter())
    with pytest.raises(LengthwiseError, match="configuration is"):
        OnlineTrainer(options, target())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LengthwiseError, match="not the whole"):
        OnlineTrainer(options, drafter())


def test_layers_of_the_target_are_taught_as_a_copy() -> None:
    options = OSD(layers="50%", every=1, lr=1e-2, depth=3)
    before = [weight.clone() for weight in target().model.parameters()]
    trainer = trainer_of(options, target())
    assert trainer_of(OSD(layers="50%", every=1, lr=1e-2, depth=3), target()) is trainer
    plain = ask(domain("B")[0]).output
    assert ask(domain("B")[0], trainer).output == plain
    assert trainer.student.updates == 1
    after = list(target().model.parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    with pytest.raises(RecipeError, match="give path or layers"):
        OSD(path="somewhere", layers="50%")
