"""A2ATS by its codebooks: recall of the true best tokens, and what is copied, by share and codes.

Codebooks are made on the embedded model first, where they are not there yet: 256 codes in
under a minute, the 4,096 of the authors in many.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress

import torch
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.selection.copying import (
    COPY,
    LENGTH,
    copy_and_text,
    mean,
    plan_of,
    recent,
    setting,
)
from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.errors import Refused
from lengthwise.methods.base import Method
from lengthwise.methods.selection.a2ats import A2ATS, CodedKeys
from lengthwise.methods.selection.codebooks import (
    Codebook,
    calibrate_codebooks,
    centres_of,
)
from lengthwise.methods.selection.reading import by_key_head, far_keys
from lengthwise.recipes import resolve

CODES = 256
RECALL, WINDOWED = "recall", "of windowed logits"
STEPS = 16


def made(method: A2ATS) -> A2ATS:
    """A method whose codebooks are there."""
    model, _ = setting(LENGTH)
    with suppress(Refused):
        resolve([method], model)
        return method
    calibrate_codebooks(model, method.codes, method.position)
    return method


@check({"what": "", COPY: ".3f"})
def a2ats(
    length: int = LENGTH, codes: tuple[int, ...] = (CODES,), lists: int = 1
) -> Iterator[Found]:
    """COPY by the share that is chosen and by the codes of the codebooks."""
    plans: dict[str, Plan | Method] = {
        "full attention": FULL,
        **{
            f"`a2ats(share={share:g}, codes={n})`": made(A2ATS(share=share, codes=n))
            for n in codes
            for share in (0.03, 0.1, 0.2)
        },
        "only the most recent 512 tokens": recent(512),
    }
    for name, plan in plans.items():
        copied, _ = copy_and_text(plan, length, lists=lists)
        yield {"what": name, COPY: copied}


@check({"codebook": "", RECALL: ".3f", WINDOWED: ".3f"})
def recall(length: int = LENGTH, codes: int = CODES) -> Iterator[Found]:
    """Share of the true best 3% of far keys that are chosen, by query head, mean over the layers
    and 16 decoding steps: with the codebooks, with plain k-means of the prompt's own keys, by the
    windowed logits themselves, and at random. Beside, the same of the best by windowed logits."""
    method = made(A2ATS(codes=codes))
    model, probes = setting(length)
    sequence = Sequence(model, plan_of(method, length))
    raw: dict[int, list[Tensor]] = defaultdict(list)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    extend, plan = CodedKeys.extend_raw, CodedKeys.plan

    def noting(self: CodedKeys, key: Tensor) -> None:
        raw[id(self)].append(key.float())
        extend(self, key)

    def measured(self: CodedKeys, queries: Queries, far: KVStore) -> SelectedKeys | None:
        key, true = torch.cat(raw[id(self)], 1), far_keys(far).float()
        assert queries.rotate is not None
        heads, count = queries.raw.shape[0], key.shape[1]
        query = queries.rotate(queries.raw, torch.tensor([self.method.position]))
        exact = by_key_head(queries.far.float(), len(key)) @ true.mT
        windowed = by_key_head(query.float(), len(key)) @ key.mT
        book = self.book
        by_code = self.estimates(query).gather(
            2, (self.codes - self.first).long()[:, None].expand(-1, heads // len(key), -1)
        )
        wanted = max(1, int(0.03 * count))
        scores = {
            f"codebooks of {book.keys.shape[1]} codes, query-aware": by_code,
            "plain k-means of the prompt's keys, as many": _plain(key, windowed, query, book),
            "windowed logits themselves": windowed,
            "at random": torch.rand(exact.shape),
        }
        best, near = (_top(x, wanted) for x in (exact, windowed))
        for name, score in scores.items():
            mine = _top(score, wanted)
            both = [float((mine & x).sum() / x.sum()) for x in (best, near)]
            found[name].append((both[0], both[1]))
        return None

    CodedKeys.extend_raw, CodedKeys.plan = noting, measured  # type: ignore[method-assign]
    try:
        for _, group in sequence.groups():
            assert group.selector is None or isinstance(group.selector, CodedKeys)
        sequence.last_logits = prefill(sequence, probes.context)
        sequence.end_prefill()
        (probe,) = probes.probes
        teacher_force(sequence, [*probe.suffix, *probe.target][:STEPS])
    finally:
        CodedKeys.extend_raw, CodedKeys.plan = extend, plan  # type: ignore[method-assign]
    for name, pairs in found.items():
        mine, near = zip(*pairs, strict=True)
        yield {"codebook": name, RECALL: mean(list(mine)), WINDOWED: mean(list(near))}


PLAIN: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}


def _plain(key: Tensor, windowed: Tensor, query: Tensor, book: Codebook) -> Tensor:
    """Estimates `[kv_heads, group, n]` from clusters of these keys that know no query."""
    which = (*key.shape, hash(float(key[0, -1].sum())))
    if which not in PLAIN:
        centres = centres_of(key, book.keys.shape[1], 0)
        eye = torch.eye(key.shape[-1]).expand(len(key), -1, -1)
        PLAIN[which] = centres, Codebook(eye, centres, centres).encode(key)
    centres, codes = PLAIN[which]
    table = by_key_head(query.float(), len(key)) @ centres.mT
    return table.gather(2, codes[:, None].expand_as(windowed))


def _top(scores: Tensor, count: int) -> Tensor:
    """Bool of the shape of scores: the largest of the last dimension."""
    best = scores.topk(count, -1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
