"""SAM-Decoding: the automaton finds the longest end that stood there before, and copies from it."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.drafting.recycling import Recycling
from lengthwise.methods.drafting.sam import SAM, Corpus, SAMDrafter
from lengthwise.retrieval.datastore import Datastore
from lengthwise.retrieval.suffix_automaton import SuffixAutomaton
from tests.table_runs import VOCAB, generate, model, tokens

texts = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def earlier(text: Seq[int]) -> tuple[int, int]:
    """(end, length) of the longest end of a text that stood there before, by looking everywhere."""
    for length in range(len(text) - 1, 0, -1):
        for start in range(len(text) - length):
            if text[start : start + length] == text[len(text) - length :]:
                return start + length, length
    return 0, 0


def drafted(options: SAM, text: Seq[int], store: Datastore | None = None, limit: int = 100) -> Tree:
    tree = Tree(text[-1])
    SAMDrafter(options, store).propose(list(text), tree, limit)
    assert tree.is_chain()
    return tree


@settings(max_examples=200, deadline=None)
@given(texts)
def test_the_automaton_finds_the_longest_end_at_its_earliest_place(text: list[int]) -> None:
    automaton = SuffixAutomaton()
    for end in range(1, len(text) + 1):
        automaton.extend(text[end - 1 : end])
        assert automaton.longest() == earlier(text[:end])
    assert len(automaton) == len(text)


@settings(max_examples=50, deadline=None)
@given(texts, st.integers(1, 12))
def test_a_place_with_too_little_behind_it_gives_way_to_one_further_ahead(
    text: list[int], followed: int
) -> None:
    automaton = SuffixAutomaton()
    automaton.extend(text)
    end, length = automaton.longest(followed)
    longest_end, longest = earlier(text)
    assert bool(length) == bool(longest) and length <= longest and end <= longest_end
    if length:
        assert text[end - length : end] == text[len(text) - length :]
    # Any longer end stands too late, or this one is the last there is.
    ends = [
        next(at for at in range(size, len(text)) if text[at - size : at] == text[-size:])
        for size in range(length + 1, longest + 1)
    ]
    assert all(len(text) - at < followed for at in ends)


@pytest.mark.parametrize("alphabet", [2, 50, 5000])
def test_states_and_transitions_are_linear_in_the_text(alphabet: int) -> None:
    dice = random.Random(alphabet)
    piece = [dice.randrange(alphabet) for _ in range(400)]
    text = [dice.randrange(alphabet) for _ in range(1200)] + piece * 3
    automaton = SuffixAutomaton()
    automaton.extend(text)
    assert automaton.states <= 2 * len(text)
    assert automaton.transitions <= 3 * len(text)


def test_alpha_tokens_are_copied_a_token_of_match_up_to_max_draft() -> None:
    text = [*range(3, 60), 3, 4, 5]
    assert drafted(SAM(), text).tokens[1:] == list(range(6, 18))
    assert drafted(SAM(alpha=1.5), text).tokens[1:] == [6, 7, 8, 9]
    assert drafted(SAM(max_draft=7), text).tokens[1:] == list(range(6, 13))
    assert drafted(SAM(alpha=None), text).tokens[1:] == list(range(6, 46))
    assert drafted(SAM(), text, limit=2).tokens[1:] == [6, 7]


def test_the_earliest_place_is_copied_where_lookup_takes_the_latest() -> None:
    text = [5, 6, 7, *range(10, 60), 5, 6, 8, *range(60, 63), 5, 6]
    assert drafted(SAM(alpha=None, max_draft=3), text).tokens[1:] == [7, 10, 11]


def test_a_match_below_the_threshold_is_left_to_others() -> None:
    text = [*range(3, 60), 3, 4, 5, 6]
    assert len(drafted(SAM(threshold=5), text)) == 1
    assert len(drafted(SAM(threshold=4), text)) > 1


def test_past_the_end_of_the_text_the_copy_reads_itself() -> None:
    text = [9, 8, 7] * 3
    assert drafted(SAM(max_draft=10), text).tokens[1:] == ([9, 8, 7] * 4)[:10]


def test_the_corpus_is_copied_from_where_it_knows_an_end_longer_by_more_than_the_bias() -> None:
    store = Datastore.build([[*range(10, 30), 1, 2], [40, 41]], VOCAB)
    text = [19, 50, 51, 52, 53, *range(10, 20)]
    # The text knows one token of its end, the corpus ten.
    for bias, first, count in ((5, 20, 12), (8, 20, 8), (9, 50, 4), (40, 50, 4)):
        tree = drafted(SAM(bias=bias, datastore="corpus"), text, store)
        assert (tree.tokens[1], len(tree) - 1) == (first, min(count, 12)), bias
    assert min(drafted(SAM(bias=5, datastore="corpus"), text, store).buckets[1:]) > max(
        drafted(SAM(bias=40, datastore="corpus"), text, store).buckets[1:]
    )


def test_a_copy_from_the_corpus_stops_where_a_document_ends() -> None:
    store = Datastore.build([list(range(10, 24)), [40, 41, 42]], VOCAB)
    text = [50, *range(10, 22)]
    assert drafted(SAM(alpha=None), text, store).tokens[1:] == [22, 23]


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=4), texts, st.integers(1, 7))
def test_the_corpus_is_searched_as_the_text_grows(
    documents: list[list[int]], text: list[int], draft_depth: int
) -> None:
    corpus = Corpus(Datastore.build(documents, VOCAB))
    ends = {
        tuple(document[start:stop])
        for document in documents
        for start in range(len(document))
        for stop in range(start + 1, len(document) + 1)
    }
    for end in range(1, len(text) + 1, draft_depth):
        known = max((n for n in range(end + 1) if tuple(text[end - n : end]) in ends), default=0)
        place, length = corpus.longest(text[:end])
        assert length == known
        if length:
            assert corpus.store.tokens[place : place + length].tolist() == text[end - length : end]


def test_a_file_that_is_none_and_another_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="sam: .*lengthwise datastore build"):
        SAM(datastore=str(tmp_path / "none")).check(model())
    path = tmp_path / "store.safetensors"
    Datastore.build([[1, 2, 3, 4]], 50_000, "").save(path)
    with pytest.raises(Refused, match="another tokenizer"):
        SAM(datastore=str(path)).check(model())


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("options", [SAM(), SAM(threshold=5, alpha=None)], ids=str)
def test_sam_beside_recycling_is_token_equal_to_plain_decoding(
    options: SAM, temperature: float
) -> None:
    sampling = Sampling(temperature, seed=5)
    right = 0
    for seed in range(2):
        prompt = tokens(12, seed) * 3
        plain = generate(prompt, sampling=sampling)
        beside = Recycling(fresh=True).start_drafter(model())
        request = generate(prompt, options.start_drafter(model()), beside, sampling=sampling)
        assert request.output == plain.output
        right += request.metrics.accepted.get("sam", 0)
    # Greedy, the tiny model falls into loops, which every copy is right about.
    assert right > 0 or temperature or options.threshold > 1
