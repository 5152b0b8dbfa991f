"""The loop keeps its promise: guesses change how soon tokens come, never which."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence as Seq
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed, Goodput
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

PLACEMENTS = {
    "full": Placement(),
    "window, anchored": Placement(window=12, anchored=True),
    "window": Placement(window=12),
    "window, far dropped": Placement(window=12, keeps_far=False),
    "self-extend": Placement(window=12, far_key=lambda i: i // 4, far_query=lambda i: i // 4 + 9),
    "sinks": Placement(
        window=12,
        keep_far=lambda i: i < 4,
        far_key=lambda i: i * 0,
        far_query=lambda i: i.clamp(max=12),
    ),
}


VOCAB = 16


@lru_cache
def model(family: str = "llama") -> AdaptedModel:
    """Weights so large that attention is sharp, tokens so few that text often repeats itself."""
    return adapt(tiny_model(family, initializer_range=0.15, vocab_size=VOCAB))


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, VOCAB) for _ in range(count)]


Starter = Callable[[], Drafter]


def generate(
    prompt: Seq[int], *drafters: Starter, policy: loop.LengthPolicy | None = None, **options: Any
) -> Request:
    """A finished request; options as `begin` takes them."""
    request = begin(prompt, *drafters, **options)
    for _ in loop.run(request, policy or Fixed()):
        pass
    loop.finish(request)
    return request


def begin(
    prompt: Seq[int],
    *drafters: Starter,
    placement: Placement | None = None,
    family: str = "llama",
    new: int = 60,
    sampling: Sampling | None = None,
    stop_ids: Seq[int] = (),
) -> Request:
    plan = Plan(placement=placement or Placement(), drafters=drafters)
    sequence = Sequence(model(family), plan)
    request = loop.begin(sequence, sampling or Sampling(), new, stop_ids)
    loop.start(request, loop.prefill(sequence, prompt))
    return request


def looking(**options: int) -> Starter:
    return lambda: LookupDrafter(Lookup(**options))


class Oracle(Drafter):
    """Knows the text to come and gets a share of its guesses wrong, in trees as wide as asked."""

    def __init__(self, text: Seq[int], wrong: float, branches: int = 1, seed: int = 0) -> None:
        self.name = "oracle"
        self.text, self.wrong, self.branches = list(text), wrong, branches
        self.random = random.Random(seed)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        known = len(tokens)
        for _ in range(self.branches):
            guess = self.text[known : known + min(limit, self.random.randint(1, 7))]
            tree.add_chain(
                [t if self.random.random() >= self.wrong else 3 + t % 12 for t in guess],
                source="oracle",
            )

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        assert len(logits) == len(tree) and list(tokens[:3]) == self.text[:3]


def oracle(prompt: Seq[int], plain: Request, wrong: float, branches: int = 1) -> Starter:
    return lambda: Oracle([*prompt, *plain.output], wrong, branches)


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
@pytest.mark.parametrize("seed", range(6))
def test_greedy_with_lookup_is_token_equal_to_greedy_without(
    placement: Placement, seed: int
) -> None:
    prompt = tokens(40, seed)
    plain = generate(prompt, placement=placement)
    drafted = generate(prompt, looking(min_match=1), placement=placement)
    assert drafted.output == plain.output
    assert drafted.metrics.decoded == plain.metrics.decoded == 59


def test_lookup_saves_forwards_on_text_that_repeats() -> None:
    found = [generate(tokens(40, seed), looking()).metrics for seed in range(4)]
    assert all(metrics.drafted >= sum(metrics.accepted.values()) for metrics in found)
    assert all(set(metrics.accepted) <= {"lookup"} for metrics in found)
    assert all(
        metrics.decoded == metrics.steps + sum(metrics.accepted.values()) for metrics in found
    )
    assert sum(metrics.decoded for metrics in found) > 1.5 * sum(metrics.steps for metrics in found)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_oss", "qwen3"])
@pytest.mark.parametrize("branches", [1, 3])
def test_several_drafters_in_one_trie_change_nothing(family: str, branches: int) -> None:
    prompt = tokens(40, 7)
    plain = generate(prompt, family=family)
    drafted = generate(
        prompt, looking(min_match=1), oracle(prompt, plain, 0.2, branches), family=family
    )
    assert drafted.output == plain.output
    assert drafted.metrics.steps < plain.metrics.steps
    assert drafted.metrics.accepted["oracle"] > 0


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_trees_with_branches_change_nothing_in_any_placement(placement: Placement) -> None:
    prompt = tokens(40, 11)
    plain = generate(prompt, placement=placement)
    drafted = generate(prompt, oracle(prompt, plain, 0.25, 4), placement=placement)
    assert drafted.output == plain.output
    assert drafted.metrics.steps < plain.metrics.steps


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_drafted_sampling_equals_plain_sampling_for_the_same_seed(
    temperature: float, penalty: float
) -> None:
    sampling = Sampling(temperature, top_k=10, top_p=0.9, repetition_penalty=penalty, seed=5)
    for seed in range(3):
        prompt = tokens(40, seed)
        plain = generate(prompt, sampling=sampling)
        drafted = generate(
            prompt, looking(min_match=1), oracle(prompt, plain, 0.2, 2), sampling=sampling
        )
        assert drafted.output == plain.output
        assert drafted.metrics.steps < plain.metrics.steps


def test_sampling_depends_on_the_seed() -> None:
    prompt = tokens(40)
    one, other = (generate(prompt, sampling=Sampling(1.0, seed=s)).output for s in (1, 2))
    assert one != other


@pytest.mark.parametrize("policy", [Fixed(), Fixed(3), Goodput(clock=lambda: 0.0)])
def test_rows_of_a_batch_accept_unequally_and_get_what_they_get_alone(
    policy: loop.LengthPolicy,
) -> None:
    prompts = [tokens(count, seed) for seed, count in enumerate((12, 40, 25, 33))]
    lengths = [60, 35, 50, 1]
    plain = [generate(p, new=n) for p, n in zip(prompts, lengths, strict=True)]
    requests = [
        begin(prompt, looking(), oracle(prompt, alone, wrong, 2), new=new)
        for prompt, alone, wrong, new in zip(
            prompts, plain, (0.0, 0.5, 1.0, 0.0), lengths, strict=True
        )
    ]
    while active := [request for request in requests if not request.done]:
        loop.step(active, policy)
    assert [r.output for r in requests] == [r.output for r in plain]
    assert len({r.metrics.accepted_per_step for r in requests[:3]}) == 3


class Failing(Drafter):
    """Guesses well, then breaks in the way it is told."""

    name = "failing"

    def __init__(self, how: str) -> None:
        self.how, self.calls = how, 0

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.calls += 1
        tree.add(0, tokens[-2], self.name)
        if self.calls > 3:
            match self.how:
                case "raises":
                    raise RuntimeError("table is gone\nand more of it")
                case "guesses no token":
                    tree.add(0, 10**6, self.name)
                case "is surer than sure":
                    tree.add(0, 5, self.name, prior=1.5)
                case "is less than unsure":
                    tree.add(tree.add(0, 5, self.name, prior=-1.0), 6, self.name)
                case "knows no chance":
                    tree.add(0, 5, self.name, prior=float("nan"))
                case "guesses too deep":
                    tree.add_chain([5] * (limit + 1), source=self.name)

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        if self.how == "cannot learn" and self.calls > 3:
            raise KeyError


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", "table is gone"),
        ("guesses no token", "vocabulary of 16"),
        ("guesses too deep", "tokens ahead"),
        ("is surer than sure", "the probability 1.5"),
        ("is less than unsure", "the probability -1.0"),
        ("knows no chance", "the probability nan"),
        ("cannot learn", "KeyError"),
    ],
)
def test_a_drafter_that_fails_is_left_out_and_the_reason_noted_once(how: str, reason: str) -> None:
    prompt = tokens(40)
    plain = generate(prompt)
    failing = Failing(how)
    drafted = generate(prompt, lambda: failing, looking())
    assert drafted.output == plain.output
    assert failing.calls == 4
    (note,) = drafted.metrics.notes
    assert note.startswith("drafter failing failed") and reason in note and "\n" not in note
    assert drafted.metrics.accepted["lookup"] > 0


@pytest.mark.parametrize("new", [1, 2, 3, 17])
def test_max_new_tokens_holds_inside_an_accepted_run(new: int) -> None:
    prompt = tokens(40)
    plain = generate(prompt)
    drafted = generate(prompt, oracle(prompt, plain, 0.0), new=new)
    assert drafted.output == plain.output[:new]
    assert drafted.metrics.finish_reason == "length"
    assert drafted.sequence.tokens == [*prompt, *plain.output[: new - 1]]


def test_a_stop_id_inside_an_accepted_run_leaves_the_state_that_plain_decoding_leaves() -> None:
    prompt = tokens(40, 3)
    text = generate(prompt).output
    for stop in dict.fromkeys(text):
        plain = generate(prompt, stop_ids=[stop])
        drafted = generate(prompt, oracle(prompt, generate(prompt), 0.1, 2), stop_ids=[stop])
        assert drafted.output == plain.output == text[: text.index(stop)]
        assert drafted.metrics.finish_reason == "stop"
        assert drafted.sequence.tokens == plain.sequence.tokens
        assert drafted.pending == plain.pending == stop
        assert drafted.metrics.decoded == plain.metrics.decoded


def random_tree(root: int, nodes: int, seed: int, depth: int) -> Tree:
    generator = random.Random(seed)
    tree = Tree(root)
    while len(tree) < nodes:
        parent = generator.randrange(len(tree))
        if tree.depths[parent] < depth:
            tree.add(parent, generator.randrange(3, VOCAB))
    return tree


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_tree_logits_equal_those_of_each_path_alone(family: str, placement: Placement) -> None:
    prompt = tokens(50, 2)
    sequence = Sequence(model(family), Plan(placement=placement))
    loop.prefill(sequence, prompt[:-1])
    tree = random_tree(prompt[-1], 20, seed=3, depth=7)
    (together,), _ = loop.extend([(sequence.fork(), tree.tokens, tree)], "all")
    for node in range(len(tree)):
        path = tree.path(node)
        (alone,), _ = loop.extend([(sequence.fork(), [tree.tokens[n] for n in path], None)], "all")
        torch.testing.assert_close(together[path], alone, atol=1e-4, rtol=1e-4)


def held(sequence: Sequence) -> Iterator[Tensor]:
    for layer in sequence.layers:
        for group in layer.groups:
            for segment in (group.near, group.far):
                for block in segment.blocks():
                    yield from block.tensors()


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_after_every_commit_the_cache_is_that_of_a_fresh_reading(
    family: str, placement: Placement
) -> None:
    prompt = tokens(30, 5)
    plain = generate(prompt, family=family, placement=placement, new=24)
    request = begin(
        prompt, oracle(prompt, plain, 0.3, 3), family=family, placement=placement, new=24
    )
    while not request.done:
        loop.step([request], Fixed())
        fresh = Sequence(model(family), Plan(placement=placement))
        loop.prefill(fresh, request.sequence.tokens)
        pairs = list(zip(held(request.sequence), held(fresh), strict=True))
        assert pairs
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_guesses_stay_within_the_room_before_a_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    depths: list[int] = []

    class Greedy(Oracle):
        def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
            depths.append(limit)
            super().propose(tokens, tree, limit)

    monkeypatch.setattr(Sequence, "tokens_until_change", lambda self: 4)
    prompt = tokens(40)
    plain = generate(prompt)
    drafted = generate(prompt, lambda: Greedy([*prompt, *plain.output], 0.0))
    assert drafted.output == plain.output
    assert max(depths) == 3


class Interrupted(Drafter):
    """Asks a model, and is interrupted by the user while it does."""

    name = "interrupted"
    runs_model = True

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.draft_depth.should_continue(0, 0.5)
        raise KeyboardInterrupt


def test_an_interrupted_request_harms_no_request_after_it() -> None:
    policy = Goodput(clock=lambda: 0.0)
    with pytest.raises(KeyboardInterrupt):
        generate(tokens(40), Interrupted, policy=policy)
    plan = Plan(text="another recipe", drafters=(looking(),))
    sequence = Sequence(model(), plan)
    request = loop.begin(sequence, Sampling(), 60, ())
    loop.start(request, loop.prefill(sequence, tokens(40)))
    for _ in loop.run(request, policy):
        pass
    assert request.output == generate(tokens(40)).output and not request.metrics.notes


class Asked(Drafter):
    """Notes when it was asked."""

    def __init__(self, name: str, runs_model: bool, drawing: bool, order: list[str]) -> None:
        self.name, self.runs_model, self.drawing = name, runs_model, drawing
        self.order = order

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.order.append(self.name)


def test_who_draws_is_asked_before_coupled_guesses_show_the_noise_of_the_target() -> None:
    """Drawing or not by what coupled guesses look like would choose among the target's noises."""
    order: list[str] = []
    kinds = {"coupled": (True, False), "drawn": (True, True), "free": (False, False)}
    made = [partial(Asked, name, *kind, order) for name, kind in kinds.items()]
    generate(tokens(40), *made, new=3)
    assert order == ["free", "drawn", "coupled"]


def test_a_step_may_leave_no_less_than_nothing_to_the_rest() -> None:
    metrics = RequestMetrics(decoded=5, steps=5, decode_s=0.3, draft_s=0.1, verify_s=0.2)
    assert 1 - 0.1 / 0.3 - 0.2 / 0.3 < 0
    assert metrics.drafting().endswith("the rest 0.0%")
