"""Window: the model itself guesses, from a small part of what it has read.

Sun et al., "TriForce: Lossless Acceleration of Long Sequence Generation with Hierarchical
Speculative Decoding", COLM 2024, arXiv:2404.11912. Chen et al., "MagicDec: Breaking the
Latency-Throughput Tradeoff for Long Context Generation with Speculative Decoding", ICLR 2025,
arXiv:2408.11049.

At long context the time of a step is that of reading the cache, and most next tokens depend on
little of it:

    draft  q(x) = model(x | first tokens, the last w tokens)      or any other compressed cache
    verify p(x) = model(x | everything)

The small cache is a fork of the sequence's own. It is taken when the prompt has been read and
before the recipe compresses it, so nothing is read twice. The weights are shared. `recipe` puts any
method that keeps or stores less in place of the window: snapkv as MagicDec does, kivi as later
work.

TriForce's own cache is `window(retrieved=4096)`. It keeps some of the chunks of 8 prompt tokens:
the first one, and those whose mean key agrees best with the prompt's last query, head by head.

    chosen = {0} and the chunks of largest q . mean(k_j of chunk)

Ours: the window is cut in runs of an eighth of itself, not token by token. Of grouped heads the
queries are added up. What is said after the prompt is kept beside the chosen chunks, where the
original writes it over the last of them. TriForce's third level is a small model that guesses for
the draft model. It is left to `model` in the same recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.placement import ORDINARY
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, Phase, notes_prompt
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan, whole
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.drafting._shared.model_drafter import (
    ModelDrafter,
    depth_option,
    draws_option,
    width_option,
)
from lengthwise.methods.nested import plan_of
from lengthwise.models.adapted_model import AdaptedModel

# The window may overhang by this share of itself before it is cut again.
OVERHANG = 8
CHOSEN = Needs("retrieved=1 or more", lambda method: method.retrieved)
ENDS = Needs(
    "retrieved=0 and recipe=none", lambda method: not method.retrieved and method.recipe is None
)


@dataclass(frozen=True)
class Window(Method):
    """sinks and window: first and most recent tokens that guesses are made from. retrieved: tokens
    in chunks chosen by the prompt's end, in their place. recipe: any other way to keep less."""

    name: ClassVar[str] = "window"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[tuple[Paper, ...]] = (
        Paper(
            "TriForce: Lossless Acceleration of Long Sequence Generation with Hierarchical "
            "Speculative Decoding",
            "Sun et al.",
            2024,
            arxiv="2404.11912",
            venue="COLM",
            code="https://github.com/Infini-AI-Lab/TriForce",
        ),
        Paper(
            "MagicDec: Breaking the Latency-Throughput Tradeoff for Long Context Generation "
            "with Speculative Decoding",
            "Chen et al.",
            2025,
            arxiv="2408.11049",
            venue="ICLR",
            code="https://github.com/Infini-AI-Lab/MagicDec",
        ),
    )
    lossless: ClassVar[bool] = True
    sinks: int = option(4, "first tokens the guesses see", low=0, needs=ENDS)
    window: int = option(512, "most recent tokens the guesses see", low=1, needs=ENDS)
    retrieved: int = option(0, "tokens of the prompt chosen by its last query, in chunks", low=0)
    chunk: int = option(8, "tokens of a chunk that is chosen together", low=1, needs=CHOSEN)
    recipe: str | None = option(None, 'another way to see less, such as "snapkv(budget=512)"')
    depth: int = depth_option(4)
    width: int = width_option(2)
    draws: str = draws_option()

    @classmethod
    def identity(cls, length: int) -> Window:
        """Guesses made from everything are what will be said."""
        return cls(window=max(1, length))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retrieved and self.recipe is not None:
            raise RecipeError(f"{self}: retrieved and recipe both say what is kept; give one")
        if 0 < self.retrieved < self.chunk:
            raise RecipeError(f"{self}: retrieved must be at least one chunk of {self.chunk}")

    def check(self, model: AdaptedModel) -> None:
        self.start_drafter(model)

    def view(self, model: AdaptedModel) -> Plan:
        """What the fork adopts: a retention and a codec; raises Refused where it is more."""
        if self.retrieved:
            return Plan(retention=lambda: Retrieved(self.retrieved, self.chunk))
        if self.recipe is None:
            return Plan(retention=lambda: Recent(self.sinks, self.window))
        plan = plan_of(self.recipe, model)
        given = f"window(recipe={plan.text})"
        others = (
            plan.rule, plan.query_scale, plan.selector, plan.head_table, plan.bias, plan.drafters,
            plan.decides,
        )  # fmt: skip
        if any(others) or plan.placement != ORDINARY:
            raise Refused(
                f"{given}: the guesses see the prompt as the model has read it, so only what is "
                "kept of it and how it is stored can change",
                "use one retention or codec such as snapkv or kivi, or window(sinks=4, window=512)",
            )
        retention = plan.retention() if plan.retention else None
        if retention is not None and notes_prompt(retention):
            raise Refused(
                f"{given} needs notes of every token of the prompt, which the model itself does "
                "not take while it reads",
                "use a retention that decides at the prompt's end, such as snapkv",
            )
        return plan

    def start_drafter(self, model: AdaptedModel) -> WindowDrafter:
        return WindowDrafter(self, self.view(model), model)


class WindowDrafter(ModelDrafter):
    """Asks the model over a fork that keeps less. view: what the fork adopts."""

    def __init__(self, options: Window, view: Plan, model: AdaptedModel) -> None:
        super().__init__("window", options.depth, options.width, options.draws)
        self.view = view
        codecs = [view.codec(facts) for facts in model.layers] if view.codec else []
        windows = [codec.window for codec in codecs if codec is not None]
        retention = view.retention() if view.retention else None
        self.remember = max([retention.window if retention else 0, *windows])

    def open(self, sequence: Sequence) -> DraftModelRunner:
        plan = replace(whole(sequence.plan), text=self.view.text, retention=self.view.retention,
                       codec=self.view.codec, selector=None, drafters=(), verifier=None,
                       policy=None)  # fmt: skip
        fork = sequence.fork(plan)
        # The peak of what was read stays with the original.
        fork.peak_bytes = 0
        # A selection's index names entries that are about to go.
        for _, group in fork.groups():
            group.selector = None
        fork.end_prefill()
        return DraftModelRunner(fork)


class Recent:
    """A retention of the first `sinks` and the last `size` entries of each layer.

    Of a recipe with a window of its own, which stays whole, what lies beyond is cut.
    """

    window = 0
    wants_attention_mass = False
    wants_token_nll = False

    def __init__(self, sinks: int, size: int) -> None:
        self.sinks, self.size = sinks, size

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        if update.phase is Phase.CHUNK:
            return
        body = group.compressible
        near = len(group.near) if body is group.far else 0
        last = max(0, self.size - near)
        slack = 1 + last // OVERHANG if update.phase is Phase.DECODE else 0
        if len(body) <= self.sinks + last + slack:
            return
        ids = torch.arange(len(body), device=update.layer.device)
        kept = torch.cat([ids[: self.sinks], ids[len(body) - last :]])
        group.keep(kept, 1 + last // OVERHANG)

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """Guesses may be made from a little more or less, so nothing has to wait for a cut."""
        return None


class Retrieved:
    """A retention of the chunks of a prompt whose mean key its last query agrees with best."""

    window = 1
    wants_attention_mass = False
    wants_token_nll = False

    def __init__(self, budget: int, chunk: int) -> None:
        self.chunks, self.chunk = budget // chunk, chunk

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        body = group.compressible
        count = len(body) // self.chunk
        if update.phase is not Phase.PREFILL or count <= self.chunks or update.queries is None:
            return
        entries = body.read()
        assert entries is not None
        heads = len(entries.key)
        query = update.queries[:, -1].unflatten(0, (heads, -1)).sum(1).float()
        means = entries.key[:, : count * self.chunk].unflatten(1, (count, self.chunk)).float()
        scores = torch.einsum("hd,hcd->hc", query, means.mean(2))
        scores[:, 0] = torch.inf
        chosen = scores.topk(self.chunks).indices.sort(1).values
        within = torch.arange(self.chunk, device=chosen.device)
        ids = (chosen[:, :, None] * self.chunk + within).flatten(1)
        # Tokens behind the last whole chunk stay.
        rest = torch.arange(count * self.chunk, len(body), device=ids.device).expand(heads, -1)
        group.keep(torch.cat([ids, rest], 1))

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """Nothing is dropped after the prompt."""
        return None


__all__ = ["Recent", "Retrieved", "Window", "WindowDrafter"]
