"""A plug-in that decides about guesses costs its own place when it fails, never the text."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pytest

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.guard import Maker
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import DraftDepth, Fixed, LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.speculative.verification import Lossless
from lengthwise.engine.token_view import TokenView
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model
from tests.testing.toys import drafting

PROMPT = [5, 9, 12, 7, 5, 9, 12, 7, 30, 5, 9, 12]
NEW = 10
SAMPLINGS = (Sampling(), Sampling(temperature=1.0, seed=3))


@lru_cache
def model() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15, vocab_size=64))


def answer(plan: Plan, sampling: Sampling, policy: LengthPolicy | None = None) -> Request:
    sequence = Sequence(model(), plan, expected=len(PROMPT) + NEW)
    request = loop.begin(sequence, sampling, NEW, ())
    loop.start(request, loop.prefill(sequence, PROMPT))
    for _ in loop.run(request, policy):
        pass
    loop.finish(request)
    return request


def left_out(plan: Plan, policy: LengthPolicy | None = None) -> str:
    """The one note of a plan whose text is that of a plan without anything, however it samples."""
    notes = set()
    for sampling in SAMPLINGS:
        request = answer(plan, sampling, policy)
        assert request.output == answer(Plan(), sampling).output
        (note,) = request.metrics.notes
        notes.add(note)
    (note,) = notes
    return note


class Nameless(Drafter):
    """Guesses the last token but one."""

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tree.add(0, tokens[-2])


def fail(*given: object) -> Any:
    raise KeyError("it is broken")


class Appends(Nameless):
    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tokens.append(7)  # type: ignore[attr-defined]


class AppendsLater(Nameless):
    def learn(self, tokens: Seq[int], *given: Any) -> None:
        tokens[-1] = 7  # type: ignore[index]


class AppendsFirst(Nameless):
    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        sequence.tokens.append(7)  # type: ignore[attr-defined]


def raising(hook: str) -> type[Drafter]:
    return type("Raising", (Nameless,), {hook: fail})


def with_property(name: str) -> type[Drafter]:
    return type("Raising", (Nameless,), {name: property(fail)})


FAULTY: list[tuple[Callable[[], Any], str]] = [
    (fail, "it is broken"),
    (raising("begin"), "it is broken"),
    (raising("propose"), "it is broken"),
    (raising("learn"), "it is broken"),
    (with_property("drawing"), "it is broken"),
    (with_property("wants_states"), "it is broken"),
    (with_property("notes"), "it is broken"),
    (with_property("draft_depth"), "draft_depth"),
    (with_property("name"), "it is broken"),
    (object, "which is no Drafter"),
    (Appends, "append"),
    (AppendsLater, "does not support item assignment"),
    (AppendsFirst, "append"),
]


@pytest.mark.parametrize(("make", "reason"), FAULTY, ids=range(len(FAULTY)))
def test_a_faulty_drafter_is_left_out_with_one_note_under_its_methods_name(
    make: Callable[[], Any], reason: str
) -> None:
    note = left_out(Plan(drafters=(Maker("toy", make),)), Fixed())
    assert note.startswith("drafter toy failed and was left out: ") and reason in note


def test_a_faulty_drafter_leaves_the_others_at_work() -> None:
    plan = Plan(drafters=(Maker("bad", raising("propose")), Maker("good", Nameless)))
    request = answer(plan, Sampling(), Fixed())
    assert [drafter.name for drafter in request.drafters] == ["good"]
    assert request.metrics.drafted > 5


def test_what_a_method_says_itself_when_it_starts_is_for_the_user() -> None:
    def refuse() -> Drafter:
        raise LengthwiseError("its file is gone")

    with pytest.raises(LengthwiseError, match="its file is gone"):
        answer(Plan(drafters=(Maker("toy", refuse),)), Sampling())


def test_drafters_that_are_equal_and_cannot_be_hashed_draft_like_any_other() -> None:
    @dataclass
    class Equal(Nameless):
        depth: int = 1

    plan = Plan(drafters=(Maker("one", Equal), Maker("two", Equal)))
    request = answer(plan, Sampling(), Fixed())
    assert not request.metrics.notes and request.metrics.drafted > 5
    request.drop(request.drafters[1], KeyError("why"))
    assert [drafter.name for drafter in request.drafters] == ["one"]


def test_a_drafter_bears_the_name_of_its_method_and_so_do_its_guesses() -> None:
    wrapped = lengthwise.wrap(tiny_model("llama", initializer_range=0.15, vocab_size=64))
    told = wrapped.generate(PROMPT, recipe=[drafting(Nameless)()], max_new_tokens=24, stop_ids=[])
    assert not told.metrics.notes and set(told.metrics.accepted) <= {"toy"}
    plan = lengthwise.recipes.resolve([drafting(Nameless)()], model())
    request = answer(plan, Sampling(), Fixed())
    assert [drafter.name for drafter in request.drafters] == ["toy"]
    tree = request.tree(Fixed(), None)
    tree.author = "toy"
    tree.add(0, 5), tree.add(0, 6, "lookup"), tree.add(0, 7, "toy retrieved")
    assert tree.sources[1:] == ["toy", "toy", "toy retrieved"]


class Whole(LengthPolicy):
    """All of everything."""


@pytest.mark.parametrize("hook", ["draft_depth", "choose", "observe", "drafted", "gained", "clock"])
@pytest.mark.parametrize("given", [True, False], ids=["given", "of-the-recipe"])
def test_a_faulty_policy_is_left_out_with_one_note(hook: str, given: bool) -> None:
    policy = type("Broken", (Whole,), {hook: fail})()
    plan = Plan(drafters=(Maker("toy", Nameless),), policy=None if given else policy)
    note = left_out(plan, policy if given else None)
    assert note == "length policy Broken failed and was left out: 'it is broken'"


@pytest.mark.parametrize(
    ("hook", "answers", "reason"),
    [
        ("draft_depth", lambda *given: 4, "a int where a DraftDepth or None is due"),
        ("choose", lambda self, load, trees, beliefs: [], "gave back 0 trees of 1"),
        ("choose", lambda self, load, trees, beliefs: [Tree(1)], "not the one given"),
    ],
)
def test_a_policy_that_answers_wrongly_is_left_out(hook: str, answers: Any, reason: str) -> None:
    policy = type("Broken", (Whole,), {hook: answers})()
    assert reason in left_out(Plan(drafters=(Maker("toy", Nameless),)), policy)


def test_a_policy_that_fails_in_the_midst_of_a_batch_fails_for_all_of_it_once() -> None:
    class Late(Whole):
        asked = 0

        def draft_depth(self, *given: Any) -> DraftDepth | None:
            self.asked += 1
            return DraftDepth() if self.asked < 5 else fail()

    plan = Plan(drafters=(Maker("toy", Nameless),), policy=Late())
    requests = []
    for _ in range(2):
        sequence = Sequence(model(), plan)
        requests.append(loop.begin(sequence, Sampling(), NEW, ()))
        loop.start(requests[-1], loop.prefill(sequence, PROMPT))
    while active := [request for request in requests if not request.done]:
        loop.step(active)
    for request in requests:
        assert request.output == answer(Plan(), Sampling()).output
        assert [note.split(":")[0] for note in request.metrics.notes] == [
            "length policy Late failed and was left out"
        ]


VERIFIERS = [
    (fail, "it is broken"),
    (lambda self, *given: None, "cannot unpack"),
    (lambda self, *given: ([], 5), "does not begin with the root"),
    (lambda self, *given: ([0, 9], 5), "which is no path"),
    (lambda self, *given: ([0], 64), "token 64 of a vocabulary of 64"),
    (lambda self, *given: ([0], 5.5), "float"),
]


@pytest.mark.parametrize(("walk", "reason"), VERIFIERS, ids=range(len(VERIFIERS)))
def test_a_faulty_verifier_is_left_out_with_one_note(walk: Any, reason: str) -> None:
    made = type("Broken", (), {"walk": walk})
    plan = Plan(drafters=(Maker("toy", Nameless),), verifier=made)
    note = left_out(plan, Fixed())
    assert note.startswith("verifier Broken failed and was left out: ") and reason in note


def test_a_verifier_that_fails_leaves_the_text_behind_it_as_it_was() -> None:
    class Shifting:
        def walk(self, tree: Tree, logits: Any, sampler: Any, context: list[int]) -> Any:
            context.pop(0)
            return fail()

    seen: list[list[int]] = []

    class Reading(Nameless):
        def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
            seen.append(list(tokens))

    plan = Plan(drafters=(Maker("toy", Reading),), verifier=Shifting)
    request = answer(plan, Sampling(), Fixed())
    assert isinstance(request.verifier, Lossless)
    assert all(each[: len(PROMPT)] == PROMPT for each in seen)
    assert replace(plan, verifier=fail) and "left out" in left_out(replace(plan, verifier=fail))


def test_a_text_is_seen_as_it_grows_and_cannot_be_written() -> None:
    ids = [4, 5, 6, 5]
    view = TokenView(ids)
    ids.append(8)
    assert view == [4, 5, 6, 5, 8] and view == [4, 5, 6, 5, 8] and view == TokenView(list(ids))
    assert len(view) == 5 and view[-1] == 8 and view[1:3] == [5, 6] and 6 in view
    assert [*view] == ids and [*reversed(view)] == ids[::-1]
    assert view.index(5) == 1 and view.index(5, 2) == 3 and view.count(5) == 2
    writing = set(dir([])) - set(dir(()))
    assert "append" in writing and "__setitem__" in writing
    assert not writing & set(dir(view)) - {"__reversed__"}
    other = copy.deepcopy(view)
    ids.append(9)
    assert len(view) == 6 and len(other) == 5


def test_a_fork_and_its_original_have_texts_of_their_own() -> None:
    sequence = Sequence(model(), Plan())
    loop.prefill(sequence, PROMPT)
    fork = sequence.fork()
    loop.prefill(fork, [3, 4])
    assert sequence.tokens == PROMPT and fork.tokens == [*PROMPT, 3, 4]
