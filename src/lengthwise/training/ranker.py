"""Training of rankers: RankGen's bi-encoder, on the documents that a user has.

Krishna et al., "RankGen: Improving Text Generation with Large Ranking Models", EMNLP 2022,
arXiv:2205.09726. A prefix p_i ends where a sentence ends, and its continuation s_i follows. With
e(.) the encoder and g_i a continuation that the model wrote itself behind p_i,

    loss_i = -log exp(c e(p_i) e(s_i)) / (sum_j exp(c e(p_i) e(s_j)) + sum_j exp(c e(p_i) e(g_j)))

over a batch in which several pairs come from each document: their continuations are the in-book
negatives, the others random ones, and the g_j generative ones.

Ours: an encoder of a few layers begins with the embeddings of the model itself, which stay as they
are, in place of T5's; vectors have length one and c is learned. A step is Adam on one batch.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from os import PathLike
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from lengthwise.api.model import Model
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.retrieval.datastore import fingerprint
from lengthwise.retrieval.ranker import PREFIX, SUFFIX, BiEncoder, Shape, save_ranker
from lengthwise.retrieval.sentences import sentences
from lengthwise.training.config import TrainingError
from lengthwise.training.progress import TrainingProgress

Ids = list[int]
# The last part of a document in so many is held out.
_HELD = 10
# Rows that the model writes negatives for at a time.
_WRITTEN = 16


@dataclass(frozen=True)
class Settings:
    """How a ranker is trained.

    Attributes:
        steps: updates.
        batch: pairs of an update.
        together: pairs of an update that come from one document.
        lr: of AdamW at its highest.
        warmup: the share of steps in which the rate rises; then it falls as a cosine.
        generated: prefixes behind which the model writes a negative, before training.
        least: tokens that a prefix has at least.
        seed: of what is drawn.
    """

    steps: int = 600
    batch: int = 64
    together: int = 16
    lr: float = 1e-3
    warmup: float = 0.1
    generated: int = 128
    least: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "together", "least"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}={getattr(self, name)}: give at least 1")
        if self.batch < 2:
            raise TrainingError("batch=1: a pair has no negatives; give at least 2")
        if self.generated < 0:
            raise TrainingError(f"generated={self.generated}: give 0 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise TrainingError(f"lr={self.lr}: give a number above 0")
        if not 0 <= self.warmup <= 1:
            raise TrainingError(f"warmup={self.warmup}: give a share from 0 to 1")

    def rate(self, step: int) -> float:
        """AdamW's rate in a step.

        Args:
            step: from 0.
        """
        rises = (step + 1) / max(1.0, self.warmup * self.steps)
        return self.lr * min(1.0, rises) * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Pair:
    """A prefix, what follows it, and what the model wrote there, where it was asked."""

    prefix: Ids
    suffix: Ids
    written: Ids | None = None


class Book:
    """A document as ids, cut between sentences only: `starts` says where each begins."""

    def __init__(self, ids: Ids, starts: Seq[int], shape: Shape, least: int) -> None:
        self.ids, self.shape = ids, shape
        self.starts = [at for at in starts if at >= least and at + shape.suffix <= len(ids)]

    def draw(self, count: int, chance: Random) -> list[Pair]:
        """So many pairs at different places, or as many as there are.

        Args:
            count: of pairs.
            chance: where.
        """
        found = chance.sample(self.starts, min(count, len(self.starts)))
        return [self.at(start) for start in found]

    def at(self, start: int) -> Pair:
        """The pair whose continuation begins there.

        Args:
            start: one of `starts`.
        """
        before = self.ids[max(0, start - self.shape.prefix) : start]
        return Pair(before, self.ids[start : start + self.shape.suffix])


@dataclass(frozen=True)
class Library:
    """Documents to train on, and the last part of each, which is held out."""

    train: list[Book]
    held: list[Book]


@dataclass(frozen=True)
class Ranks:
    """Where true continuations are ranked among others. first: the share in the first place. mean:
    the mean place, from 1. chance: the share of a guess. count: prefixes."""

    first: float
    mean: float
    chance: float
    count: int


@dataclass(frozen=True)
class Outcome:
    """ranker: as it was stored. loss: the mean of the last tenth of the steps. ranks: on what was
    held out, among ten continuations of the same document. seconds: of training."""

    ranker: BiEncoder
    loss: float
    ranks: Ranks
    seconds: float


def library(model: Model, texts: Seq[str], shape: Shape, least: int = 32) -> Library:
    """Documents as a ranker of that shape reads them.

    Args:
        model: whose tokenizer is used.
        texts: the documents.
        shape: of the ranker.
        least: tokens that a prefix has at least.

    Raises:
        TrainingError: where none of them is long enough.
    """
    train, held = [], []
    for text in texts:
        ids, starts = _cut(model, text)
        border = len(ids) * (_HELD - 1) // _HELD
        train.append(Book(ids[:border], [at for at in starts if at < border], shape, least))
        behind = [at - border for at in starts if at >= border]
        held.append(Book(ids[border:], behind, shape, least))
    found = Library([b for b in train if len(b.starts) > 1], [b for b in held if len(b.starts) > 1])
    if not found.train or not found.held:
        raise TrainingError(
            f"{len(texts)} documents are too short: each needs some sentences of {least} tokens "
            f"with {shape.suffix} behind them; give longer documents, or a smaller suffix"
        )
    return found


def train(
    model: Model, texts: Seq[str], out: str | PathLike[str], shape: Shape | None = None,
    settings: Settings | None = None, *, progress: TrainingProgress | None = None,
) -> Outcome:  # fmt: skip
    """Trains a ranker for the texts of a model, and stores it.

    Args:
        model: whose tokenizer and embeddings it gets; it writes the generative negatives.
        texts: documents, some thousand tokens each.
        out: file of the ranker.
        shape: of the encoder.
        settings: how it is trained.
        progress: told of steps.

    Raises:
        LengthwiseError: before anything is trained, for what cannot be.
        TrainingError: for a loss that is no number.
    """
    shape, settings, told = shape or Shape(), settings or Settings(), progress or TrainingProgress()
    found, chance = library(model, texts, shape, settings.least), Random(settings.seed)
    written = negatives(model, found.train, settings.generated, chance, told)
    ranker, loss, seconds = fit(model, found.train, written, shape, settings, told)
    ranks = ranks_in(ranker, found.held)
    ranker.trained = {
        "model": model.name, "weights": fingerprint_now(model.adapted), **asdict(settings),
        "loss": loss, "first": ranks.first, "mean_place": ranks.mean,
    }  # fmt: skip
    save_ranker(out, ranker)
    return Outcome(ranker.folded(), loss, ranks, seconds)


def negatives(
    model: Model, books: Seq[Book], count: int, chance: Random,
    progress: TrainingProgress | None = None,
) -> list[Pair]:  # fmt: skip
    """Pairs with what the model wrote in the place of the continuation, by nucleus sampling.

    Args:
        model: that writes.
        books: with the prefixes.
        count: how many.
        chance: which.
        progress: told of them.
    """
    told = progress or TrainingProgress()
    if count:
        told.stage("writing negatives", count, "texts")
    pairs = [_book(books, chance).draw(1, chance)[0] for _ in range(count)]
    found: list[Pair] = []
    for start in range(0, count, _WRITTEN):
        part = pairs[start : start + _WRITTEN]
        texts = model.generate_batch(
            [each.prefix for each in part], max_new_tokens=len(part[0].suffix), temperature=1.0,
            top_p=0.9, seed=[chance.getrandbits(32) for _ in part], stop_ids=(),
        )  # fmt: skip
        for each, text in zip(part, texts, strict=True):
            found.append(Pair(each.prefix, each.suffix, list(text.require().token_ids)))
        told.advance(len(part))
    return found


@torch.inference_mode(False)
def fit(
    model: Model, books: Seq[Book], written: Seq[Pair], shape: Shape, settings: Settings,
    progress: TrainingProgress | None = None, *, in_book: bool = True,
) -> tuple[BiEncoder, float, float]:  # fmt: skip
    """Trains an encoder.

    Args:
        model: whose embeddings it begins with.
        books: what is trained on.
        written: pairs with generative negatives; a quarter of a batch is drawn from them.
        shape: of the encoder.
        settings: how it is trained.
        progress: told of steps.
        in_book: whether a batch has several pairs of a document; False has one of each draw.

    Returns:
        The encoder, the mean loss of the last tenth of the steps, and the seconds.

    Raises:
        TrainingError: for a loss that is no number.
    """
    told, chance = progress or TrainingProgress(), Random(settings.seed + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        ranker = _fresh(model, shape).train()
        moved = [each for each in ranker.parameters() if each.requires_grad]
        optimizer = AdamW(moved, lr=settings.lr, weight_decay=0.01)
        told.stage("training", settings.steps, "steps")
        losses, begin = [], time.perf_counter()
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
            loss = _loss(ranker, batch_of(books, written, settings, chance, in_book))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(moved, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise TrainingError(f"step {step + 1}: the loss is no number; give a smaller lr")
            record = {"loss": losses[-1], "seconds": time.perf_counter() - begin}
            told.step(step + 1, settings.steps, record)
    last = statistics.fmean(losses[-max(1, settings.steps // 10) :])
    return ranker.eval().requires_grad_(False), last, time.perf_counter() - begin


def batch_of(
    books: Seq[Book], written: Seq[Pair], settings: Settings, chance: Random, in_book: bool = True
) -> list[Pair]:
    """The pairs of an update.

    Args:
        books: with the pairs.
        written: pairs with generative negatives.
        settings: how many.
        chance: which.
        in_book: whether several come from one document.
    """
    found = chance.sample(list(written), min(len(written), settings.batch // 4))
    while len(found) < settings.batch:
        count = min(settings.together if in_book else 1, settings.batch - len(found))
        found += _book(books, chance).draw(count, chance)
    return found


def ranks_in(
    ranker: BiEncoder, books: Seq[Book], count: int = 200, others: int = 10, seed: int = 0,
    elsewhere: bool = False,
) -> Ranks:  # fmt: skip
    """Where a ranker puts the true continuation among others.

    Args:
        ranker: that ranks.
        books: with the prefixes.
        count: of prefixes.
        others: negatives of each, of the same document.
        seed: of what is drawn.
        elsewhere: negatives of other documents.
    """
    chance, places, sizes = Random(seed), [], []
    for _ in range(count):
        book = _book(books, chance)
        true, *wrong = book.draw(1 + (0 if elsewhere else others), chance)
        if elsewhere:
            rest = [each for each in books if each is not book] or books
            wrong = [_book(rest, chance).draw(1, chance)[0] for _ in range(others)]
        scores = ranker.scores(true.prefix, [true.suffix, *(each.suffix for each in wrong)])
        places.append(1 + sum(each > scores[0] for each in scores[1:]))
        sizes.append(len(scores))
    first = places.count(1) / count
    return Ranks(first, statistics.fmean(places), statistics.fmean(1 / n for n in sizes), count)


def _loss(ranker: BiEncoder, pairs: Seq[Pair]) -> Tensor:
    """InfoNCE of prefixes against all continuations and all that was written."""
    written = [each.written for each in pairs if each.written is not None]
    before = ranker([each.prefix for each in pairs], PREFIX)
    behind = ranker([*(each.suffix for each in pairs), *written], SUFFIX)
    scores = ranker.scale * (before @ behind.T)
    return F.cross_entropy(scores, torch.arange(len(pairs), device=scores.device))


def _fresh(model: Model, shape: Shape) -> BiEncoder:
    table: Any = model.adapted.model.get_input_embeddings().weight
    own = "" if model.tokenizer is None else fingerprint(model.tokenizer)
    held = table.detach().to("cpu", torch.float32)
    return BiEncoder(held / held.std().clamp_min(1e-6), shape, own)


def _book(books: Seq[Book], chance: Random) -> Book:
    """One of the documents, by their lengths."""
    return chance.choices(books, [len(each.starts) for each in books])[0]


def _cut(model: Model, text: str) -> tuple[Ids, list[int]]:
    """Ids of a text and where sentences begin, each with the space that stands before it."""
    pieces, space = [], ""
    for each in sentences(text):
        bare = each.rstrip()
        if bare:
            pieces.append(space + bare)
            space = each[len(bare) :]
        else:
            space += each
    ids: Ids = []
    starts: list[int] = []
    tokenizer: Any = model._tokenizer()
    for row in tokenizer(pieces, add_special_tokens=False)["input_ids"] if pieces else []:
        starts.append(len(ids))
        ids += row
    return ids, starts


__all__ = [
    "Book", "Library", "Outcome", "Pair", "Ranks", "Settings", "batch_of", "fit", "library",
    "negatives", "ranks_in", "train",
]  # fmt: skip
