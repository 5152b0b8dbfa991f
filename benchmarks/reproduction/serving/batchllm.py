"""BatchLLM: what a job reads where prefixes are known beforehand, against a cache that learns them.

Jobs run for real, on a tiny random model whose answers have the lengths that are asked for, in a
budget of KV bytes. `equal` runs the embedded model in float32, and compares each text with the one
that its request gets alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.reproduction.harness import Found, check, load, reference

import lengthwise
from lengthwise import recipes
from lengthwise.api.generation import Generation
from lengthwise.api.model import Model
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.serving.batch_job import BatchJob
from lengthwise.serving.batch_plan import groups_of, trie
from lengthwise.serving.job import Ask
from lengthwise.testing.tiny import tiny_model

VOCABULARY = 512
# Shares of the budget that an LRU cache of prefixes may take.
CACHES = (0.5, 0.75)
NOTHING, GROUPS = "nothing shared, decode-heavy first", "groups"


@dataclass(frozen=True)
class Request:
    """Token ids of a prompt, and tokens of its answer."""

    ids: list[int]
    answer: int


def flat(rng: random.Random, count: int, prefixes: int) -> list[Request]:
    """Prompts that begin in one of `prefixes` ways of 200 to 400 tokens."""
    begun = [_tokens(rng, rng.randint(200, 400)) for _ in range(prefixes)]
    return [_request(rng, begun[rng.randrange(prefixes)]) for _ in range(count)]


def nested(rng: random.Random, count: int, prefixes: int) -> list[Request]:
    """The same with two levels: a fifth as many instructions, each with five sets of examples, and
    two sevenths of the prompts without any examples."""
    begun = []
    for _ in range(prefixes // 5):
        instruction = _tokens(rng, rng.randint(100, 200))
        begun += [instruction + _tokens(rng, rng.randint(100, 200)) for _ in range(5)]
        begun += [instruction] * 2
    return [_request(rng, begun[rng.randrange(len(begun))]) for _ in range(count)]


def _tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(VOCABULARY) for _ in range(count)]


def _request(rng: random.Random, begun: list[int]) -> Request:
    return Request(begun + _tokens(rng, rng.randint(8, 40)), rng.choice((4, 8, 16, 32)))


WORKLOADS: dict[str, Callable[[random.Random, int, int], list[Request]]] = {
    "one level": flat, "two levels": nested,
}  # fmt: skip


@check({"workload": "", "way": "", "tokens read": ",", "reused": ".3f", "steps": ",",
        "peak KV of the budget": ".2f", "ran again": ","})  # fmt: skip
def batchllm(requests: int = 400, prefixes: int = 50, budget: int = 4000) -> Iterator[Found]:
    """Tokens read, steps of decoding and KV bytes of a job of so many requests, in random order.

    budget is in tokens whose entries may be held at once.
    """
    model = lengthwise.wrap(
        tiny_model("llama", vocab_size=VOCABULARY, max_position_embeddings=1024)
    )
    for name, make in WORKLOADS.items():
        job = make(random.Random(0), requests, prefixes)
        prompts = [each.ids for each in job]
        whole = sum(map(len, prompts))
        yield _row(name, NOTHING, job, model, budget, least=1 + max(map(len, prompts)))
        for share in CACHES:
            way = f"first come, LRU cache of {share:.0%}"
            yield _row(name, way, job, model, budget, cache=share)
        yield _row(name, GROUPS, job, model, budget)
        once = _read_once(prompts)
        yield {"workload": name, "way": "every shared token once", "tokens read": once,
               "reused": 1 - once / whole}  # fmt: skip
        greedy = _first_level(prompts)
        yield {"workload": name, "way": "groups by the first common prefix",
               "tokens read": greedy, "reused": 1 - greedy / whole}  # fmt: skip


def _row(
    name: str, way: str, job: list[Request], model: Model, budget: int, cache: float = 0.0,
    least: int = 16,
) -> Found:  # fmt: skip
    full = recipes.recipe_of("full")
    asks = [[Ask(each.ids, full, each.answer, Sampling(), (), ())] for each in job]
    held = budget * model.adapted.bytes_per_token
    model.prefix_cache = prefix_cache_of(model.adapted, int(cache * held)) if cache else None
    texts: dict[int, list[Generation] | Exception] = {}
    running = BatchJob(model, held, texts.__setitem__, least=least, planned=not cache)
    cost = running.run(asks)
    model.prefix_cache = None
    assert all(isinstance(found, list) for found in texts.values()) and len(texts) == len(job)
    return {
        "workload": name, "way": way, "tokens read": cost.read_tokens,
        "reused": 1 - cost.read_tokens / cost.prompt_tokens, "steps": cost.steps,
        "peak KV of the budget": cost.kv_peak_bytes / held, "ran again": cost.again,
    }  # fmt: skip


def _read_once(prompts: list[list[int]]) -> int:
    """Tokens of the trie: what is read where any number of levels is shared."""
    nodes = trie(prompts)
    return sum(node.depth - nodes[node.above].depth for node in nodes[1:])


def _first_level(prompts: list[list[int]]) -> int:
    """Tokens read where a group is all that parts from the others at its root: no choice at all."""
    left = sum(map(len, prompts))
    nodes = trie(prompts)
    count = [len(node.ending) for node in nodes]
    for number in range(len(nodes) - 1, 0, -1):
        count[nodes[number].above] += count[number]
    return left - sum(
        (count[number] - 1) * node.depth
        for number, node in enumerate(nodes)
        if node.above == 0 and count[number] > 1
    )


@check({"recipe": "", "requests": ",", "groups": ",", "tokens read": ",", "of": ",",
        "equal texts": ".3f", "largest difference of a logit": ".1e"})  # fmt: skip
def equal(
    prefix: int = 400, groups: int = 3, each: int = 4,
    recipe: tuple[str, ...] = ("full", "lookup", "kivi", "snapkv(budget=50%)"),
) -> Iterator[Found]:  # fmt: skip
    """Texts of a job on the embedded model in float32, against each request alone."""
    model = load("float32")
    ids = reference(model)
    prompts = [
        ids[g * prefix : (g + 1) * prefix] + ids[10_000 + 40 * (each * g + n) :][:40]
        for n in range(each)
        for g in range(groups)
    ]
    for name in recipe:
        parsed = recipes.recipe_of(name)
        asks = [[Ask(prompt, parsed, 24, Sampling())] for prompt in prompts]
        texts: dict[int, list[Generation] | Exception] = {}
        cost = BatchJob(model, 1 << 31, texts.__setitem__).run(asks)
        same = 0
        for number, prompt in enumerate(prompts):
            found = texts[number]
            assert isinstance(found, list), found
            alone = model.generate(prompt, name, max_new_tokens=24)
            same += found[0].token_ids == alone.token_ids
        yield {
            "recipe": name, "requests": len(prompts), "groups": cost.groups,
            "tokens read": cost.read_tokens, "of": cost.prompt_tokens,
            "equal texts": same / len(prompts),
            "largest difference of a logit": _difference(model, prompts, name),
        }  # fmt: skip


def _difference(model: Model, prompts: list[list[int]], recipe: str) -> float:
    """Of logits behind a prompt: its prefix read for all of the group, and all of it read alone."""
    largest = 0.0
    plan = model.plan(recipe)
    for group in groups_of(prompts):
        shared = Sequence(model.adapted, plan)
        shared.reading = max(len(prompts[member]) for member in group.members)
        loop.prefill(shared, prompts[group.members[0]][: group.prefix])
        for member in group.members:
            alone = loop.prefill(Sequence(model.adapted, plan), prompts[member])
            found = loop.prefill(shared.branch(), prompts[member][group.prefix :])
            largest = max(largest, float((alone - found).abs().max()))
    return largest
