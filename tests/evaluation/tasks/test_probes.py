"""Probes hold what they say, at the length they say, and never guess when they do not fit."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from tokenizers import Tokenizer as RawTokenizer, decoders, models, pre_tokenizers, trainers

from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.probes import (
    COPY_SKIP,
    COPY_WORDS,
    continuation,
    copy_probe,
    mean_by_bin,
    position_bins,
    probe_context,
)
from lengthwise.evaluation.tasks.words import COMMON_WORDS

SENTENCES = [
    f"Rule {i} says that a value of {i * 7} is kept. It holds for every name.\n" for i in range(900)
]
TEXT = "".join(SENTENCES)


class TinyTokenizer:
    """A byte-level BPE of a few hundred tokens, trained on the spot."""

    def __init__(self, prefix_space_alone: bool = False) -> None:
        raw = RawTokenizer(models.BPE())
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = pre_tokenizers.Digits(individual_digits=True)
        raw.pre_tokenizer = pre_tokenizers.Sequence(
            [digits, byte_level] if prefix_space_alone else [byte_level]
        )
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=700,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        raw.train_from_iterator([TEXT[:20_000], " ".join(COMMON_WORDS)], trainer)
        self.raw = raw

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return self.raw.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, token_ids: list[int]) -> str:
        return self.raw.decode(token_ids, skip_special_tokens=False)


@pytest.fixture(scope="module", params=[False, True], ids=["joined space", "space alone"])
def tokenizer(request: pytest.FixtureRequest) -> TinyTokenizer:
    return TinyTokenizer(request.param)


@pytest.fixture(scope="module")
def ids(tokenizer: TinyTokenizer) -> list[int]:
    return tokenizer.encode(TEXT, add_special_tokens=False)


def test_context_suffix_and_target_fill_the_length_exactly(
    tokenizer: TinyTokenizer, ids: list[int]
) -> None:
    for length in (1024, 2048, 4097):
        probes = probe_context(ids, tokenizer, length)
        tails = [len(probe.suffix) + len(probe.target) for probe in probes.probes]
        assert len(probes.context) + max(tails) == length
        assert len(probes.control) == len(probes.context)
        assert list(probes.control) == ids[: len(probes.control)]


def test_one_context_holds_every_answer_and_the_control_none(
    tokenizer: TinyTokenizer, ids: list[int]
) -> None:
    probes = probe_context(ids, tokenizer, 4096, depths=(0.1, 0.5, 0.9))
    assert [p.name for p in probes.probes] == ["copy", "needle@0.1", "needle@0.5", "needle@0.9"]
    context = tokenizer.decode(list(probes.context))
    control = tokenizer.decode(list(probes.control))
    for probe in probes.probes:
        assert context.count(probe.answer) == 1
        assert probe.answer not in control
        assert tokenizer.decode(list(probe.target)).strip() == probe.answer
        planted = probe.suffix + probe.target
        places = [
            i for i in range(len(probes.context)) if probes.context[i : i + len(planted)] == planted
        ]
        assert len(places) == 1
        assert places[0] / len(probes.context) == pytest.approx(probe.depth, abs=0.05)


def test_taking_the_plants_out_gives_the_document_back(
    tokenizer: TinyTokenizer, ids: list[int]
) -> None:
    probes = probe_context(ids, tokenizer, 4096)
    rest = list(probes.context)
    ends = {"copy": tokenizer.encode("\n", add_special_tokens=False)}
    for probe in probes.probes:
        end = ends.get(probe.name, tokenizer.encode(".\n", add_special_tokens=False))
        planted = [*probe.suffix, *probe.target, *end]
        at = next(i for i in range(len(rest)) if rest[i : i + len(planted)] == planted)
        before = tokenizer.decode(rest[:at])
        assert before.endswith((".", "\n"))
        del rest[at : at + len(planted)]
    assert rest == ids[: len(rest)]


def test_the_copy_probe_is_scored_from_its_ninth_token(
    tokenizer: TinyTokenizer, ids: list[int]
) -> None:
    (probe,) = copy_probe(ids, tokenizer, 2048).probes
    words = probe.answer.split()
    assert len(words) == len(set(words)) == COPY_WORDS
    assert set(words) <= set(COMMON_WORDS)
    assert probe.skip == COPY_SKIP == 8


def test_needles_differ_and_the_space_before_a_key_is_never_scored(
    tokenizer: TinyTokenizer, ids: list[int]
) -> None:
    probes = probe_context(ids, tokenizer, 2048, (0.0, 0.25, 0.5, 0.75, 1.0), copy=False).probes
    assert len({probe.answer for probe in probes}) == len({probe.suffix for probe in probes}) == 5
    for probe in probes:
        assert len(probe.answer) == 7
        assert tokenizer.decode([probe.target[0]]).strip()


def test_the_seed_decides(tokenizer: TinyTokenizer, ids: list[int]) -> None:
    one = probe_context(ids, tokenizer, 2048, seed=1)
    assert one == probe_context(ids, tokenizer, 2048, seed=1)
    assert one != probe_context(ids, tokenizer, 2048, seed=2)


def test_what_does_not_fit_is_refused_with_numbers(
    tokenizer: TinyTokenizer, ids: list[int]
) -> None:
    with pytest.raises(DocumentError, match=r"needs [\d,]+ tokens .* there are 500"):
        probe_context(ids[:500], tokenizer, 4096)
    with pytest.raises(LengthwiseError, match="too short for the probes: they need at least"):
        probe_context(ids, tokenizer, 100)
    for depths in ((), (1.5,), (0.5, 0.5), tuple(i / 20 for i in range(20))):
        with pytest.raises(LengthwiseError, match="depth"):
            probe_context(ids, tokenizer, 2048, depths, copy=False)


def test_continuation_splits_the_first_tokens() -> None:
    context, rest = continuation(list(range(100)), 50, tokens=8)
    assert context + rest == tuple(range(50))
    assert len(rest) == 8
    with pytest.raises(DocumentError, match="needs 200 tokens"):
        continuation(list(range(100)), 200)
    with pytest.raises(LengthwiseError, match="does not fit"):
        continuation(list(range(100)), 50, tokens=50)


@given(n=st.integers(1, 5000), bins=st.integers(1, 64))
def test_bins_cover_every_position_once_and_evenly(n: int, bins: int) -> None:
    cut = position_bins(n, bins)
    assert [i for a, b in cut for i in range(a, b)] == list(range(n))
    sizes = [b - a for a, b in cut]
    assert max(sizes) - min(sizes) <= 1
    assert len(cut) == min(n, bins)


def test_means_stand_in_the_middle_of_their_bin() -> None:
    assert mean_by_bin([1.0, 3.0, 5.0, 7.0], position_bins(4, 2)) == [(1, 2.0), (3, 6.0)]
    with pytest.raises(LengthwiseError):
        mean_by_bin([1.0], position_bins(4, 2))
    with pytest.raises(LengthwiseError):
        position_bins(0)
