"""Checks of decoders: laws over next tokens, and modes that write several texts."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence as Seq

import torch

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import begin, finish, prefill, start, step
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import ConstraintError, Refused
from lengthwise.methods.base import Method
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import parse, resolve
from lengthwise.testing.laws import COUNT, fail
from lengthwise.testing.tiny import tokens

NEW = 12
STOP = (5, 9)
# A decoder sees laws and forks alone, so it runs over caches of every kind.
CACHES = ("full", "streaming(sinks=2, window=24)", "snapkv(budget=32, window=8)", "kivi(bits=4)")


def _plans(method: Method, model: AdaptedModel) -> list[Plan]:
    """The method over every cache that can be had with it on this model."""
    found = []
    for cache in CACHES:
        try:
            found.append(resolve((*parse(cache).methods, method), model))
        except Refused:
            continue
    return found


def _write(
    model: AdaptedModel, plan: Plan, texts: Seq[Seq[int]], stop_ids: Seq[int] = STOP,
    look: Callable[[Request], None] = lambda _: None,
) -> list[Request]:  # fmt: skip
    """Requests written side by side, to their end; each is looked at before every step."""
    requests = []
    for text in texts:
        sequence = Sequence(model, plan, expected=len(text) + NEW)
        request = begin(sequence, _sampling(plan), NEW, stop_ids)
        start(request, prefill(sequence, text))
        requests.append(request)
    while active := [request for request in requests if not request.done]:
        for request in active:
            look(request)
        step(active, apart=True)
    for request in requests:
        finish(request)
    return requests


def _sampling(plan: Plan) -> Sampling:
    """Greedy, for what takes it; else samples of one seed."""
    for make in plan.laws:
        law = make()
        if law is not None and law.draws:
            return Sampling(temperature=1.0, seed=3)
    return Sampling()


def check_law_identity(cls: type[Method], model: AdaptedModel) -> None:
    """At its identity setting a law leaves greedy text as it is."""
    method = cls.identity(COUNT)
    if method is None:
        return
    (found,) = _write(model, resolve((method,), model), [tokens(COUNT)], ())
    (plain,) = _write(model, FULL, [tokens(COUNT)], ())
    if found.output != plain.output:
        fail(cls, model, f"{method} writes {found.output} where greedy text is {plain.output}")


def check_decoder_batch(cls: type[Method], model: AdaptedModel) -> None:
    """What is written side by side is what is written alone, over every kind of cache."""
    texts = [tokens(COUNT, 1), tokens(COUNT // 2, 2)]
    for plan in _plans(cls.example(), model):
        beside = _write(model, plan, texts)
        for number, text in enumerate(texts):
            (alone,) = _write(model, plan, [text])
            if _said(alone) != _said(beside[number]):
                fail(
                    cls, model,
                    f"{plan.text} writes {_said(beside[number])} beside another text and "
                    f"{_said(alone)} alone",
                )  # fmt: skip


def _said(request: Request) -> object:
    if request.mode is None:
        return request.output
    return [(each.tokens, each.ended) for each in request.mode.alternatives()]


def check_law_by_path(cls: type[Method], model: AdaptedModel) -> None:
    """A law that says `by_path` answers the same in whatever order it is asked."""
    if not cls.by_path:
        return
    plan = resolve((cls.example(),), model)
    laws = [_begun(plan, model) for _ in range(2)]
    if any(law is None for law in laws):
        return
    one, other = (law for law in laws if law is not None)
    order = random.Random(0)
    path: list[int] = []
    seen: list[tuple[list[int], torch.Tensor]] = []
    for at in range(NEW):
        given = torch.randn(model.vocab_size, generator=torch.Generator().manual_seed(at))
        try:
            found = one.process(given.clone(), list(path))
        except ConstraintError:
            break
        seen.append((list(path), found.clone()))
        allowed = found.isfinite().nonzero()[:, 0].tolist()
        path.append(order.choice(allowed))
        if one.ends(path):
            break
    for at in order.sample(range(len(seen)), len(seen)):
        path, expected = seen[at]
        given = torch.randn(model.vocab_size, generator=torch.Generator().manual_seed(at))
        found = other.process(given, list(path))
        # What is read in other pieces is rounded otherwise.
        if not torch.allclose(found, expected, rtol=1e-4, atol=1e-3):
            fail(cls, model, f"answers otherwise behind {path} when it is asked in another order")


def _begun(plan: Plan, model: AdaptedModel) -> NextTokenLaw | None:
    law = plan.laws[0]()
    if law is not None:
        sequence = Sequence(model, dataclasses.replace(plan, laws=()))
        prefill(sequence, tokens(COUNT))
        sequence.end_prefill()
        law.begin(sequence, _sampling(plan), NEW, STOP)
    return law


def check_mode_texts(cls: type[Method], model: AdaptedModel) -> None:
    """A mode gives texts within the limit, best first, no two alike, without stop tokens, and holds
    no more of them than it says."""

    def look(request: Request) -> None:
        held, width = (request.mode.held(), request.mode.width) if request.mode else ([], 1)
        if len(held) > width:
            fail(cls, model, f"holds {len(held)} texts at once, and its `width` is {width}")

    for plan in _plans(cls.example(), model):
        (request,) = _write(model, plan, [tokens(COUNT)], look=look)
        assert request.mode is not None
        texts = request.mode.alternatives()
        scores = [each.score for each in texts]
        if not texts or request.output != texts[0].tokens:
            fail(cls, model, f"{plan.text} takes {request.output}, which is not its best text")
        if scores != sorted(scores, reverse=True):
            fail(cls, model, f"{plan.text} gives texts in the order of scores {scores}")
        if len({(*each.tokens, each.ended) for each in texts}) < len(texts):
            fail(cls, model, f"{plan.text} gives a text twice")
        for each in texts:
            if len(each.tokens) > NEW or set(STOP) & set(each.tokens):
                fail(cls, model, f"{plan.text} goes on behind its limit or a stop: {each.tokens}")


__all__ = [
    "check_decoder_batch", "check_law_by_path", "check_law_identity", "check_mode_texts",
]  # fmt: skip
