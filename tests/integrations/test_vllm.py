"""The proposer for vLLM, shown what vLLM's runner shows it; without vLLM (see test_vllm_engine)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence as Seq
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import LengthwiseError
from lengthwise.integrations.vllm import (
    FusedProposer,
    LookupProposer,
    Proposer,
    RecyclingProposer,
    Row,
    best_path,
)
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter

VOCAB, LONGEST, ROOM = 50, 64, 8


def config(most: int = 6, **additional: Any) -> Any:
    return SimpleNamespace(
        additional_config={"lengthwise": additional} if additional else {},
        speculative_config=SimpleNamespace(num_speculative_tokens=most),
        model_config=SimpleNamespace(max_model_len=LONGEST, get_vocab_size=lambda: VOCAB),
        scheduler_config=SimpleNamespace(max_num_seqs=4),
    )


def propose(
    proposer: Proposer, texts: Seq[Seq[int]], said: Seq[int] | None = None
) -> list[list[int]]:
    """As the runner asks: rows of tokens in one array with room behind them. said: how many of each
    row are new."""
    counts = np.array([len(text) for text in texts], np.int32)
    rows = np.full((ROOM, LONGEST), -1, np.int32)
    for row, text in zip(rows, texts, strict=False):
        row[: len(text)] = text
    new = said or [1] * len(texts)
    sampled = [list(text[len(text) - n :]) for text, n in zip(texts, new, strict=True)]
    return proposer.propose(sampled, counts, rows, slot_mappings=None)


class Target:
    """A model that computes logits."""

    def __init__(self) -> None:
        self.next = torch.empty(0)

    def compute_logits(self, states: Any) -> torch.Tensor:
        return self.next


def test_lookup_proposes_what_followed() -> None:
    text = [3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5]
    (found,) = propose(LookupProposer(config(4)), [text])
    assert found == [6, 7, 8, 9]
    tree = Tree(text[-1])
    LookupDrafter(Lookup()).propose(text, tree, 4)
    assert found == tree.tokens[1:5]
    assert propose(LookupProposer(config()), [[1, 2, 3]]) == [[]]


def test_a_row_is_known_by_its_tokens_wherever_it_stands() -> None:
    proposer = LookupProposer(config())
    texts = [[n, 2, 3, 4, n, 2, 3] for n in (10, 11, 12)]
    propose(proposer, texts)
    states = {row.ids[0]: row for row in proposer._rows}
    moved = [[*texts[2], 4], [*texts[0], 4, 10]]
    assert propose(proposer, moved, [1, 2])[0][:2] == [12, 2]
    assert proposer._rows[0] is states[12] and proposer._rows[1] is states[10]
    # One that was left out of a step comes back; one that another text follows is a new one.
    again = [[*moved[0], 12], [*texts[1], 4]]
    propose(proposer, again)
    assert proposer._rows[1] is states[11] and states[11].ids == again[1]
    other = [[*again[0][:-1], 13, 7]]
    propose(proposer, other)
    assert all(proposer._rows[0] is not row for row in states.values())


def test_rows_that_end_alike_are_told_apart() -> None:
    proposer = LookupProposer(config())
    texts = [[first, *[2] * 30] for first in (10, 11)]
    propose(proposer, texts)
    states = {row.ids[0]: row for row in proposer._rows}
    propose(proposer, [[*texts[1], 3], [*texts[0], 3]])
    assert proposer._rows[0] is states[11] and proposer._rows[1] is states[10]
    assert [row.ids for row in proposer._rows] == [[*texts[1], 3], [*texts[0], 3]]


def test_a_row_is_compared_without_a_new_array_of_its_text() -> None:
    """A list of 30,000 numbers takes longer to turn into an array than a step of drafting."""

    class Text(list[int]):
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("the list was turned into an array")

    text = np.arange(100, dtype=np.int32)
    row = Row(text[:40].copy(), [], Acceptance())
    row.ids = Text(row.ids)
    for count in range(40, 100):
        assert row.holds(text[:count]) and not row.holds(text[1 : count + 1])
        assert not row.holds(text[: count - 1]) and not row.holds(np.append(text[:count], 7))
        row.extend(text[count : count + 1])
    assert row.ids == text.tolist()


def test_rows_that_are_gone_are_forgotten() -> None:
    proposer = LookupProposer(config())
    for start in range(20):
        propose(proposer, [[start, 1, 2, 3, start, 1, 2]])
    assert len(proposer._rows) == 4


def test_a_prompt_that_goes_on_gets_no_guess() -> None:
    text = [3, 4, 5, 6, 7, 3, 4, 5]
    found = propose(LookupProposer(config()), [text[:6], text], [0, 1])
    assert found[0] == [] and found[1][:2] == [6, 7]


def test_no_guess_reaches_beyond_the_longest_text() -> None:
    text = ([3, 4, 5, 6] * 20)[: LONGEST - 3]
    assert len(propose(LookupProposer(config()), [text])[0]) == 2
    assert propose(LookupProposer(config()), [[*text, 4, 5, 6]]) == [[]]


def likely(*best: int) -> torch.Tensor:
    """Logits `[rows, vocab]` whose likeliest token is given, and the next one after it."""
    logits = torch.zeros(len(best), VOCAB)
    for row, token in enumerate(best):
        logits[row, token], logits[row, (token + 1) % VOCAB] = 9.0, 5.0
    return logits


def test_recycling_reads_the_logits_of_what_was_verified() -> None:
    proposer, target = RecyclingProposer(config(4)), Target()
    proposer.load_model(target)
    target.next = likely(20, 30)
    assert target.compute_logits(None) is target.next
    target.next.zero_()  # as a sampler may
    first = propose(proposer, [[1, 2, 20], [3, 4, 30]])
    assert first == [[], []]  # of 20 and 30 nothing is known
    target.next = likely(2, 4)
    target.compute_logits(None)
    # Behind 20 stands 2, behind that 20: a path of what was verified behind each.
    assert propose(proposer, [[1, 2, 20, 2], [3, 4, 30, 4]])[0] == [20, 2, 20, 2]
    # Four guesses and the last token were scored in the first row, in the second what it guessed.
    counts = [len(row.draft) + 1 for row in proposer._rows]
    target.next = likely(*range(40, 40 + counts[0]), *[7] * counts[1])
    target.compute_logits(None)
    texts = [[1, 2, 20, 2, 40], [3, 4, 30, 4, 7]]
    propose(proposer, texts)
    (matrix,) = {id(d.matrix): d.matrix for row in proposer._rows for d in row.drafters}.values()  # type: ignore[attr-defined]
    assert matrix.ids[2, 0] in (40, 42, 44) and matrix.ids[4, 0] == 7


def test_logits_that_belong_to_other_rows_teach_nothing() -> None:
    proposer, target = RecyclingProposer(config(4)), Target()
    proposer.load_model(target)
    target.next = likely(*[9] * 3)
    target.compute_logits(None)
    propose(proposer, [[1, 2, 20]])
    assert not proposer._noted
    target.next = torch.zeros(1000, VOCAB)  # of a whole prompt, for its log-probabilities
    target.compute_logits(None)
    assert not proposer._noted
    assert not any(d.matrix.seen(2) for row in proposer._rows for d in row.drafters)  # type: ignore[attr-defined]


def test_lookup_leaves_the_model_as_it_is() -> None:
    target = Target()
    LookupProposer(config()).load_model(target)
    assert "compute_logits" not in vars(target)


def test_the_fused_one_learns_whom_to_believe() -> None:
    """The text goes on as recycling says, and not as it did before."""
    proposer, target = FusedProposer(config(1)), Target()
    proposer.load_model(target)
    text = [5, 6, 7, 5, 6]
    believed = []
    for _ in range(24):
        proposer._rows.clear()
        believed.append(propose(proposer, [text])[0])
        target.next = likely(*[8] * (1 + len(believed[-1])))
        target.compute_logits(None)
        propose(proposer, [[*text, 8]])
    assert believed[0] == [7] and believed[-1] == [8]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.integers(1, 5), st.data())
def test_whatever_is_accepted_the_text_is_what_vllm_said(
    text: list[int], most: int, data: st.DataObject
) -> None:
    """Guesses stay within what was asked, and what a row holds is the text."""
    proposer = FusedProposer(config(most))
    draft: list[int] = []
    for _ in range(4):
        right = data.draw(st.integers(0, len(draft)))
        new = [*draft[:right], data.draw(st.integers(0, 5))]
        text = [*text, *new]
        (draft,) = propose(proposer, [text], [len(new)])
        assert len(draft) <= most and all(0 <= token < VOCAB for token in draft)
        assert [row.ids for row in proposer._rows][:1] == [text]


def test_the_best_path_has_the_most_tokens_that_come_true() -> None:
    tree = Tree(0)
    long = tree.add(0, 1)
    tree.add(tree.add(long, 2), 3)
    tree.add(0, 4)
    probs = [1.0, 0.5, 0.4, 0.3, 0.6]
    assert best_path(tree, probs, 0.1, 9) == [1, 2, 3]
    assert best_path(tree, probs, 0.35, 9) == [1, 2]
    assert best_path(tree, probs, 0.55, 9) == [4] and best_path(tree, probs, 0.7, 9) == []
    assert best_path(tree, probs, 0.1, 2) == [1, 2]


@pytest.mark.parametrize(("given_options", "said"), [
    ({"recipe": "snapkv"}, "give lookup, recycling"), ({"recipe": "full"}, "guesses nothing"),
    ({"recipe": "lookup + model"}, "give lookup, recycling"), ({"recipes": "lookup"}, "dict with"),
    ({"recipe": "recycling(table=/tmp/t)"}, "in memory"), ({"recipe": "lokup"}, "lookup"),
    ({"least": 2}, "probability"), ({"least": True}, "probability"),
    ({"least": "x"}, "probability"),
])  # fmt: skip
def test_what_cannot_run_is_refused_in_one_line(given_options: dict[str, Any], said: str) -> None:
    with pytest.raises(LengthwiseError, match=said):
        LookupProposer(config(**given_options))


def test_options_are_those_of_the_recipe() -> None:
    text = [1, 2, 3, 9, 3]
    assert propose(LookupProposer(config(recipe="lookup(min_match=1)", least=0.0)), [text])[0]
    assert propose(LookupProposer(config(least=1.0)), [[1, 2, 3, 1, 2]]) == [[]]


def test_importing_it_imports_no_vllm() -> None:
    code = "import sys, lengthwise.integrations.vllm; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    code = "import sys, lengthwise.integrations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
