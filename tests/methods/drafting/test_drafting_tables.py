"""Drafters with tables: what they learn, how they grow trees, and that it is kept whole."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.drafting import aded, recycling
from lengthwise.methods.drafting._shared import tables
from lengthwise.methods.drafting.aded import ADED, ADEDDrafter, Trigrams
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.methods.drafting.recycling import Matrix, Recycling, RecyclingDrafter
from lengthwise.models.adapt import adapt
from lengthwise.testing.tiny import tiny_model
from tests.table_runs import VOCAB, generate, model, tokens

# The rules we had before the authors' code was read.
OURS = ADED(learn="logits", search="products")
METHODS = [Recycling(), Recycling(tree="static"), ADED(), OURS]
NAMES = ["recycling, best", "recycling, static", "aded", "aded, ours"]


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_greedy_with_a_table_is_token_equal_to_greedy_without(
    method: Recycling | ADED, family: str
) -> None:
    right = 0
    for seed in range(3):
        prompt = tokens(30, seed)
        plain = generate(prompt, on=model(family))
        drafted = generate(prompt, method.start_drafter(model(family)), on=model(family))
        assert drafted.output == plain.output
        right += sum(drafted.metrics.accepted.values())
    assert right > 0


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_sampling_with_a_table_is_token_equal_to_sampling_without(
    method: Recycling | ADED, temperature: float
) -> None:
    sampling = Sampling(temperature, top_k=20, top_p=0.9, seed=5)
    for seed in range(2):
        prompt = tokens(30, seed)
        plain = generate(prompt, sampling=sampling)
        drafted = generate(prompt, method.start_drafter(model()), sampling=sampling)
        assert drafted.output == plain.output


def test_all_drafters_in_one_tree_change_nothing() -> None:
    prompt = tokens(30, 9)
    plain = generate(prompt)
    drafters = [LookupDrafter(Lookup(min_match=1))]
    both = [Recycling(fresh=True).start_drafter(model()), ADED(fresh=True).start_drafter(model())]
    drafted = generate(prompt, *drafters, *both)
    assert drafted.output == plain.output
    assert drafted.metrics.steps < plain.metrics.steps


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_a_table_kept_over_requests_raises_acceptance(method: Recycling | ADED) -> None:
    adapted = adapt(tiny_model("llama", initializer_range=0.15, vocab_size=2000))
    rounds = []
    for seed in (0, 1, 2, 0, 1, 2):
        request = generate(tokens(30, seed), method.start_drafter(adapted), on=adapted, new=30)
        rounds.append(request.metrics.accepted_per_step)
    assert sum(rounds[3:]) > 1.2 * sum(rounds[:3])


def test_the_static_tree_is_that_of_the_paper() -> None:
    table = Matrix(1000)
    generator = np.random.default_rng(0)
    ids = np.array([generator.permutation(1000)[:8] for _ in range(1000)])
    table.put(range(1000), ids, np.full((1000, 8), -1.0, np.float32))
    tree = Tree(5)
    RecyclingDrafter(Recycling(tree="static"), table).propose([5], tree, 100)
    assert len(tree) == 81
    assert Counter(tree.depths[1:]) == {1: 8, 2: 21, 3: 25, 4: 15, 5: 8, 6: 3}
    assert tree.tokens[1:9] == ids[5].tolist()
    below = [len(tree.children[node]) for node in range(1, 9)]
    assert below == [8, 4, 3, 2, 1, 1, 1, 1]
    assert [len(tree.children[node]) for node in range(9, 17)] == [8, 3, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("how", "nodes"), [("best", 20), ("static", 40)])
def test_nodes_depth_and_limit_bound_the_tree(how: str, nodes: int) -> None:
    drafter = taught(Recycling(nodes=nodes, depth=3, tree=how))
    for limit, deepest in ((10, 3), (2, 2)):
        tree = Tree(7)
        drafter.propose([7], tree, limit)
        assert len(tree) - 1 <= nodes
        assert max(tree.depths) == deepest


def taught(options: Recycling, vocab: int = 100) -> RecyclingDrafter:
    """A drafter whose table says of every token t: t+1 with 0.8, t+2 with 0.1, ..."""
    table = Matrix(vocab)
    ids = (np.arange(vocab)[:, None] + np.arange(1, 9)) % vocab
    probs = np.array([0.8, 0.1, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01], np.float32)
    table.put(range(vocab), ids, np.log(probs)[None].repeat(vocab, 0))
    return RecyclingDrafter(options, table)


def test_the_tree_grows_where_products_of_probabilities_are_highest() -> None:
    tree = Tree(7)
    taught(Recycling(nodes=12, depth=8)).propose([7], tree, 100)
    probs = [1.0]
    for node in range(1, len(tree)):
        probs.append(probs[tree.parents[node]] * tree.priors[node])
    assert all(one >= other - 1e-9 for one, other in pairwise(probs))
    assert tree.tokens[1:4] == [8, 9, 10]


def test_the_tree_goes_on_from_the_end_of_what_others_guessed() -> None:
    tree = Tree(7)
    parent = 0
    for token in (50, 60, 70):
        parent = tree.add(parent, token, "lookup", prior=0.95)
    taught(Recycling(nodes=10, depth=2)).propose([7], tree, 100)
    assert 71 in tree.children[parent]
    assert max(tree.depths) == 5
    assert tree.sources[1:4] == ["lookup"] * 3


def test_nodes_that_others_proposed_are_not_paid_for() -> None:
    alone, beside = Tree(7), Tree(7)
    beside.add(0, 8, "lookup", prior=0.5)
    for tree in (alone, beside):
        taught(Recycling(nodes=10)).propose([7], tree, 100)
    assert len(alone) == 11 and len(beside) == 12
    assert beside.sources[1] == "lookup"


def test_the_table_of_the_default_model_is_under_two_megabytes() -> None:
    table = Matrix(49_152)
    assert table.nbytes == 49_152 * 8 * 3 < 2_000_000
    assert (table.ids.dtype, Matrix(70_000).ids.dtype) == (np.uint16, np.uint32)


def test_a_token_never_scored_guesses_nothing_and_token_0_is_a_guess_like_any_other() -> None:
    drafter = RecyclingDrafter(Recycling(), Matrix(VOCAB))
    tree = Tree(3)
    drafter.propose([3], tree, 10)
    assert len(tree) == 1 and not drafter.matrix.seen(3)
    logits = torch.zeros(1, VOCAB)
    logits[0, 0] = 5
    drafter.learn([3, 0], tree, logits, [0])
    drafter.propose([3], tree, 10)
    assert drafter.matrix.seen(3) and not drafter.matrix.seen(0)
    assert tree.tokens[1] == 0 and set(tree.depths) == {0, 1}


def repeated() -> tuple[Tree, Tensor]:
    """Token 5 at nodes 1, 2 and 4, of which node 2 was accepted; node i is followed by 10 + i."""
    tree = Tree(1)
    tree.add(0, 5)
    tree.add(0, 6)
    tree.add(2, 5)
    tree.add(1, 5)
    logits = torch.zeros(5, VOCAB)
    logits[range(5), range(10, 15)] = 9
    return tree, logits


@pytest.mark.parametrize("_", range(3))
def test_of_equal_tokens_the_accepted_one_wins_then_the_last(_: int) -> None:
    tree, logits = repeated()
    drafter = RecyclingDrafter(Recycling(), Matrix(VOCAB))
    drafter.learn([1, 6, 5, 9], tree, logits, [0, 2, 3])
    assert drafter.matrix.row(5)[0][1] == 13
    drafter.learn([1, 9], tree, logits, [0])
    assert drafter.matrix.row(5)[0][1] == 14


def test_of_equal_pairs_the_accepted_one_wins_then_the_last() -> None:
    tree = Tree(5)
    for _ in range(3):
        tree.add(len(tree) - 1, 5)
    logits = torch.zeros(4, VOCAB)
    logits[range(4), range(10, 14)] = 9
    for accepted, best in (([0, 1], 11), ([0, 1, 2, 3], 13), ([0], 13)):
        drafter = ADEDDrafter(OURS, Trigrams(VOCAB))
        drafter.learn([4, 5, *[5] * (len(accepted) - 1), 9], tree, logits, accepted)
        assert drafter.trigrams.row(5, 5)[0][0] == best
        assert drafter.trigrams.row(4, 5)[0][0] == 10


@pytest.mark.parametrize("vocab", [5, 64, 4099, 49_152])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_top_tokens_are_exact_and_their_probabilities_near(
    vocab: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(6, vocab, generator=generator)).to(dtype)
    ids, logp = tables.top(logits, 8)
    true = logits.float().log_softmax(-1)
    best = true.topk(min(8, vocab), -1).values
    torch.testing.assert_close(true.gather(1, torch.from_numpy(ids)), best)
    assert float((torch.from_numpy(logp) - best).abs().max()) < 0.25


@pytest.mark.parametrize("vocab", [5, VOCAB])
@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_learning_from_bfloat16_guesses_what_float32_guesses(
    method: Recycling | ADED, vocab: int
) -> None:
    trees = []
    for dtype in (torch.float32, torch.bfloat16):
        kind = Matrix if isinstance(method, Recycling) else Trigrams
        table = kind.empty(vocab)
        drafter: Drafter = (
            RecyclingDrafter(method, table)
            if isinstance(method, Recycling) and isinstance(table, Matrix)
            else ADEDDrafter(method, table)  # type: ignore[arg-type]
        )
        tree = Tree(3)
        tree.add(0, 4)
        logits = torch.arange(2 * vocab).view(2, vocab).remainder(7).to(dtype)
        drafter.learn([2, 3, 4, 1], tree, logits, [0, 1])
        new = Tree(4)
        drafter.propose([3, 4], new, 10)
        trees.append((new.tokens, new.parents))
    assert trees[0] == trees[1] and len(trees[0][0]) > 1


def test_a_row_of_the_trigram_table_moves_by_eta() -> None:
    table = Trigrams(VOCAB, 10)
    ids = np.array([[7, 8]])
    table.blend([1], ids, np.array([[0.5, 0.25]], np.float32), 0.1)
    assert table.row(0, 1) == ([7, 8], [0.5, 0.25])
    table.blend([1], np.array([[9, 7]]), np.array([[1.0, 0.0]], np.float32), 0.2)
    found, weights = table.row(0, 1)
    assert found == [7, 8, 9]
    assert weights == pytest.approx([0.4, 0.2, 0.2])


def test_a_row_keeps_the_twelve_heaviest() -> None:
    table = Trigrams(VOCAB, 10)
    table.blend([1], np.arange(12)[None], np.full((1, 12), 0.05, np.float32), 0.5)
    table.blend([1], np.array([[40, 41]]), np.array([[0.6, 0.3]], np.float32), 0.5)
    found, weights = table.row(0, 1)
    assert found[:2] == [40, 41] and len(found) == 12
    assert weights == sorted(weights, reverse=True)


def test_the_prompt_fills_the_table_by_counts() -> None:
    table = Trigrams(VOCAB, 100)
    table.read([1, 2, 3, 1, 2, 3, 1, 2, 4], 0.3)
    found, weights = table.row(1, 2)
    assert found == [3, 4] and weights == pytest.approx([0.5, 0.25])
    assert table.row(2, 4) == ([], [])


def test_pairs_are_bounded_and_the_least_recently_used_go() -> None:
    table = Trigrams(VOCAB, 3)
    one, weight = np.array([[7]]), np.array([[0.5]], np.float32)
    for key in (1, 2, 3):
        table.blend([key], one, weight, 0.5)
    assert table.row(0, 1)[0] == [7]
    table.blend([4], one, weight, 0.5)
    assert len(table) == 3
    assert [bool(table.row(0, key)[0]) for key in (1, 2, 3, 4)] == [True, False, True, True]
    table.read(tokens(200), 0.5)
    assert len(table) == 3
    assert len(table.arrays()["keys"]) == 3


@pytest.mark.parametrize("search", ["sums", "products"])
def test_the_search_finds_the_likely_paths_within_its_budget(search: str) -> None:
    table = Trigrams(VOCAB, 100)
    table.read([1, 2, 3, 4, 5, 6] * 5, 0.3)
    # The search of the authors' code adds to every path its likeliest successor.
    few = 4 if search == "sums" else 2
    for nodes, simulations, most in ((64, 80, 64), (3, 80, 3), (64, 2, few)):
        tree = Tree(2)
        options = ADED(search=search, nodes=nodes, simulations=simulations, depth=4)
        ADEDDrafter(options, table).propose([1, 2], tree, 100)
        assert 0 < len(tree) - 1 <= most
        assert tree.tokens[1:3] == [3, 4] and max(tree.depths) <= 4
        assert all(parent < node for node, parent in enumerate(tree.parents))


@pytest.mark.parametrize("method", [Recycling.identity(100), ADED.identity(100)])
def test_the_identity_never_guesses(method: Recycling | ADED) -> None:
    request = generate(tokens(30), method.start_drafter(model()))
    assert request.metrics.drafted == 0


def test_buckets_separate_good_guesses_from_bad_ones() -> None:
    buckets = [recycling.bucket_of(cost) for cost in range(255)]
    assert buckets == sorted(buckets) and 5 <= len(set(buckets)) <= 12
    found = [aded.bucket_of(weight) for weight in np.linspace(1, 0.001, 50)]
    assert found == sorted(found) and 5 <= len(set(found)) <= 12


@pytest.mark.parametrize("vocab", [VOCAB, 9000])
def test_logits_that_are_not_numbers_teach_nothing(vocab: int) -> None:
    tree = Tree(5)
    tree.add(0, 6)
    logits = torch.zeros(2, vocab)
    logits[0], logits[1, 9] = torch.nan, 5
    drafters = RecyclingDrafter(Recycling(), Matrix(vocab)), ADEDDrafter(OURS, Trigrams(vocab))
    for drafter in drafters:
        drafter.learn([4, 5, 6, 9], tree, logits, [0, 1])
    matrix, trigrams = drafters[0].matrix, drafters[1].trigrams
    assert not matrix.seen(5) and matrix.row(6)[0][1] == 9
    assert trigrams.row(4, 5) == ([], []) and trigrams.row(5, 6)[0][0] == 9
    for drafter in drafters:
        drafter.learn([4, 5, 6], tree.keep([0]), logits[:1], [0])
    assert not matrix.seen(5) and len(trigrams) == 1


def test_logits_of_a_step_are_read_once_for_all_who_learn_and_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    whole = tables._read_strips
    monkeypatch.setattr(tables, "_read_strips", lambda *given: read.append(1) or whole(*given))
    logits = torch.randn(3, 9000)
    eight, twelve = tables.top(logits, 8), tables.top(logits, 12)
    assert len(read) == 1
    alone = tables.top(logits.clone(), 12)
    for mine, theirs in zip(twelve, alone, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(eight[0], twelve[0][:, :8])
    del logits
    assert len(tables._STRIPS) == 0
