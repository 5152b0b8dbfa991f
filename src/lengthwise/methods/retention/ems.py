"""EMS: evict what is useless, and merge what is middling into what is like it and important.

Li et al., "EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on
Global-Local Importance", 2024, arXiv:2412.08521.

Attention summed over all queries favours old tokens, that of the last queries forgets what others
needed. EMS takes whichever is larger, at the same mean. Of each key head, with p summed over the
query heads of its group and s over the entries before the last w,

    glo[j] = sum over all queries i of p[i, j]
    loc[j] = the sum over the last w queries, pooled over neighbours
    s      = max(glo / mean(glo), loc / mean(loc))
    kept   = the last w tokens + the N best by s (the centres)
    evicted = what is beyond the best entries that make up `useful` of the sum of s
    merged  = the rest: entry i goes into the centre c of the largest cos(k_i, k_c) cos(v_i, v_c),
              into the zero class, and so is evicted, where that is below `threshold`
    k_c, v_c = means of centre and members, weighted by s

How much is evicted follows from how gathered a head's attention is, how much is merged from how
alike its entries are. The zero class is one more centre that is thrown away, so all heads run the
same program. `merge=false` is the twin that evicts alone, by the same score.

Ours: there is no released code, and only abstract and reviews were at hand. So the form of s, the
weights, `useful`, `threshold` and w are ours. Two opposite pairs have a positive product of
cosines; both cosines have to be positive here. A centre that stands for several tokens may weigh as
they do (`weigh`, not in the paper): by `mass`, log(sum of s / s_c) is added to its logits, by
`members` the log of their number. It acts once, at the end of the prompt; the paper goes on while
decoding. Keys are merged as they are stored, rotated, so nothing may move them later.

Defaults are the paper's budget of 256 tokens a head, and ours for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.received import received_attention
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Needs, Paper, Question, option
from lengthwise.methods.retention.counting import (
    affordable,
    floor_option,
    layer_tokens,
)
from lengthwise.methods.retention.votes import PromptVotes, VotingMethod, pool

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts

# Numbers of a block of similarities.
BLOCK = 1 << 24


@dataclass(frozen=True)
class EMS(VotingMethod):
    """Keeps what all queries or the last ones look at, with what is like it merged in."""

    name: ClassVar[str] = "ems"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on "
        "Global-Local Importance",
        "Li et al.",
        2024,
        arxiv="2412.08521",
    )
    frozen_positions: ClassVar[bool] = True
    ordinary_only: ClassVar[bool] = True
    best_known: ClassVar[str] = "ems(weigh=members)"

    budget: Budget = option(Budget(256), "what each layer keeps of the prompt")
    merge: bool = option(True, "merge what is middling; false evicts it")
    useful: float = option(
        0.95, "share of a head's score that is kept or merged", low=0.0, high=1.0,
        needs=Needs("merge=true", lambda method: method.merge),
    )  # fmt: skip
    threshold: float = option(
        0.6, "least likeness to a centre that is merged", low=0.0, high=1.0,
        needs=Needs("merge=true", lambda method: method.merge),
    )  # fmt: skip
    weigh: str = option(
        "none", "what a centre weighs beside one token", choices=("none", "mass", "members"),
        needs=Needs("merge=true", lambda method: method.merge),
    )  # fmt: skip
    window: int = option(32, "last prompt tokens, always kept, whose attention is local", low=1)
    kernel: int = option(7, "neighbours local attention is spread over; odd", low=1)
    pooling: str = option("max", "how it is spread", choices=("avg", "max"))
    floor: int = floor_option()

    @classmethod
    def example(cls) -> EMS:
        return cls(budget=Budget(50, "%"), threshold=0.0, weigh="mass", window=8, floor=8)

    @classmethod
    def identity(cls, length: int) -> EMS:
        return cls(budget=Budget(length), window=min(32, length))

    @property
    def weighs(self) -> bool:
        """Whether each entry stores a weight."""
        return self.merge and self.weigh != "none"

    def tokens(self, model: AdaptedModel, layer: LayerFacts, length: int, taken: int) -> int:
        return layer_tokens(self.budget, model, length, (taken or self.window) + self.floor)

    def start_retention(self, model: AdaptedModel) -> EvictThenMerge:
        return EvictThenMerge(self)


class EvictThenMerge(PromptVotes):
    """The retention of one sequence: it acts once, when the prompt is complete."""

    wants_attention_mass = True
    sums_prompt_only = True
    method: EMS

    def count(self, model: AdaptedModel, layer: LayerFacts, length: int, near: int) -> int | None:
        """Entries a key head that stay of a prompt; None where all do. Raises Refused where the
        budget does not pay for one."""
        allowed = self.method.tokens(model, layer, length, 0)
        if length <= allowed:
            return None
        count = affordable(layer, model.dtype, allowed, attention_mass=self.method.weighs)
        if count < 1:
            raise Refused(
                f"ems: a budget of {allowed} tokens does not pay for one entry and what ems notes "
                "beside it",
                "give a larger budget",
            )
        return count

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        """Evicts and merges, and drops what was summed up."""
        if update.phase is not Phase.PREFILL:
            return
        entries = group.near.read()
        assert entries is not None and entries.attention_mass is not None
        count = self.count(update.sequence.model, update.layer, len(update.sequence), 0)
        plain = KVEntries(entries.key, entries.value, entries.index)
        if count is None or count >= len(entries):
            group.near.replace(plain)
            return
        latest = min(self.window, count)
        scores = self.scores(group, update, entries.attention_mass, latest)
        centres = scores.topk(count - latest, dim=1).indices.sort(1).values
        group.near.replace(self._kept(plain, scores, centres, latest))

    def scores(self, group: HeadGroup, update: CacheUpdate, mass: Tensor, latest: int) -> Tensor:
        """s of all but the latest entries, float32 `[kv_heads, older]`."""
        method, older = self.method, mass.shape[1] - latest
        votes = received_attention(group, update, self.window)[:, :older]
        local = pool(votes, method.kernel, method.pooling)
        return blended(mass[:, :older], local.unflatten(0, (len(mass), -1)).sum(1))

    def _kept(self, entries: KVEntries, scores: Tensor, centres: Tensor, latest: int) -> KVEntries:
        """The centres, with what is merged into them, then the latest entries."""
        method, older = self.method, scores.shape[1]
        last = torch.arange(older, older + latest, device=centres.device).expand(len(centres), -1)
        kept = entries.take(torch.cat([centres, last], 1))
        if not method.merge:
            return kept
        goes = members(entries, scores, centres, method.useful, method.threshold)
        key, value, mass, count = merged(entries, scores, centres, goes)
        key = torch.cat([key, kept.key[:, centres.shape[1] :]], 1)
        value = torch.cat([value, kept.value[:, centres.shape[1] :]], 1)
        if not method.weighs:
            return KVEntries(key, value, kept.index)
        weight = mass.log() if method.weigh == "mass" else count.log()
        return KVEntries(key, value, kept.index, F.pad(weight, (0, latest)))


def blended(glo: Tensor, loc: Tensor) -> Tensor:
    """The larger of global and local attention `[kv_heads, n]`, both brought to a mean of 1."""
    tiny = torch.finfo(torch.float32).tiny
    each = [x / x.mean(1, keepdim=True).clamp_min(tiny) for x in (glo, loc)]
    return torch.maximum(*each)


def members(
    entries: KVEntries, scores: Tensor, centres: Tensor, useful: float, threshold: float
) -> Tensor:
    """Into which centre each entry goes.

    Args:
        entries: of some key heads.
        scores: of the first n of them, `[kv_heads, n]`.
        centres: ids int64 `[kv_heads, m]`, ascending.
        useful: share of the sum of scores beyond which entries are evicted.
        threshold: the least likeness that is merged.

    Returns:
        int64 `[kv_heads, n]`, the place of a centre among its head's, m for the zero class. Centres
        go into themselves.
    """
    heads, m = centres.shape
    goes = torch.full_like(scores, m, dtype=torch.long)
    if m:
        key, value = (F.normalize(x.float(), dim=-1) for x in (entries.key, entries.value))
        wide = centres[..., None]
        centre_key = key.gather(1, wide.expand(-1, -1, key.shape[-1]))
        centre_value = value.gather(1, wide.expand(-1, -1, value.shape[-1]))
        step = max(1, BLOCK // (heads * m))
        for start in range(0, scores.shape[1], step):
            rows = slice(start, min(start + step, scores.shape[1]))
            by_key = (key[:, rows] @ centre_key.transpose(1, 2)).clamp_min(0)
            by_value = (value[:, rows] @ centre_value.transpose(1, 2)).clamp_min(0)
            best, where = (by_key * by_value).max(-1)
            goes[:, rows] = where.masked_fill((best < threshold) | (best <= 0), m)
    falling = scores.sort(dim=1, descending=True, stable=True)
    before = falling.values.cumsum(1) - falling.values
    useless = before >= useful * falling.values.sum(1, keepdim=True)
    goes = goes.masked_fill(useless.scatter(1, falling.indices, useless), m)
    return goes.scatter(1, centres, torch.arange(m, device=goes.device).expand(heads, -1))


def merged(
    entries: KVEntries, scores: Tensor, centres: Tensor, goes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centres with their members, by one scatter for all heads.

    Args:
        entries: of some key heads.
        scores: of the first n of them, `[kv_heads, n]`.
        centres: ids int64 `[kv_heads, m]`.
        goes: what `members` gave.

    Returns:
        Keys and values `[kv_heads, m, ...]`; the sum of scores as so many times the centre's own,
        and the number of members, itself included, float32 `[kv_heads, m]`.
    """
    heads, m = centres.shape
    n = scores.shape[1]
    # Nothing weighs nothing: a centre of no attention at all would be no number.
    weights = scores.clamp_min(torch.finfo(torch.float32).tiny ** 0.5)

    def sums(x: Tensor) -> Tensor:
        total = x.new_zeros(heads, m + 1, *x.shape[2:])
        where = goes if x.dim() == 2 else goes[..., None].expand(-1, -1, x.shape[-1])
        # The last one is the zero class.
        return total.scatter_add(1, where, x)[:, :m]

    mass, count = sums(weights), sums(torch.ones_like(weights))
    means = (
        (sums(x[:, :n].float() * weights[..., None]) / mass[..., None]).to(x.dtype)
        for x in (entries.key, entries.value)
    )
    # What has no members stays as it was, to the bit.
    alone = (count == 1)[..., None]
    own = (entries.key, entries.value)
    key, value = (
        torch.where(alone, x.gather(1, centres[..., None].expand(-1, -1, x.shape[-1])), mean)
        for x, mean in zip(own, means, strict=True)
    )
    return key, value, mass / weights.gather(1, centres), count


__all__ = ["EMS", "EvictThenMerge", "blended", "members", "merged"]
