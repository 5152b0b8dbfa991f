"""Some of a model's own layers as the drafter: how often they agree, and tokens a round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from benchmarks.reproduction.drafting.asking import COLUMNS, adapted, of_kinds
from benchmarks.reproduction.harness import Found, Note, check, load, reference
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.methods.drafting.layers import Layers
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.cut import cut_model

# Tokens of text that agreement is measured on, behind as many that are only read.
AGREED = 96
SUBSETS = {
    "first 27": "0-26",
    "first 24": "0-23",
    "first 20": "0-19",
    "first and last 28": "28",
    "first and last 27": "27",
    "first and last 24 (the default, 80%)": "24",
    "first and last 20": "20",
    "first and last 15": "15",
    "every other, both ends whole (17)": "0,1,2,4,6,8,10,12,14,16,18,20,22,24,26,28,29",
}


class Stored:
    """Attention of one text under the whole model's keys and values, once it has noted them.

    kept: the layers of the model that run. Every token sees its own key and value and, where
    `whole`, those that the whole model stored for the tokens before it.
    """

    def __init__(self, model: AdaptedModel, index: Tensor) -> None:
        self.model, self.index = model, index
        self.noted: dict[int, tuple[Tensor, Tensor]] = {}
        self.kept: Sequence[int] = range(len(model.layers))
        self.whole = False

    def __call__(self, number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        layer = self.kept[number]
        facts, rope = self.model.layers[layer], self.model.rope
        assert facts.layout is not None and rope is not None
        angles = rope.angles(facts.layout, facts.rotary_type, self.index)
        query, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        if not self.whole:
            self.noted.setdefault(layer, (key, value))
            return attend([Part(query, key, value, causal=True)], facts.scaling, None, None)[0]
        before = (self.index[:, None] > self.index[None]).expand(1, -1, -1)[0]
        own = torch.eye(len(self.index), dtype=torch.bool)
        parts = [Part(query, *self.noted[layer], before), Part(query, key, value, own)]
        return attend(parts, facts.scaling, None, None)[0]


@check({"layers": "", "share of the model": ".2f", "own": ".2f", "stored": ".2f"})
def agreement() -> Iterator[Found]:
    """How often some of the layers choose the token that all would: with keys and values of their
    own, and with those that the whole model has stored."""
    model = adapted()
    ids = torch.tensor(reference(load("float32"))[3000 : 3000 + 2 * AGREED])
    index = torch.arange(len(ids))
    stored = Stored(model, index)
    scored = index[AGREED:]
    expected = model.forward(ids, index, stored, scored).argmax(-1)
    everything = range(len(model.layers))

    def agree(kept: Sequence[int], whole: bool) -> float:
        some = adapt(cut_model(model.model, kept), fuse=False, verify=False)
        stored.kept, stored.whole = kept, whole
        found = some.forward(ids, index, stored, scored).argmax(-1)
        return round(float((found == expected).float().mean()), 3)

    def share(kept: Sequence[int]) -> float:
        return len(kept) / len(everything)

    for name, keep in SUBSETS.items():
        kept = Layers(keep=keep).kept(model)
        yield {"layers": name, "share of the model": share(kept),
               "own": agree(kept, False), "stored": agree(kept, True)}  # fmt: skip
    skip = {layer: agree([n for n in everything if n != layer], True) for layer in everything}
    yield Note(without_one_layer=list(skip.values()))
    order = sorted(everything, key=lambda layer: -skip[layer])
    for count in (2, 4, 6, 8, 10):
        kept = tuple(layer for layer in everything if layer not in order[:count])
        out = ", ".join(map(str, sorted(order[:count]))) if count == 2 else (
            f"the {count} least missed"
        )  # fmt: skip
        yield {"layers": f"all but {out}", "share of the model": share(kept),
               "stored": agree(kept, True)}  # fmt: skip


@check({"recipe": "", **COLUMNS})
def layers() -> Iterator[Found]:
    """Tokens a round of subsets of the layers, chains of four."""
    model = adapted()
    methods = [Layers(keep=keep, width=1) for keep in ("28", "24", "20")]
    methods += [Layers(skip="4,12,17,25-27", width=1), Layers()]
    starters = {f"`{m}`": lambda m=m: m.start_drafter(model) for m in methods}
    for name, row in of_kinds(starters):  # type: ignore[arg-type]
        yield {"recipe": name, **row}
