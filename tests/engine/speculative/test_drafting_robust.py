"""What drafters do wrong, or keep, or share between threads harms no request."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence as Seq
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lengthwise
from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_length import Fixed, Goodput, LengthPolicy, policy_for
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method
from lengthwise.methods.drafting import osd
from lengthwise.methods.drafting._shared.tables import table_of
from lengthwise.methods.drafting.aded import ADED
from lengthwise.methods.drafting.osd import OSD
from lengthwise.methods.drafting.recycling import Matrix, Recycling
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model, tokens

LOAD = Load("robust", 1, 5)


def sharp() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15, vocab_size=64, num_hidden_layers=2))


def answer(
    target: AdaptedModel, plan: Plan, prompt: Seq[int], new: int,
    policy: LengthPolicy | None = None, **sampling: Any,
) -> Request:  # fmt: skip
    sequence = Sequence(target, plan, expected=len(prompt) + new)
    request = loop.begin(sequence, Sampling(**sampling), new, ())
    loop.start(request, loop.prefill(sequence, prompt))
    for _ in loop.run(request, policy):
        pass
    loop.finish(request)
    return request


PROMPT = [5, 9, 12, 7, 5, 9, 12, 7, 30, 5, 9, 12]


class Careless(Drafter):
    """Adds one guess as a careless author would."""

    name = "careless"

    def __init__(self, guess: Callable[[Tree], object]) -> None:
        self.guess = guess

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.guess(tree)


@pytest.mark.parametrize(
    "guess, reason",
    [
        (lambda tree: tree.add(0, 5.5), "guessed token 5.5, and a token is a whole number"),
        (lambda tree: tree.add(0, 5.0), "guessed token 5.0"),
        (lambda tree: tree.add(0, np.float32(5)), "a token is a whole number"),
        (lambda tree: tree.add(0, "5"), "guessed token '5'"),
        (lambda tree: tree.add(0, None), "guessed token None"),
        (lambda tree: tree.add(-1, 5), "below node -1 of a tree of 1 nodes"),
        (lambda tree: tree.add(7, 5), "below node 7"),
        (lambda tree: tree.draw(0, [5], torch.full((9,), 1 / 9), "careless", [0]), "shape [9]"),
        (lambda tree: tree.draw(0, [5], torch.ones(1, 64) / 64, "careless", [0]), "left out"),
    ],
)  # fmt: skip
def test_a_guess_that_cannot_be_fed_costs_the_drafter_and_not_the_request(
    guess: Callable[[Tree], object], reason: str
) -> None:
    target = sharp()
    plain = answer(target, Plan(), PROMPT, 8, temperature=1.0, seed=3)
    plan = Plan(drafters=(lambda: Careless(guess),))
    request = answer(target, plan, PROMPT, 8, Fixed(), temperature=1.0, seed=3)
    assert request.output == plain.output
    (note,) = request.metrics.notes
    assert reason in note and note.startswith("drafter careless failed and was left out")


@pytest.mark.parametrize(
    "kind",
    [np.int64, np.int32, np.uint16, torch.tensor],
    ids=["int64", "int32", "uint16", "tensor"],
)
def test_whole_numbers_of_other_libraries_become_ids_like_any_other(kind: Any) -> None:
    target = sharp()
    plain = answer(target, Plan(), PROMPT, 12)
    script = [kind(token) for token in plain.output]

    class Oracle(Drafter):
        name = "oracle"

        def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
            at = len(tokens) - len(PROMPT)
            tree.add_chain(script[at : at + min(limit, 4)], source=self.name)

    request = answer(target, Plan(drafters=(Oracle,)), PROMPT, 12, Fixed())
    assert request.output == plain.output and request.metrics.accepted["oracle"] > 6
    assert all(type(token) is int for token in request.output)


# Files.

KEEPING = [
    lambda path: Recycling(table=path), lambda path: ADED(table=path),
    lambda path: OSD(layers="1", save=path),
]  # fmt: skip


@pytest.mark.parametrize("keeping", KEEPING, ids=["recycling", "aded", "osd"])
def test_a_file_that_cannot_be_written_is_found_before_the_run(
    keeping: Callable[[str], Method], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    for place in ("file/a.table", "file/deeper/a.table"):
        with pytest.raises(RecipeError, match="a.table cannot be written"):
            keeping(str(tmp_path / place)).check(sharp())
    with pytest.raises((RecipeError, ValueError), match="folder"):
        keeping(str(tmp_path / "folder")).check(sharp())
    # A verb makes no folder that it was not told to.
    with pytest.raises(RecipeError, match="there is no folder"):
        keeping(str(tmp_path / "new" / "a.table")).check(sharp())
    keeping(str(tmp_path / "folder" / "a.table")).check(sharp())
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_file_that_is_lost_in_the_run_is_named_and_the_drafter_keeps_its_name(
    tmp_path: Path,
) -> None:
    target = sharp()
    place = tmp_path / "kept"
    place.mkdir()
    plan = recipes.resolve(f"recycling(table={place}/a.table) + lookup", target)
    place.rmdir()
    place.write_text("in the way")
    request = answer(target, plan, PROMPT, 40, Fixed())
    (note,) = request.metrics.notes
    assert note.startswith("recycling could not keep something") and f"{place}/a.table" in note
    assert [drafter.name for drafter in request.drafters] == ["recycling", "lookup"]
    assert sum(request.metrics.accepted.values()) > 0


def test_an_update_is_told_where_the_taught_weights_cannot_be_kept(tmp_path: Path) -> None:
    target = sharp()
    place = tmp_path / "kept"
    place.mkdir()
    plan = recipes.resolve(f"osd(layers=1, every=1, save={place}/a.student)", target)
    place.rmdir()
    place.write_text("in the way")
    notes = " / ".join(answer(target, plan, PROMPT, 30, Fixed(), temperature=1.0).metrics.notes)
    assert "osd: update 1" in notes and f"{place}/a.student" in notes
    assert "left out" not in notes


# Threads.

RECIPE = "recycling + aded + lookup"
REQUESTS = 200


def prompts(seed: int) -> list[list[int]]:
    dice = np.random.default_rng(seed)
    return [(dice.integers(3, 60, 5).tolist() * 2)[:8] for _ in range(REQUESTS)]


def test_two_threads_of_one_model_say_what_each_says_alone_and_share_what_they_learn() -> None:
    target = sharp()
    plan = recipes.resolve(RECIPE, target)
    alone = {
        seed: [answer(target, Plan(), prompt, 6).output for prompt in prompts(seed)[:40]]
        for seed in (0, 1)
    }
    found: dict[int, list[Request]] = {}
    errors: list[BaseException] = []

    def serve(seed: int) -> None:
        try:
            found[seed] = [answer(target, plan, prompt, 6) for prompt in prompts(seed)]
        except BaseException as error:
            errors.append(error)

    together([lambda seed=seed: serve(seed) for seed in (0, 1)])
    assert not errors
    for seed, requests in found.items():
        assert [request.output for request in requests[:40]] == alone[seed]
        assert not any(request.metrics.notes for request in requests)


def test_two_threads_that_ask_models_and_teach_one_say_what_each_says_alone() -> None:
    target = sharp()
    plan = recipes.resolve("layers(keep=1) + osd(layers=1, every=2) + recycling", target)
    some = {seed: prompts(seed)[:12] for seed in (0, 1)}
    alone = {
        seed: [answer(target, Plan(), prompt, 10, temperature=0.9).output for prompt in given]
        for seed, given in some.items()
    }
    found: dict[int, list[Request]] = {}

    def serve(seed: int) -> None:
        found[seed] = [answer(target, plan, prompt, 10, temperature=0.9) for prompt in some[seed]]

    together([lambda seed=seed: serve(seed) for seed in (0, 1)])
    for seed, requests in found.items():
        assert [request.output for request in requests] == alone[seed]
        assert not any("left out" in note for request in requests for note in request.metrics.notes)
    assert osd.trainer_of(OSD(layers="1", every=2), target).requests == 24


def together(work: Seq[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Slow(Drafter):
    """Is asked, and lets another thread go through a round before its own goes on."""

    name = "slow"
    runs_model = True

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.meanwhile = meanwhile

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        node = tree.add(0, 5, self.name)
        self.draft_depth.should_continue(0, 0.5)
        tree.add(node, 6, self.name)
        self.draft_depth.should_continue(0, 0.5)
        self.meanwhile()


def test_a_round_of_another_thread_does_not_take_what_this_one_has_asked() -> None:
    policy, acceptance = Goodput(0.03, clock=lambda: 0.0), Acceptance()

    def other() -> None:
        policy.draft_depth(LOAD, Slow(lambda: None), Tree(0), acceptance, 4)
        policy.choose(LOAD, [Tree(0)], [acceptance])

    drafter = Slow(lambda: together([other]))
    tree = Tree(0)
    draft_depth = policy.draft_depth(LOAD, drafter, tree, acceptance, 4)
    assert draft_depth is not None
    drafter.draft_depth = draft_depth
    drafter.propose([], tree, 4)
    assert [each for _, each, _ in policy._asked] == [drafter]
    # A drafter that is tried is verified whole.
    (kept,) = policy.choose(LOAD, [tree], [acceptance])
    assert len(kept) == 3 and not policy._asked


def test_threads_that_begin_at_once_get_one_table_one_policy_and_one_trainer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = sharp()
    barrier = threading.Barrier(4)
    made: list[tuple[Any, ...]] = []
    empty = Matrix.empty.__func__  # type: ignore[attr-defined]

    def slowly(cls: type[Matrix], vocab_size: int) -> Matrix:
        # Whoever does not wait for a lock comes here before the first one is stored.
        threading.Event().wait(0.05)
        found: Matrix = empty(cls, vocab_size)
        return found

    monkeypatch.setattr(Matrix, "empty", classmethod(slowly))
    trainer = osd.OnlineTrainer

    def trainer_slowly(*given: Any) -> osd.OnlineTrainer:
        threading.Event().wait(0.05)
        return trainer(*given)

    monkeypatch.setattr(osd, "OnlineTrainer", trainer_slowly)

    def begin() -> None:
        barrier.wait()
        made.append((table_of(target, Matrix), osd.trainer_of(OSD(layers="1"), target),
                     policy_for(target, 1.25)))  # fmt: skip

    together([begin] * 4)
    assert len(made) == 4
    for each in zip(*made, strict=True):
        assert len(set(map(id, each))) == 1


@pytest.mark.parametrize(
    ("recipe", "cramped"),
    [
        ("h2o(budget=40) + lookup", True),
        ("h2o(budget=40) + lookup + recycling", True),
        ("h2o(budget=1000) + lookup", False),
        ("snapkv(budget=40) + lookup", False),
    ],
)
def test_drafters_that_have_no_room_say_so(recipe: str, cramped: bool) -> None:
    model = lengthwise.wrap(tiny_model("llama", max_position_embeddings=4096))
    notes = model.generate(tokens(160), recipe=recipe, max_new_tokens=12, stop_ids=[]).metrics.notes
    assert any("no room for guesses" in note for note in notes) == cramped
