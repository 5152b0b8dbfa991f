"""Drafters that look up what followed: they find what stands there, and they change no token."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence as Seq
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.drafting.copyspec import CopySpec, CopySpecDrafter
from lengthwise.methods.drafting.datastore import DatastoreDrafter, DatastoreDrafting
from lengthwise.methods.drafting.lookup import BEGINNING, DEEPER, Lookup, LookupDrafter
from lengthwise.methods.drafting.rasd import ContextSource, Rasd
from lengthwise.methods.drafting.sam import SAM, SAMDrafter
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.datastore import Datastore
from lengthwise.retrieval.suffix_index import SuffixIndex
from lengthwise.testing.tiny import tiny_model

VOCAB = 16
texts = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def tree_of(drafter: Drafter, text: Seq[int], limit: int = 100) -> Tree:
    tree = Tree(text[-1])
    drafter.propose(text, tree, limit)
    return tree


def chains(tree: Tree) -> list[list[int]]:
    """Tokens of every path to a leaf, in the order the leaves' chains were begun."""
    leaves = [node for node in range(1, len(tree)) if not tree.children[node]]
    return [[tree.tokens[node] for node in tree.path(leaf)[1:]] for leaf in leaves]


def plain_places(text: Seq[int], shortest: int, longest: int, most: int) -> list[tuple[int, int]]:
    """Every earlier end with its match, longest and then newest first, one for each next token."""
    rows = []
    for end in range(len(text) - 1):
        length = 0
        while length < longest and end >= length and text[end - length] == text[-1 - length]:
            length += 1
        rows.append((length, end))
    found: dict[int, tuple[int, int]] = {}
    for length, end in sorted(rows, reverse=True):
        if length >= shortest:
            found.setdefault(text[end + 1], (end, length))
    return list(found.values())[:most]


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 2), st.integers(1, 5))
def test_lookup_places_are_the_longest_matches_with_different_next_tokens(
    text: list[int], shortest: int, most: int
) -> None:
    index = SuffixIndex(shortest, 16)
    index.extend(text)
    assert index.places(most) == plain_places(text, shortest, 16, most)


def test_lookup_guesses_other_places_and_then_shorter_matches() -> None:
    text = [7, 8, 9, 1, 2, 3, 4, 5, 7, 8, 9, 6, 2, 2, 9, 5, 7, 8, 9]
    tree = tree_of(LookupDrafter(Lookup(max_draft=2, min_match=1, candidates=4)), text)
    assert chains(tree) == [[6, 2], [1, 2], [5, 7]]


def test_lookup_buckets_the_first_chain_apart_from_the_others() -> None:
    text = [7, 8, 9, 1, 2, 3, 4, 5, 7, 8, 9, 6, 2, 2, 9, 5, 7, 8, 9]
    tree = tree_of(LookupDrafter(Lookup(max_draft=2, min_match=1, candidates=4)), text)
    first, equal, shorter = (tree.buckets[tree.children[0][token]] for token in (6, 1, 5))
    assert first < BEGINNING < equal < shorter < DEEPER
    assert all(tree.buckets[node] >= DEEPER for token in (1, 5)
               for node in tree.children[tree.children[0][token]].values())  # fmt: skip
    assert tree.priors[tree.children[0][6]] > tree.priors[tree.children[0][1]]


def test_lookup_with_one_candidate_guesses_a_chain() -> None:
    text = [7, 8, 9, 1, 2, 3, 4, 5, 7, 8, 9, 6, 2, 2, 9, 5, 7, 8, 9]
    assert tree_of(LookupDrafter(Lookup(min_match=1, candidates=1)), text).is_chain()


def plain_copy(text: Seq[int], gamma: int, copy: int, place: str) -> list[int]:
    gram = list(text[-gamma:])
    ends = [end for end in range(gamma, len(text)) if list(text[end - gamma : end]) == gram]
    if len(text) <= gamma or not ends:
        return []
    start = ends[0] if place == "first" else ends[-1]
    grown = list(text)
    for depth in range(copy):
        grown.append(grown[start + depth])
    return grown[len(text) :]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(texts, min_size=1, max_size=5), st.integers(1, 4), st.sampled_from(["first", "last"])
)
def test_copyspec_copies_what_followed_the_first_or_the_last_run(
    pieces: list[list[int]], gamma: int, place: str
) -> None:
    drafter = CopySpecDrafter(CopySpec(gamma=gamma, copy=6, place=place))
    text: list[int] = []
    for piece in pieces:
        text += piece
        assert tree_of(drafter, text).tokens[1:] == plain_copy(text, gamma, 6, place)


def test_copyspec_compares_tokens_where_their_hashes_agree() -> None:
    twin = 5 + 2**61 - 1
    assert hash((1, 2, 5)) == hash((1, 2, twin))
    assert len(tree_of(CopySpecDrafter(CopySpec()), [1, 2, twin, 8, 8, 1, 2, 5])) == 1


def test_copyspec_is_bounded_by_its_options_and_by_the_limit() -> None:
    text = [*range(20), 0, 1, 2]
    assert len(tree_of(CopySpecDrafter(CopySpec()), text)) == 11
    assert len(tree_of(CopySpecDrafter(CopySpec(copy=4)), text)) == 5
    assert len(tree_of(CopySpecDrafter(CopySpec()), text, limit=2)) == 3
    assert len(tree_of(CopySpecDrafter(CopySpec.identity(len(text))), text)) == 1


@lru_cache
def model() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15, vocab_size=VOCAB))


def known(drafter: Any) -> int:
    """Tokens that it has indexed."""
    if isinstance(drafter, CopySpecDrafter):
        return drafter._known
    if isinstance(drafter, SAMDrafter):
        return len(drafter.automaton)
    source = getattr(drafter, "source", drafter)
    return len(source.index)


@pytest.mark.parametrize(
    "method", [Lookup(min_match=1), CopySpec(gamma=1), SAM(), Rasd(layers="50%")], ids=str
)
def test_the_prompt_is_indexed_before_the_first_round(method: Any) -> None:
    generator = random.Random(3)
    prompt = [generator.randrange(3, VOCAB) for _ in range(40)] * 2
    late, early = method.start_drafter(model()), method.start_drafter(model())
    for drafter in (late, early):
        sequence = Sequence(model())
        loop.prefill(sequence, prompt)
        drafter.begin(sequence, Sampling())
        assert known(drafter) == len(prompt)
    # Of two whose guesses are alike, one has to read the whole text in its first round.
    if isinstance(method, Rasd):
        late.source = ContextSource()
    else:
        late = method.start_drafter(model())
    text = [*prompt, prompt[40]]
    trees = [tree_of(drafter, text) for drafter in (early, late)]
    assert known(early) == known(late) == len(text)
    assert len(trees[0]) > 1 and trees[0].tokens == trees[1].tokens


def generate(prompt: Seq[int], sampling: Sampling, *make: Callable[[], Drafter]) -> Any:
    sequence = Sequence(model(), Plan(drafters=make))
    request = loop.begin(sequence, sampling, 60, ())
    loop.start(request, loop.prefill(sequence, prompt))
    for _ in loop.run(request, Fixed()):
        pass
    loop.finish(request)
    return request


def corpus_of(prompt: Seq[int], output: Seq[int]) -> Datastore:
    """Text that resembles what comes, and text that does not."""
    generator = random.Random(1)
    wrong = [token if generator.random() < 0.8 else generator.randrange(VOCAB) for token in output]
    return Datastore.build(
        [[*prompt, *wrong], output[20:], [generator.randrange(VOCAB) for _ in range(300)]], VOCAB
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_retrieval_drafters_change_no_token(seed: int, temperature: float) -> None:
    generator = random.Random(seed)
    prompt = [generator.randrange(3, VOCAB) for _ in range(40)]
    sampling = Sampling(temperature=temperature, seed=seed)
    plain = generate(prompt, sampling)
    found = corpus_of(prompt, plain.output)
    makers: list[Callable[[], Drafter]] = [
        lambda: LookupDrafter(Lookup(min_match=1, candidates=6)),
        lambda: CopySpecDrafter(CopySpec(gamma=2)),
        lambda: DatastoreDrafter(DatastoreDrafting(path="x", shortest=1), found),
    ]
    for make in [*([each] for each in makers), makers]:
        drafted = generate(prompt, sampling, *make)
        assert drafted.output == plain.output
        assert not drafted.metrics.notes
    assert drafted.metrics.steps < plain.metrics.steps
