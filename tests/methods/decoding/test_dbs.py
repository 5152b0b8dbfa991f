"""Diverse beam search, against a plain one that reads every text anew."""

from functools import lru_cache

import pytest
import torch

import lengthwise
from lengthwise.api.model import Model
from lengthwise.errors import Refused
from lengthwise.testing.tiny import tiny_model, tokens

NEW = 6


@lru_cache(maxsize=1)
def model() -> Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


def texts(recipe: str, ids: list[int], new: int = NEW) -> list[list[int]]:
    found = model().generate(ids, recipe, max_new_tokens=new, stop_ids=[])
    return [draft.token_ids for draft in found.drafts]


def plainly(ids: list[int], width: int, groups: int, penalty: float) -> list[tuple[int, ...]]:
    """Texts of the same length, by log-probability; nothing ends before the limit."""
    each = width // groups
    alive: list[list[tuple[float, float, list[int]]]] = [[(0.0, 0.0, [])] for _ in range(groups)]
    with torch.no_grad():
        for _ in range(NEW):
            chosen: list[int] = []
            for number, group in enumerate(alive):
                found = []
                for score, logprob, text in group:
                    logits = model().adapted.model(torch.tensor([ids + text])).logits[0, -1]
                    law = torch.log_softmax(logits.float(), -1)
                    for token, value in enumerate(law.tolist()):
                        lost = penalty * chosen.count(token)
                        found.append((score + value - lost, logprob + value, [*text, token]))
                alive[number] = sorted(found, key=lambda one: -one[0])[:each]
                chosen += [text[-1] for _, _, text in alive[number]]
    ended = [(logprob / NEW, text) for group in alive for _, logprob, text in group]
    return [tuple(text) for _, text in sorted(ended, key=lambda one: -one[0])]


@pytest.mark.parametrize(("width", "groups", "penalty"), [(4, 2, 0.5), (3, 3, 2.0)])
def test_texts_are_those_of_the_definition(width: int, groups: int, penalty: float) -> None:
    for seed in range(3):
        ids = tokens(12, seed)
        found = texts(f"dbs(width={width}, groups={groups}, diversity_penalty={penalty})", ids)
        wanted = list(dict.fromkeys(plainly(ids, width, groups, penalty)))
        assert [tuple(text) for text in found] == wanted


def test_one_group_without_penalty_is_beam_search() -> None:
    ids = tokens(20)
    alone = texts("dbs(width=4, groups=1, diversity_penalty=0)", ids)
    assert alone == texts("beam(width=4)", ids)


def test_a_large_penalty_makes_all_first_tokens_different() -> None:
    found = texts("dbs(width=6, diversity_penalty=1000)", tokens(20))
    assert len({text[0] for text in found}) == 6
    alike = texts("dbs(width=6, diversity_penalty=0)", tokens(20))
    assert len({text[0] for text in alike}) == 1


def test_groups_of_unequal_size_are_refused() -> None:
    with pytest.raises(Refused, match="6 texts make no 4 groups"):
        model().plan("dbs(width=6, groups=4)")


def test_drawn_texts_are_ranked_by_their_own_log_probability() -> None:
    ids = tokens(20)
    found = model().generate(
        ids, "dbs(width=4, diversity_penalty=3)", max_new_tokens=5, stop_ids=[], temperature=1.0,
        seed=2,
    )  # fmt: skip
    for draft in found.drafts:
        own = float(model().score([*ids, *draft.token_ids], prompt=len(ids)).mean())
        assert draft.score == pytest.approx(own, abs=1e-4)
