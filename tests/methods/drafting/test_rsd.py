"""RSD draws what it says it draws, and its trees never change what is said."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampler import Sampler
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_depth import DraftDepth
from lengthwise.engine.speculative.draft_length import Fixed, Goodput, LengthPolicy, UpTo
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless
from lengthwise.errors import RecipeError
from lengthwise.methods.drafting._shared.model_drafter import ModelDrafter, Scorer
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.methods.drafting.rsd import RSD, RSDDrafter, conditioned
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

VOCAB = 16
Said = tuple[int, ...]


@lru_cache
def model(seed: int = 0) -> AdaptedModel:
    """The second model is the first, disturbed."""
    stock = tiny_model("llama", initializer_range=0.15, vocab_size=VOCAB)
    if seed:
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in stock.parameters():
                weight += 0.03 * torch.randn(weight.shape, generator=noise)
    return adapt(stock)


class Second(ModelDrafter):
    """A drafter that asks the disturbed model."""

    def open(self, sequence: Sequence) -> Scorer:
        return DraftModelRunner.prefilled(model(1), sequence.tokens)


def drafter(options: RSD) -> RSDDrafter:
    return RSDDrafter(options, Second("second", 4))


SHAPES = {
    "beam": RSD(width=3, depth=3),
    "wide beam": RSD(width=8, depth=2),
    "constant": RSD(kind="constant", branching="3,2,1"),
    "coupled beam": RSD(width=3, depth=3, draws="coupled"),
}


def generate(
    options: RSD | None,
    sampling: Sampling,
    policy: LengthPolicy | None = None,
    new: int = 40,
    lookup: bool = False,
) -> Request:
    drafters = [lambda: drafter(options)] if options else []
    if lookup:
        drafters.append(lambda: LookupDrafter(Lookup()))
    sequence = Sequence(model(), Plan(drafters=tuple(drafters)))
    request = loop.begin(sequence, sampling, new, ())
    loop.start(request, loop.prefill(sequence, [5, 9, 4, 7, 11, 3, 8, 5, 9, 4]))
    for _ in loop.run(request, policy or Fixed()):
        pass
    return request


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("policy", [Fixed(), Fixed(4), Goodput(clock=lambda: 0.0)])
def test_greedy_with_rsd_is_token_equal_to_greedy_without(
    options: RSD, policy: LengthPolicy
) -> None:
    plain, drafted = (generate(each, Sampling(), policy) for each in (None, options))
    assert drafted.output == plain.output
    assert drafted.metrics.steps < plain.metrics.steps
    assert not drafted.metrics.notes


def test_coupled_sampling_is_token_equal_to_plain_sampling() -> None:
    for seed in range(3):
        sampling = Sampling(0.9, top_p=0.95, seed=seed)
        plain, drafted = (generate(e, sampling) for e in (None, SHAPES["coupled beam"]))
        assert drafted.output == plain.output
        assert drafted.metrics.steps < plain.metrics.steps


class Table:
    """A scorer whose distribution of the next token is a row of a table, by the token before it."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.states: Tensor | None = None

    def score(self, tokens: list[int], tree: Tree, want_states: bool = False) -> Tensor:
        self.states = self.rows[tree.tokens] if want_states else None
        return self.rows[tree.tokens]


def tables(vocab: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits `[vocab, vocab]` of a target and of a draft that resembles it."""
    noise = torch.Generator().manual_seed(seed)
    target = 1.5 * torch.randn(vocab, vocab, generator=noise)
    return target, target + torch.randn(vocab, vocab, generator=noise)


def round_of(
    options: RSD,
    target: Tensor,
    draft: Tensor,
    sampling: Sampling,
    draft_depth: DraftDepth | None = None,
) -> list[int]:
    """The tokens that one draft and its verification commit after token 0."""
    found = drafter(options)
    found.sampler, found.vocab_size, found.runner = Sampler(sampling), len(draft), Table(draft)
    found.draft_depth = draft_depth or DraftDepth()
    tree = Tree(0)
    found.propose([0], tree, 10)
    accepted, token = Lossless().walk(tree, target[tree.tokens], found.sampler, [0])
    return [*(tree.tokens[node] for node in accepted[1:]), token]


class ChiSquare:
    """Sums of a chi-square test, cells of small expectation pooled."""

    def __init__(self, probs: Tensor, counts: Tensor) -> None:
        expected = probs.flatten() * counts.sum()
        big = expected >= 5
        seen = [*counts.flatten()[big].tolist(), float(counts.flatten()[~big].sum())]
        hoped = [*expected[big].tolist(), float(expected[~big].sum())]
        if hoped[-1] < 5:
            hoped[-2:], seen[-2:] = [sum(hoped[-2:])], [sum(seen[-2:])]
        square = sum((s - h) ** 2 / h for s, h in zip(seen, hoped, strict=True))
        half = torch.tensor([(len(hoped) - 1) / 2, square / 2], dtype=torch.float64)
        self.p = float(torch.special.gammaincc(half[0], half[1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "stopping"),
    [
        (SHAPES["beam"], False),
        (SHAPES["beam"], True),
        (SHAPES["constant"], False),
        (RSD(width=2, depth=4), False),
    ],
)
def test_the_next_three_tokens_have_the_targets_distribution(options: RSD, stopping: bool) -> None:
    """Rounds are repeated until three tokens stand, with noise of the round's own each."""
    target, draft = tables(5, seed=3)
    probs = torch.softmax(target.double(), -1)
    joint = probs[0][:, None, None] * probs[:, :, None] * probs[None]
    counts = torch.zeros(5, 5, 5, dtype=torch.float64)

    class Doubtful(UpTo):
        """Stops by what was drawn, which stays."""

        def should_continue(self, bucket: int, prior: float, state: Tensor | None = None) -> bool:
            return super().should_continue(bucket, prior, state) and prior > 0.3

    for seed in range(2000):
        text, scorer = [0], drafter(options)
        scorer.sampler, scorer.vocab_size = Sampler(Sampling(1.0, seed=seed)), 5
        scorer.runner = Table(draft)
        while len(text) < 4:
            scorer.draft_depth = Doubtful(9) if stopping else DraftDepth()
            tree = Tree(text[-1])
            scorer.propose(text, tree, 10)
            accepted, token = Lossless().walk(tree, target[tree.tokens], scorer.sampler, text)
            text += [*(tree.tokens[node] for node in accepted[1:]), token]
        counts[text[1], text[2], text[3]] += 1
    assert ChiSquare(joint, counts).p > 0.001


def test_a_tree_without_replacement_is_accepted_more_than_a_chain() -> None:
    target, draft = tables(8, seed=1)
    lengths = {}
    for name, options in (
        ("chain", RSD(width=1, depth=4)),
        ("beam", RSD(width=3, depth=4)),
        ("constant", RSD(kind="constant", branching="2,2,1,1")),
    ):
        rounds = [
            len(round_of(options, target, draft, Sampling(1.0, seed=seed))) for seed in range(600)
        ]
        lengths[name] = sum(rounds) / len(rounds)
    assert lengths["beam"] > lengths["chain"] + 0.3
    assert lengths["constant"] > lengths["chain"] + 0.3


def test_children_are_in_the_order_of_their_values_and_draws_hold_the_processed_probs() -> None:
    _, draft = tables(8, seed=2)
    found = drafter(SHAPES["beam"])
    found.sampler = Sampler(Sampling(0.7, top_k=3, seed=1))
    found.vocab_size, found.runner = 8, Table(draft)
    tree = Tree(0)
    found.propose([0], tree, 10)
    assert all(len(nodes) <= 3 for nodes in tree.draws.values())
    for parent, (group,) in tree.draws.items():
        expected = found.sampler.probs(draft[tree.tokens[parent]], [])
        torch.testing.assert_close(group.probs, expected)
        assert int((group.probs > 0).sum()) == 3
        assert len(set(group.nodes)) == len(group.nodes)
    assert [tree.depths.count(depth) for depth in (1, 2, 3)] == [3, 3, 3]


def test_a_distribution_of_few_tokens_has_few_children() -> None:
    _, draft = tables(8, seed=2)
    found = drafter(RSD(kind="constant", branching="5"))
    found.sampler, found.vocab_size = Sampler(Sampling(1.0, top_k=2, seed=1)), 8
    found.runner = Table(draft)
    tree = Tree(0)
    found.propose([0], tree, 10)
    assert len(tree) == 3


def test_conditioned_values_keep_their_order_and_the_largest_is_the_parents() -> None:
    values = torch.tensor([3.0, 3.0 - 1e-15, 1.0, -800.0, -torch.inf], dtype=torch.float64)
    for largest in (-900.0, -2.0, 0.0, 50.0):
        found = conditioned(values, largest)
        assert found[0] == largest
        assert not found.isnan().any()
        assert (found.diff() <= 0).all()
    plain = -torch.log(
        torch.exp(torch.tensor(2.0)) - torch.exp(-values[:1]) + torch.exp(-values[2:3])
    )
    torch.testing.assert_close(conditioned(values, -2.0)[2:3], plain, atol=1e-6, rtol=1e-6)


def test_paths_are_drawn_without_replacement_by_their_probability() -> None:
    """The first path of a beam is a plain draw; the second one of what is left."""
    _, draft = tables(4, seed=5)
    probs = torch.softmax(draft.double(), -1)
    joint = (probs[0][:, None] * probs).flatten()
    second = sum(joint[i] * _without(joint, i) for i in range(16))
    counts = torch.zeros(2, 16, dtype=torch.float64)
    found = drafter(RSD(width=2, depth=2))
    found.vocab_size, found.runner = 4, Table(draft)
    for seed in range(4000):
        found.sampler = Sampler(Sampling(1.0, seed=seed))
        values: list[tuple[float, int]] = []
        tree = Tree(0)
        kept = found._add

        def note(tree, asked, path, probs, children, kept=kept, values=values):  # type: ignore[no-untyped-def]
            if len(path.tokens) == 1:
                values += [(c.value, 4 * path.tokens[0] + c.token) for c in children]
            return kept(tree, asked, path, probs, children)

        found._add = note  # type: ignore[method-assign]
        found.propose([0], tree, 10)
        found._add = kept  # type: ignore[method-assign]
        for rank, (_, cell) in enumerate(sorted(values, reverse=True)):
            counts[rank, cell] += 1
    assert ChiSquare(joint, counts[0]).p > 0.001
    assert isinstance(second, Tensor) and ChiSquare(second, counts[1]).p > 0.001


def _without(probs: Tensor, cell: int) -> Tensor:
    left = probs.clone()
    left[cell] = 0
    return left / left.sum()


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, top_p=0.9, seed=4)])
def test_rsd_stands_beside_other_drafters(sampling: Sampling) -> None:
    drafted = generate(SHAPES["beam"], sampling, lookup=True, new=80)
    assert not drafted.metrics.notes and len(drafted.output) == 80
    assert drafted.metrics.accepted.get("rsd", 0) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "constant", "branching": "2,x"},
        {"kind": "constant", "branching": "0"},
        {"width": 64, "depth": 64},
        {"kind": "tree"},
    ],
)
def test_shapes_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="allowed"):
        RSD(**options)  # type: ignore[arg-type]
