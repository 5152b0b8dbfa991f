"""A datastore finds what stands in its documents; its file is believed only where it is whole."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence as Seq
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given, settings, strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lengthwise.cli.datastore import datastore as command
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.drafting.datastore import DatastoreDrafter, DatastoreDrafting, frequent
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.datastore import SEPARATOR, Datastore, fingerprint

VOCAB = 16
texts = st.lists(st.integers(0, 4), min_size=1, max_size=60)
corpora = st.lists(texts, min_size=1, max_size=5)


def tree_of(drafter: DatastoreDrafter, text: Seq[int], limit: int = 100) -> Tree:
    tree = Tree(text[-1])
    drafter.propose(text, tree, limit)
    return tree


def target(size: int, tokenizer: object = None) -> AdaptedModel:
    """As much of a model as the check looks at."""
    return cast(AdaptedModel, SimpleNamespace(vocab_size=size, family="llama", tokenizer=tokenizer))


def store(documents: Seq[Seq[int]], vocab_size: int = VOCAB) -> Datastore:
    return Datastore.build(documents, vocab_size)


def followers(documents: Seq[Seq[int]], gram: Seq[int], length: int) -> list[list[int]]:
    """What follows an n-gram at each of its places, padded at the end of a document."""
    return sorted(
        [*document[at + len(gram) : at + len(gram) + length], *[SEPARATOR] * length][:length]
        for document in documents
        for at in range(len(document) - len(gram) + 1)
        if list(document[at : at + len(gram)]) == list(gram)
    )


@settings(max_examples=80, deadline=None)
@given(corpora, texts)
def test_tokens_that_follow_are_those_of_the_documents(
    documents: list[list[int]], gram: list[int]
) -> None:
    store = Datastore.build(documents, VOCAB)
    gram, match = gram[:3], store.everywhere
    assert store.following(match).tolist() == sorted({t for each in documents for t in each})
    for token in gram:
        match = store.extended(match, token)
    assert match == store.find(gram)
    wanted = {
        each[n + len(gram)]
        for each in documents
        for n in range(len(each) - len(gram))
        if each[n : n + len(gram)] == gram
    }
    if len(match):
        assert store.following(match).tolist() == sorted(wanted)
    else:
        assert not wanted
    assert not len(store.extended(store.everywhere, SEPARATOR))


@settings(max_examples=80, deadline=None)
@given(corpora, texts, st.integers(1, 4), st.integers(1, 5))
def test_continuations_are_those_of_the_longest_end_of_a_text(
    documents: list[list[int]], text: list[int], shortest: int, length: int
) -> None:
    found = store(documents)
    match = found.longest(text, 8, shortest)
    lengths = [n for n in range(shortest, min(8, len(text)) + 1)
               if followers(documents, text[-n:], 1)]  # fmt: skip
    assert match.length == max(lengths, default=0)
    if match:
        rows = followers(documents, text[-match.length :], length)
        assert sorted(found.continuations(match, length, 1000).tolist()) == rows


@settings(max_examples=60, deadline=None)
@given(corpora, st.lists(st.integers(0, 5), max_size=4))
def test_counts_are_those_of_the_documents(documents: list[list[int]], gram: list[int]) -> None:
    plain = sum(map(len, documents)) if not gram else len(followers(documents, gram, 1))
    assert store(documents).count(gram) == plain


def test_no_match_and_no_continuation_reaches_into_the_next_document() -> None:
    found = store([[1, 2, 3], [4, 5, 6]])
    assert found.count([3, 4]) == 0
    assert found.continuations(found.find([2]), 4, 10).tolist() == [[3, *[SEPARATOR] * 3]]
    tree = tree_of(DatastoreDrafter(DatastoreDrafting(path="x", shortest=1), found), [2])
    assert tree.tokens == [2, 3]


@settings(max_examples=80, deadline=None)
@given(corpora, st.integers(0, 4), st.integers(1, 4), st.integers(1, 12))
def test_the_trie_holds_the_most_frequent_beginnings_and_their_counts(
    documents: list[list[int]], token: int, depth: int, nodes: int
) -> None:
    found = store(documents)
    match = found.find([token])
    if not match:
        return
    tokens, parents, counts = frequent(found.continuations(match, depth, 1000), nodes)
    paths: list[tuple[int, ...]] = [()]
    for each, parent in zip(tokens, parents, strict=True):
        paths.append((*paths[parent], each))
    plain = Counter(
        tuple(row[:size]) for row in followers(documents, [token], depth)
        for size in range(1, depth + 1) if SEPARATOR not in row[:size]
    )  # fmt: skip
    assert len(set(paths)) == len(paths) == min(nodes, len(plain)) + 1
    assert [plain[path] for path in paths[1:]] == counts
    assert sorted(counts, reverse=True) == sorted(plain.values(), reverse=True)[:nodes]


def test_of_many_places_a_sample_keeps_the_shares() -> None:
    found = store([[1, 2]] * 900 + [[1, 3]] * 100)
    tokens, _, counts = frequent(found.continuations(found.find([1]), 1, 50), 8)
    assert dict(zip(tokens, counts, strict=True)) == {2: 45, 3: 5}


def test_guesses_are_counted_by_match_and_share_and_their_probabilities_are_shares() -> None:
    found = store([[1, 2, 3, 4]] * 30 + [[1, 2, 5]] * 10 + [[9, 1, 2, 6, 7]])
    drafter = DatastoreDrafter(DatastoreDrafting(path="x"), found)
    tree = tree_of(drafter, [8, 1, 2])
    often, seldom = tree.children[0][3], tree.children[0][5]
    assert tree.sources[1:] == ["datastore"] * (len(tree) - 1)
    assert tree.priors[often] > tree.priors[seldom] > 0
    assert tree.buckets[often] != tree.buckets[seldom]
    longer = tree_of(drafter, [9, 1, 2])
    assert longer.tokens[1:] == [6, 7]
    assert longer.buckets[1] > max(tree.buckets[often], tree.buckets[seldom])


def test_nodes_draft_and_limit_bound_the_tree() -> None:
    generator = random.Random(0)
    found = store([[generator.randrange(VOCAB) for _ in range(400)] for _ in range(5)])
    for options, limit in [({"nodes": 5}, 100), ({"draft": 2}, 100), ({}, 3)]:
        drafter = DatastoreDrafter(DatastoreDrafting(path="x", shortest=1, **options), found)
        tree = tree_of(drafter, [1, 2], limit)
        assert 1 < len(tree) <= options.get("nodes", 64) + 1
        assert max(tree.depths) <= min(limit, options.get("draft", 10))


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
def test_a_datastore_of_nothing_is_refused(documents: list[list[int]]) -> None:
    with pytest.raises(LengthwiseError, match="no tokens"):
        store(documents)


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="token id 99"):
        store([[1, 99]])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "store.safetensors"
    store([[1, 2, 3, 4, 5] * 20, [2, 4, 6]]).save(path)
    return path


def test_a_stored_datastore_is_mapped_and_equal(file: Path) -> None:
    opened, made = Datastore.open(file), store([[1, 2, 3, 4, 5] * 20, [2, 4, 6]])
    assert not opened.tokens.flags.owndata and not opened.suffixes.flags.owndata
    assert np.array_equal(opened.tokens, made.tokens)
    assert np.array_equal(opened.suffixes, made.suffixes)
    assert (opened.vocab_size, opened.documents) == (VOCAB, 2)
    assert list(file.parent.iterdir()) == [file]


def damage(path: Path, what: str) -> None:
    data = path.read_bytes()
    if what == "missing":
        path.unlink()
    elif what == "truncated":
        path.write_bytes(data[:-50])
    elif what == "a byte changed":
        path.write_bytes(data[:-50] + bytes([data[-50] ^ 1]) + data[-49:])
    elif what == "no datastore":
        path.write_text("a shopping list")
    else:
        with safe_open(path, framework="pt") as opened:
            header = dict(opened.metadata())
            arrays = {name: opened.get_tensor(name).clone() for name in ("tokens", "suffixes")}
        header |= {"version": "0"} if what == "version" else {"format": "weights"}
        save_file(arrays, path, header)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", "No such file"),
        ("truncated", "truncated or damaged"),
        ("a byte changed", "checksum"),
        ("no datastore", "truncated or damaged"),
        ("version", "of version 0"),
        ("format", "is no datastore"),
    ],
)
def test_a_bad_file_is_one_clear_line_before_the_run(file: Path, what: str, said: str) -> None:
    damage(file, what)
    with pytest.raises(RecipeError, match=said) as error:
        DatastoreDrafting(path=str(file)).check(target(VOCAB))
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_without_a_path_the_error_says_how_to_build_one() -> None:
    with pytest.raises(RecipeError, match="lengthwise datastore build"):
        DatastoreDrafting().check(target(VOCAB))


def test_a_replaced_file_is_read_anew(file: Path) -> None:
    method = DatastoreDrafting(path=str(file))
    assert method.open().count([6]) == 1
    store([[6, 6, 6, 6]]).save(file)
    assert method.open().count([6]) == 4


def words(*known: str) -> PreTrainedTokenizerFast:
    raw = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, unk_token=known[0]))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token=known[0])


def test_a_datastore_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    path, own = tmp_path / "store", words(*"?abcdefg")
    Datastore.build([[1, 2, 3]], 8, fingerprint(own)).save(path)
    method = DatastoreDrafting(path=str(path))

    for fits in [target(8), target(8, own), target(16, own)]:
        method.check(fits)
    for other in [target(9), target(8, words(*"?abcdefh"))]:
        with pytest.raises(Refused, match="another tokenizer"):
            method.check(other)


def test_the_example_drafts_and_the_identity_does_not() -> None:
    text = [*range(3, 20), 3]
    example = DatastoreDrafting.example()
    example.check(target(128))
    assert len(tree_of(DatastoreDrafter(example, example.open()), text)) > 1
    identity = DatastoreDrafting.identity(len(text))
    assert len(tree_of(DatastoreDrafter(identity, identity.open()), text)) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama and a tokenizer of eight words."""
    made = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1)  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(made)
    words(*"?abcdefg").save_pretrained(made)
    return made


def build(folder: Path, out: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(
        command, ["build", *map(str, arguments), "--model", str(folder), "--out", str(out)]
    )


def test_the_command_indexes_texts_lines_and_folders(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a b c d")
    lines = [{"text": "a b e"}, {"text": "b e e"}]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "three.md").write_text("g g a b")
    (tmp_path / "more" / "picture.bin").write_bytes(bytes(64))
    (tmp_path / "more" / ".hidden").write_text("a b a b")
    out = tmp_path / "out.store"
    found = build(folder, out, *(tmp_path / x for x in ("one.txt", "two.jsonl", "more")))
    assert found.exit_code == 0, found.output
    assert "14 tokens of 4 documents" in found.output and f"path={out}" in found.output
    assert "passed over 1 file:" in found.output and "picture.bin" in found.output
    opened = Datastore.open(out)
    assert (opened.count([1, 2]), opened.count([5, 5]), opened.count([4, 1])) == (3, 1, 0)
    assert (opened.vocab_size, opened.fingerprint) == (8, fingerprint(words(*"?abcdefg")))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a"}\n{"body": "b"}', "line 2: no text under 'text'"),
        ("a.jsonl", '{"text": ', "line 1: this is no JSON"),
        ("a.txt", "  ", "is empty"),
    ],
)
def test_a_bad_source_is_one_clear_line_and_leaves_no_file(
    folder: Path, tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    found = build(folder, tmp_path / "out", tmp_path / name)
    assert isinstance(found.exception, LengthwiseError)
    assert said in str(found.exception) and "\n" not in str(found.exception)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_output_without_a_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    found = build(tmp_path, tmp_path / "none" / "out", tmp_path / "absent.txt")
    assert isinstance(found.exception, LengthwiseError)
    assert "there is no folder" in str(found.exception)
