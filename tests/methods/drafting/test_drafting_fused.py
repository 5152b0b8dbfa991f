"""Drafters that combine a model with retrieval: what they add, prune, read and promise."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence as Seq
from functools import lru_cache, partial
from itertools import permutations
from pathlib import Path

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
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless
from lengthwise.errors import RecipeError
from lengthwise.methods.drafting._shared.draft_choice import open_scorer
from lengthwise.methods.drafting._shared.model_drafter import ModelDrafter
from lengthwise.methods.drafting.rapid import AugmentedVerifier, Rapid, RapidDrafter, pulled
from lengthwise.methods.drafting.rasd import (
    ContextSource,
    Continuation as Retrieved,
    Rasd,
    RasdDrafter,
    StoreSource,
)
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.retrieval.datastore import Datastore
from lengthwise.testing.tiny import tiny_model
from tests.table_runs import answered

VOCAB = 16


@lru_cache
def model(family: str = "llama", seed: int = 0) -> AdaptedModel:
    return adapt(
        tiny_model(family, seed=seed, initializer_range=0.12, vocab_size=VOCAB, num_hidden_layers=4)
    )


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, VOCAB) for _ in range(count)]


def generate(
    prompt: Seq[int],
    method: Rasd | Rapid | None = None,
    sampling: Sampling | None = None,
    family: str = "llama",
    new: int = 40,
    make: Callable[[], ModelDrafter] | None = None,
) -> Request:
    target = model(family)
    starters = () if method is None else (make or partial(method.start_drafter, target),)
    verifier = None if method is None else partial(method.start_verifier, target)
    return answered(target, Plan(drafters=starters, verifier=verifier), prompt, sampling, new)


RAPID = Rapid(chunk=8, head=4, tail=8, gamma=4, budget=16)
METHODS = [Rasd(layers="50%"), Rasd(layers="0-2", width=3, top=0, tau=0.9), RAPID]


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi"])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_drafted_greedy_text_is_plain_greedy_text(method: Rasd | Rapid, family: str) -> None:
    for seed in range(2):
        plain = generate(tokens(60, seed), family=family)
        drafted = generate(tokens(60, seed), method, family=family)
        assert drafted.output == plain.output
        assert drafted.metrics.steps <= plain.metrics.steps


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_coupled_sampling_is_token_equal_to_plain_sampling(method: Rasd | Rapid) -> None:
    sampling = Sampling(0.8, top_k=10, top_p=0.95, repetition_penalty=1.1, seed=3)
    plain = generate(tokens(60), sampling=sampling)
    assert generate(tokens(60), method, sampling).output == plain.output


# RASD.


class Fixture:
    """A model whose logits depend on the last token alone: row of a table `[vocab, vocab]`."""

    states: Tensor | None = None

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def score(self, tokens: Seq[int], tree: Tree, want_states: bool = False) -> Tensor:
        return self.table[tree.tokens]


def rasd(table: Tensor, options: Rasd, seed: int = 0, temperature: float = 0.0) -> RasdDrafter:
    """A drafter that asks a Fixture, and retrieves from the context."""
    drafter = RasdDrafter(options, lambda sequence: Fixture(table))
    drafter.draft_depth = DraftDepth()
    drafter.sampler = Sampler(Sampling(temperature, seed=seed))
    drafter.vocab_size = len(table)
    drafter.runner = Fixture(table)
    return drafter


def test_retrieved_guesses_share_the_nodes_of_the_models_own() -> None:
    table = torch.eye(8).roll(1, 1) * 9  # After t the model says t + 1.
    text = [1, 2, 3, 4, 7, 7, 1, 2]
    tree = Tree(2)
    rasd(table, Rasd(depth=2, width=1, draft=4)).propose(text, tree, 8)
    assert tree.tokens[1:] == [3, 4, 7, 7]
    assert tree.sources[1:] == ["rasd", "rasd", "rasd retrieved", "rasd retrieved"]
    assert tree.agreed == [False, True, True, False, False]
    assert tree.is_chain()


def test_a_retrieved_beginning_the_model_does_not_believe_is_pruned() -> None:
    probs = torch.tensor([0.0, 0.5, 0.3, 0.1, 0.06, 0.04])
    paths = [Retrieved([5, 1], 0.2, 4), Retrieved([4], 0.2, 3), Retrieved([2], 0.1, 3),
             Retrieved([1], 0.5, 2)]  # fmt: skip
    kept = rasd(torch.zeros(6, 6), Rasd(top=3, tau=0.2)).prune(paths, probs)
    assert [path.tokens[0] for path, _ in kept] == [5, 1, 2]
    wider = rasd(torch.zeros(6, 6), Rasd(top=0, tau=0.05)).prune(paths, probs)
    assert [path.tokens[0] for path, _ in wider] == [5, 1, 2, 4]


def test_the_longest_match_stays_and_a_match_of_one_token_does_not() -> None:
    probs = torch.tensor([1.0, 0.0, 0.0])
    options = Rasd(top=1)
    long, short = Retrieved([2], 1.0, 2), Retrieved([2], 1.0, 1)
    assert len(rasd(torch.zeros(3, 3), options).prune([long], probs)) == 1
    assert rasd(torch.zeros(3, 3), options).prune([short], probs) == []


def test_retrieved_guesses_stay_within_their_budget_and_limit() -> None:
    text = [*range(3, 30), 5, 6, 7] * 2
    table = torch.zeros(32, 32)
    for limit, most in ((3, 40), (20, 6)):
        tree = Tree(text[-1])
        rasd(table, Rasd(retrieved=most, depth=2, draft=30)).propose(text, tree, limit)
        assert max(tree.depths) <= limit
        assert 0 < tree.sources.count("rasd retrieved") <= most


def test_a_corpus_is_retrieved_from_with_its_counts() -> None:
    store = Datastore.build([[5, 6, 7, 8], [5, 6, 7, 9], [5, 6, 7, 8], [5, 6, 2]], VOCAB)
    paths = StoreSource(store).find([3, 5, 6], 2)
    assert [(path.tokens, path.weight) for path in paths] == [
        ([7, 8], 0.5), ([2], 0.25), ([7, 9], 0.25),
    ]  # fmt: skip
    assert StoreSource(store).find([3, 4], 2) == []


def test_the_context_is_retrieved_from_longest_match_first() -> None:
    paths = ContextSource().find([1, 2, 3, 9, 2, 3, 8, 4, 1, 2, 3], 2)
    assert [(path.tokens, path.length) for path in paths] == [([9, 2], 3), ([8, 4], 2)]


@pytest.mark.parametrize("kind", ["rejection", "coupled"])
def test_what_is_sampled_has_the_targets_distribution_whatever_is_retrieved(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    target, draft = (torch.randn(6, 6, generator=generator) * 1.5 for _ in range(2))
    text = [1, 2, 3, 4, 2, 3, 1, 5, 2, 3]
    expected = torch.softmax(target[3].double(), -1)
    seen: Counter[int] = Counter()
    draws = 2000
    for seed in range(draws):
        drafter = rasd(draft, Rasd(draws=kind, width=2, depth=2, draft=2), seed, 1.0)
        tree = Tree(3)
        drafter.propose(text, tree, 4)
        assert any(source == "rasd retrieved" for source in tree.sources) or len(tree) > 2
        accepted, token = Lossless().walk(tree, target[tree.tokens], drafter.sampler, list(text))
        seen[tree.tokens[accepted[1]] if len(accepted) > 1 else token] += 1
    counts = torch.tensor([seen[token] for token in range(6)], dtype=torch.float64)
    chi = float(((counts - draws * expected) ** 2 / (draws * expected)).sum())
    assert chi < 20.5  # 5 degrees of freedom: exceeded once in a thousand.


def test_both_ways_to_name_who_guesses_are_refused() -> None:
    with pytest.raises(RecipeError, match="give path or layers"):
        Rasd(path="somewhere", layers="50%")
    with pytest.raises(RecipeError, match="not among the layers"):
        Rasd(layers="0-9").check(model())


def test_a_datastore_that_is_not_there_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="lengthwise datastore build"):
        Rasd(datastore=str(tmp_path / "none")).check(model())


def test_layers_are_asked_through_the_targets_own_cache() -> None:
    method = Rasd(layers="100%", width=1, depth=3, draft=1)
    begin = open_scorer("rasd", "", method.layers, model())
    found = generate(tokens(50), method, make=lambda: RasdDrafter(method, begin))
    assert found.metrics.accepted["rasd"] >= 3 * (found.metrics.steps - 1)


def test_the_drafter_reads_a_short_context_of_its_own() -> None:
    drafter = RAPID.start_drafter(model())
    assert isinstance(drafter, RapidDrafter)
    sequence = Sequence(model())
    prompt = tokens(100)
    loop.prefill(sequence, prompt)
    drafter.begin(sequence, Sampling())
    assert isinstance(drafter.runner, DraftModelRunner)
    assert len(drafter.runner.sequence) == len(drafter.short) <= 4 + 16 + 8
    assert list(drafter.reads([*prompt, 5, 6])) == [*drafter.short, 5, 6]


# RAPID's augmented mode.


class Uniforms(Sampler):
    """Uniforms as given, and a note of the distribution that a token is finally drawn from."""

    def __init__(self, uniforms: Seq[float], temperature: float = 1.0) -> None:
        super().__init__(Sampling(temperature))
        self.uniforms = uniforms
        self.drawn: Tensor | None = None

    def uniform(self, position: int, number: int) -> float:
        return self.uniforms[number]

    def draw(self, probs: Tensor, position: int) -> int:
        self.drawn = probs
        return -1


ALMOST = 1 - 1e-15
Outcome = tuple[int | None, Tensor | None]


def walked(
    z: Tensor, q: Tensor, eta: float, drawn: Seq[int], uniforms: Seq[float], mask: str = "p_hat"
) -> Outcome:
    """The drawn token that the verifier accepts of the target's logits z, and the distribution it
    draws from where it accepts none."""
    tree, sampler = Tree(0), Uniforms(uniforms)
    tree.draw(0, drawn, q, "rapid", [0] * len(drawn))
    logits = z[None].repeat(len(tree), 1)
    accepted, _ = AugmentedVerifier(eta, mask).walk(tree, logits, sampler, [0])
    return (tree.tokens[accepted[1]] if len(accepted) > 1 else None), sampler.drawn


def said(z: Tensor, q: Tensor, eta: float, width: int, mask: str = "p_hat") -> Tensor:
    """The distribution `[vocab]` of the verifier's first token, over all draws and uniforms."""
    found = torch.zeros_like(q)
    for drawn in permutations(range(len(q)), width):
        left, rest = 1.0, q.clone()
        for token in drawn:
            left *= float(rest[token] / rest.sum())
            rest[token] = 0
        for number, token in enumerate(drawn):
            before = [ALMOST] * number
            low, high = 0.0, 1.0
            for _ in range(60):
                middle = (low + high) / 2
                after = [ALMOST] * (width - number)
                uniforms = [*before, middle, *after]
                accepts = walked(z, q, eta, drawn, uniforms, mask)[0] == token
                low, high = (middle, high) if accepts else (low, middle)
            found[token] += left * high
            left *= 1 - high
        residual = walked(z, q, eta, drawn, [ALMOST] * width, mask)[1]
        if residual is not None:
            found += left * residual
    return found


def pair(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, generator=generator, dtype=torch.float64) * 1.5
    return torch.softmax(logits[0], -1), torch.softmax(logits[1], -1)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("eta", [0.0, 1.0, 5.0, 20.0])
def test_augmented_says_exactly_its_distribution(eta: float, width: int) -> None:
    for seed in range(2):
        p, q = pair(seed)
        z = p.log().float()
        p = torch.softmax(z.double(), -1)
        expected = torch.softmax(z + eta * (q - p), -1)
        tail = expected < 0.1 * expected.max()
        expected = torch.where(tail, p, expected)
        expected /= expected.sum()
        assert float((said(z, q, eta, width) - expected).abs().max()) < 1e-12
        if eta == 0:
            torch.testing.assert_close(expected, p)


@pytest.mark.parametrize("eta", [1.0, 10.0])
def test_augmented_with_the_mask_of_the_authors_code_says_its_distribution(eta: float) -> None:
    for seed in range(2):
        p, q = pair(seed)
        z = p.log().float()
        p = torch.softmax(z.double(), -1)
        pulls = torch.where(q >= 0.1 * q.max(), eta * (q - p), 0)
        expected = torch.softmax(z + pulls, -1)
        assert bool((pulls == 0).any())
        assert float((said(z, q, eta, 1, "q") - expected).abs().max()) < 1e-12
        assert float((said(z, q, eta, 1) - expected).abs().max()) > 1e-3
    options = Rapid(mode="augmented", eta=eta, mask="q")
    verifier = options.start_verifier(model())
    assert isinstance(verifier, AugmentedVerifier)
    assert (verifier.eta, verifier.mask) == (eta, "q")


def test_augmented_greedy_says_the_likeliest_of_the_pulled_distribution_where_known() -> None:
    for seed in range(20):
        p, q = pair(seed)
        tree = Tree(0)
        guess = int(q.argmax())
        tree.draw(0, [guess], q, "rapid", [0])
        logits = torch.stack([p.log(), p.log()])
        accepted, token = AugmentedVerifier(8.0).walk(tree, logits, Sampler(Sampling()), [0])
        expected = int(pulled(p, q, 8.0).argmax())
        assert (tree.tokens[accepted[1]] if len(accepted) > 1 else token) == expected
        assert len(accepted) == 1 or token == int(p.argmax())


def test_the_augmented_mode_changes_greedy_text() -> None:
    method = Rapid(chunk=8, head=4, tail=8, gamma=2, budget=16, mode="augmented", eta=40)
    texts = [tokens(60, seed) for seed in range(4)]
    assert any(generate(text, method).output != generate(text).output for text in texts)


def test_acceptance_rises_with_eta() -> None:
    rates = []
    for eta in (0.0, 5.0, 20.0):
        pairs = [pair(seed) for seed in range(40)]
        rates.append(sum(float(torch.minimum(q, pulled(p, q, eta)).sum()) for p, q in pairs) / 40)
    assert rates == sorted(rates) and rates[2] - rates[0] > 0.05


def test_what_the_target_forbids_stays_forbidden() -> None:
    p, q = torch.tensor([0.0, 0.6, 0.4]), torch.tensor([0.9, 0.05, 0.05])
    assert pulled(p, q, 20.0)[0] == 0


def test_only_the_plain_mode_is_lossless() -> None:
    assert Rapid.lossless and Rapid().lossless
    assert not Rapid(mode="augmented").lossless
    assert Rapid().start_verifier(model()) is None
    plain, lossy = (resolve((Rapid(mode=mode),), model()) for mode in ("plain", "augmented"))
    assert plain.lossless and not lossy.lossless
    assert str(Rapid(mode="augmented", eta=5)) == "rapid(mode=augmented, eta=5)"


def test_a_pull_of_nothing_is_plain_greedy() -> None:
    text = tokens(60, 2)
    method = Rapid(chunk=8, head=4, tail=8, gamma=3, budget=16, mode="augmented", eta=0)
    assert generate(text, method).output == generate(text).output
