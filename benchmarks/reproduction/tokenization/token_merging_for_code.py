"""Merging the subtokens of identifiers: FLOPs saved, and what it does to a classifier of code.

Functions of Python's own library (`tiny.py`), each labelled by its package. Every fifth file of a
package is held out. A tiny RoBERTa over 4,096 byte-level pieces is trained on masked tokens of
functions, never merged, as the paper's models are; from there each way is fine-tuned by itself.
`same text` merges the TOKENS first tokens of a function. `same positions` cuts behind the merge, so
that more of the function is read. FLOPs are those of a forward pass of a mean function.
"""

from __future__ import annotations

import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from benchmarks.reproduction import tiny
from benchmarks.reproduction.harness import Found, check
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
)

from lengthwise.architectures.code_merging import CodeMerging, padded_groups
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.code_units import code_groups
from lengthwise.training.byte_models import Fit
from lengthwise.training.fitting import fit_batches, padded_ids

PIECES, TOKENS, LEAST, CLASSES, SHARE = 4096, 128, 100, 10, 0.15
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Function:
    """A function: its tokens, their groups by kind, its package."""

    ids: list[int]
    groups: dict[str, list[int]]
    label: int


def functions() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Text and package of functions to train on and held out, of the CLASSES largest packages."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, list[list[str]]] = defaultdict(list)
    for path in tiny.files():
        parts = path.relative_to(root).parts
        if len(parts) > 1:
            found[parts[0]].append([text for text in tiny.functions(path) if len(text) >= LEAST])
    sizes = Counter({name: sum(map(len, files)) for name, files in found.items()})
    several = [name for name, _ in sizes.most_common() if len(found[name]) >= 5][:CLASSES]
    train, held = [], []
    for name in several:
        for number, texts in enumerate(sorted(found[name], key=len, reverse=True)):
            (train if number % 5 != 2 else held).extend((text, name) for text in texts)
    Random(0).shuffle(train)
    return train, held


def pieces(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of PIECES with RoBERTa's special tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=PIECES, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ))  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=made)


def read(
    pairs: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, names: list[str]
) -> list[Function]:
    """The functions that the lexer can read, each behind <s>, which is a group of its own."""
    found = []
    for text, name in pairs:
        try:
            groups = {"identifiers": code_groups(text, tokenizer)}
        except TokenizerError:
            continue
        ids = tokenizer.encode(text, add_special_tokens=False)
        behind = {key: [0, *(each + 1 for each in own)] for key, own in groups.items()}
        behind["none"] = list(range(len(ids) + 1))
        found.append(Function([0, *ids], behind, names.index(name)))
    return found


def config() -> RobertaConfig:
    return RobertaConfig(
        vocab_size=PIECES, hidden_size=128, intermediate_size=512, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=TOKENS + 2, type_vocab_size=1,
        num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


def pre_trained(own: Sequence[Function], steps: int, batch: int) -> RobertaForMaskedLM:
    """A model of masked tokens; one in seven is hidden."""
    torch.manual_seed(0)
    model = RobertaForMaskedLM(config())
    chance = torch.Generator().manual_seed(0)

    def loss_of(some: Sequence[Function]) -> Tensor:
        ids, mask = _batch([each.ids[:TOKENS] for each in some])
        hidden = (torch.rand(ids.shape, generator=chance) < SHARE) & (mask == 1) & (ids > 4)
        logits = model(ids.masked_fill(hidden, 4), mask).logits[hidden]
        return torch.nn.functional.cross_entropy(logits, ids[hidden])

    fit_batches(model, loss_of, own, Fit(steps, batch, 1e-3))
    return model


class Way:
    """A classifier behind a merge. kind: which groups. whole: whether a text is cut behind it."""

    def __init__(self, base: RobertaForMaskedLM, merging: str, kind: str, whole: bool) -> None:
        inner = RobertaForSequenceClassification(config())
        inner.roberta.load_state_dict(base.roberta.state_dict())
        self.model = CodeMerging.over(inner, merging)
        self.kind, self.whole = kind, whole

    def given(self, some: Sequence[Function]) -> dict[str, Any]:
        """What the model is called with."""
        cut = [self._cut(each) for each in some]
        ids, mask = _batch([each.ids[:count] for each, count in zip(some, cut, strict=True)])
        groups = padded_groups(
            [each.groups[self.kind][:count] for each, count in zip(some, cut, strict=True)]
        )
        return {"input_ids": ids, "attention_mask": mask, "groups": groups}

    def positions(self, each: Function) -> int:
        """Of the merged function."""
        return each.groups[self.kind][: self._cut(each)][-1] + 1

    def _cut(self, each: Function) -> int:
        groups = each.groups[self.kind]
        if not self.whole:
            return min(len(groups), TOKENS)
        return next((n for n, group in enumerate(groups) if group >= TOKENS), len(groups))

    def fit(self, own: Sequence[Function], how: Fit) -> None:
        def loss_of(some: Sequence[Function]) -> Tensor:
            labels = torch.tensor([each.label for each in some])
            found: Tensor = self.model(**self.given(some), labels=labels)["loss"]
            return found

        fit_batches(self.model, loss_of, own, how)

    @torch.inference_mode()
    def predicted(self, some: Sequence[Function]) -> list[int]:
        found: list[int] = []
        for at in range(0, len(some), 32):
            logits = self.model(**self.given(some[at : at + 32]))["logits"]
            found += logits.argmax(-1).tolist()
        return found

    @torch.inference_mode()
    def flops(self, some: Sequence[Function]) -> float:
        """FLOPs a function, each alone, with attention as products."""
        self.model.inner.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter:
            for each in some:
                self.model(**self.given([each]))
        self.model.inner.set_attn_implementation("sdpa")
        return counter.get_total_flops() / len(some)


WAYS = (
    ("none", "mean", "none", False), ("mean", "mean", "identifiers", False),
    ("learned", "learned", "identifiers", False),
    ("mean", "mean", "identifiers", True), ("learned", "learned", "identifiers", True),
)  # fmt: skip


@check({"merged": "", "cut at": "", "positions": ".1f", "FLOPs": ".3g", "saved": ".1%",
        "accuracy": ".1%", "F1": ".3f", "by seed": ""})  # fmt: skip
def token_merging_for_code(
    steps: int = 300, tune: int = 100, batch: int = 8, held: int = 600, seeds: int = 2
) -> Iterator[Found]:  # fmt: skip
    """Accuracy and F1 (mean of classes) of functions by package, with and without merging."""
    pairs, others = functions()
    tokenizer = pieces([text for text, _ in pairs])
    names = sorted({name for _, name in pairs})
    own, test = (read(each, tokenizer, names) for each in (pairs, others))
    test = test[:: max(1, len(test) // held)]
    base = pre_trained(own, steps, batch)
    first = 0.0
    for name, merging, kind, whole in WAYS:
        scores = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            way = Way(base, merging, kind, whole)
            way.fit(own, Fit(tune, batch, 5e-4, seed=seed))
            scores.append(_scores(way.predicted(test), [each.label for each in test]))
        spent = way.flops(test[:100])
        first = first or spent
        yield {
            "merged": name, "cut at": f"{TOKENS} {'positions' if whole else 'tokens'}",
            "positions": sum(map(way.positions, test)) / len(test), "FLOPs": spent,
            "saved": 1 - spent / first, "accuracy": sum(a for a, _ in scores) / seeds,
            "F1": sum(f for _, f in scores) / seeds,
            "by seed": ", ".join(f"{a:.1%}" for a, _ in scores),
        }  # fmt: skip


def _batch(rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    return padded_ids(rows, CPU, 1), padded_ids([[1] * len(row) for row in rows], CPU, 0)


def _scores(said: list[int], wanted: list[int]) -> tuple[float, float]:
    """Accuracy and the mean of the F1 of each class."""
    found = []
    for label in set(wanted):
        both = sum(a == b == label for a, b in zip(said, wanted, strict=True))
        found.append(2 * both / (said.count(label) + wanted.count(label)))
    right = sum(a == b for a, b in zip(said, wanted, strict=True))
    return right / len(wanted), sum(found) / len(found)


__all__ = ["token_merging_for_code"]
