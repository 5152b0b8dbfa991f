"""SpecDec++: its threshold is the best rule there is, its head knows what will be rejected, and
stopping changes no distribution."""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_length import Fixed, LengthPolicy
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.draft_length._shared import acceptance_head
from lengthwise.methods.draft_length._shared.acceptance_head import AcceptanceHead
from lengthwise.methods.draft_length.specdec import SpecDec, SpecDecDepth, SpecDecPolicy
from lengthwise.methods.drafting._shared.model_drafter import ModelDrafter, Scorer
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

# Probabilities of acceptance, and how often a guess has them. Seconds of a guess, where those of a
# verification are 1.
KINDS = {0.97: 0.7, 0.3: 0.3}
GUESS = 0.15
LONGEST = 10


def draft_depth(options: SpecDec, head: AcceptanceHead | None = None) -> SpecDecDepth:
    return SpecDecDepth(options, LookupDrafter(Lookup()), Acceptance(), head)


def speed(lengths: dict[tuple[float, ...], int]) -> float:
    """Expected tokens a second where guesses of those probabilities are drafted so far."""
    tokens = seconds = 0.0
    for probs, length in lengths.items():
        weight = torch.tensor([KINDS[prob] for prob in probs]).prod().item()
        survival = torch.tensor(probs[:length]).cumprod(0).sum().item()
        tokens += weight * (1 + survival)
        seconds += weight * (1 + GUESS * length)
    return tokens / seconds


def stopped(probs: tuple[float, ...], threshold: float) -> int:
    found = draft_depth(SpecDec(threshold=threshold, least=1, most=LONGEST))
    for count, prob in enumerate(probs, 1):
        if not found.should_continue(0, prob):
            return count
    return len(probs)


def best_speed() -> float:
    """By value iteration: the speed at which the best stopping rule just breaks even."""
    low, high = 0.5, 8.0
    for _ in range(40):
        price = (low + high) / 2

        def gain(survival: float, left: int, price: float = price) -> float:
            if not left:
                return 0.0
            more = sum(
                weight * (survival * prob + gain(survival * prob, left - 1))
                for prob, weight in KINDS.items()
                if survival > 0.01
            )
            return max(0.0, more - price * GUESS)

        low, high = (price, high) if 1 - price + gain(1.0, LONGEST) > 0 else (low, price)
    return low


def test_the_threshold_is_as_good_as_any_rule_and_better_than_any_fixed_length() -> None:
    texts = list(itertools.product(KINDS, repeat=LONGEST))
    fixed = max(speed(dict.fromkeys(texts, length)) for length in range(LONGEST + 1))
    found = max(
        speed({text: stopped(text, threshold) for text in texts})
        for threshold in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.72)
    )
    assert found > 1.08 * fixed
    assert found == pytest.approx(best_speed(), rel=1e-3)


def test_least_and_most_bound_the_guesses() -> None:
    found = draft_depth(SpecDec(threshold=0.3, least=2, most=4))
    assert [found.should_continue(0, 0.1) for _ in range(2)] == [True, False]
    found = draft_depth(SpecDec(threshold=0.3, least=2, most=4))
    assert [found.should_continue(0, 1.0) for _ in range(4)] == [True, True, True, False]
    with pytest.raises(RecipeError, match="at least 5"):
        SpecDec(least=5, most=4)


def test_guesses_that_ask_no_model_are_verified_up_to_the_first_doubtful_one() -> None:
    tree, node = Tree(0), 0
    for prior in (0.9, 0.9, 0.5, 0.9, 0.9):
        node = tree.add(node, 1, "lookup", prior=prior)
    policy = SpecDecPolicy(SpecDec(threshold=0.3, least=0))
    (kept,) = policy.choose(LOAD, [tree], [Acceptance()])
    assert len(kept) - 1 == 3
    (kept,) = SpecDecPolicy(SpecDec(least=4)).choose(LOAD, [tree], [Acceptance()])
    assert len(kept) - 1 == 4
    (kept,) = SpecDecPolicy(SpecDec.identity(9)).choose(LOAD, [tree], [Acceptance()])
    assert len(kept) == 1


LOAD = Load("test", 1, 10)
VOCAB = 32


@lru_cache
def source() -> Tensor:
    """The distribution `[before, last, vocab]` of a text: after most tokens the last one says all
    that can be known, after some the one before it says much more."""
    dice = torch.Generator().manual_seed(0)
    simple = torch.softmax(2.5 * torch.randn(VOCAB, VOCAB, generator=dice), -1)
    hard = torch.softmax(4 * torch.randn(VOCAB, VOCAB, VOCAB, generator=dice), -1)
    is_hard = torch.rand(VOCAB, generator=dice) < 0.4
    return torch.where(is_hard[None, :, None], hard, simple[None])


def texts(count: int, length: int, seed: int) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    found = [*torch.randint(0, VOCAB, (2, count), generator=dice)]
    while len(found) < length:
        probs = source()[found[-2], found[-1]]
        found.append(torch.multinomial(probs, 1, generator=dice)[:, 0])
    return torch.stack(found, 1)


@lru_cache
def trained(layers: int) -> AdaptedModel:
    model = tiny_model(
        "llama", num_hidden_layers=layers, vocab_size=VOCAB, hidden_size=32, initializer_range=0.05,
        max_position_embeddings=512,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(300):
        batch = texts(12, 24, seed=step)
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    return adapt(model.eval())


@lru_cache
def head() -> AcceptanceHead:
    corpus = texts(40, 128, seed=1001).tolist()
    return acceptance_head.train(trained(1), trained(3), corpus, steps=300)


def test_the_head_tells_what_will_be_accepted() -> None:
    pairs = [
        acceptance_head.examples(trained(1), trained(3), text, seed=n)
        for n, text in enumerate(texts(20, 128, seed=1002).tolist())
    ]
    states, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    order = head()(states).softmax(-1)[:, 1].argsort()
    right, wrong = labels[order], 1 - labels[order]
    below = wrong.cumsum(0) - wrong / 2
    area = float((right * below).sum() / (right.sum() * wrong.sum()))
    assert 0.3 < float(labels.mean()) < 0.9
    assert area > 0.6


class Draft(ModelDrafter):
    def __init__(self) -> None:
        super().__init__("draft", 12, draws="rejection")
        self.draft = trained(1)

    def open(self, sequence: Sequence) -> Scorer:
        return DraftModelRunner.prefilled(self.draft, sequence.tokens)


def drafted(policy: LengthPolicy) -> tuple[float, float]:
    """Tokens a round, and discarded guesses a committed token."""
    books: list[RequestMetrics] = []
    for seed, prompt in enumerate(texts(3, 8, seed=1003).tolist()):
        sequence = Sequence(trained(3), Plan(drafters=(Draft,)))
        request = loop.begin(sequence, Sampling(1.0, seed=seed), 160, ())
        loop.start(request, loop.prefill(sequence, prompt))
        for _ in loop.run(request, policy):
            pass
        assert not request.metrics.notes
        books.append(request.metrics)
    tokens = sum(book.decoded for book in books)
    right = sum(sum(book.accepted.values()) for book in books)
    return tokens / sum(b.steps for b in books), (sum(b.drafted for b in books) - right) / tokens


def test_the_head_discards_fewer_guesses_than_a_fixed_length_at_equal_tokens_a_round() -> None:
    found, waste = drafted(SpecDecPolicy(SpecDec(threshold=0.7, least=1, most=8), head()))
    fixed = [drafted(Fixed(length)) for length in (2, 3, 4, 5, 6)]
    above = next(n for n, (tokens, _) in enumerate(fixed) if tokens > found)
    assert above > 0
    (low, low_waste), (high, high_waste) = fixed[above - 1], fixed[above]
    assert waste < low_waste + (high_waste - low_waste) * (found - low) / (high - low)


def test_a_head_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    acceptance_head.save(head(), path)
    found = acceptance_head.load(path)
    state = torch.randn(32)
    assert found.prob(state) == head().prob(state)
    assert (found.draft, found.target) == (head().draft, head().target)
    assert [each.name for each in tmp_path.iterdir()] == ["head.safetensors"]
    assert SpecDec(head=str(path)).start_policy(trained(3)).head is not None
    with pytest.raises(Refused, match="another target"):
        SpecDec(head=str(path)).check(trained(1))


def test_a_damaged_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    with pytest.raises(LengthwiseError, match="cannot be read"):
        acceptance_head.load(path)
    path.write_bytes(b"not a head at all")
    with pytest.raises(LengthwiseError, match="cannot be read"):
        acceptance_head.load(path)
    acceptance_head.save(head(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LengthwiseError, match="cannot be read"):
        acceptance_head.load(path)


def test_a_head_of_another_drafting_model_says_so() -> None:
    with pytest.raises(LengthwiseError, match="another drafting model"):
        draft_depth(SpecDec(), AcceptanceHead(16)).should_continue(0, 0.5, torch.zeros(32))


def test_labels_of_greedy_guesses_are_agreements() -> None:
    text = texts(1, 40, seed=5)[0].tolist()
    _, labels = acceptance_head.examples(trained(1), trained(3), text, temperature=0)
    assert set(labels.tolist()) <= {0.0, 1.0}
    _, own = acceptance_head.examples(trained(1), trained(1), text)
    assert own.min() == 1


def test_a_head_lies_under_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    acceptance_head.save(head(), tmp_path / "a.head")
    assert SpecDec(head="~/a.head").start_policy(trained(3)).head is not None
    with pytest.raises(LengthwiseError, match="cannot be read"):
        SpecDec(head="~/none.head").check(trained(3))
