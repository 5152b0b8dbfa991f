"""The seam of soft contexts: a method, the encoder it starts, and what that is trained on.

A soft context is a frozen dataclass of options, as methods of recipes are. It starts an encoder for
a model. The encoder turns ids into embeddings, and the model, whose weights stay as they are, reads
those in place of its own. Which ids an encoder is trained on, its method draws.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch
from torch import Tensor, nn

from lengthwise._utils.papers import Papers, papers_of
from lengthwise._utils.registry import Registry
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.options import check_options, options, written
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.limits import takes_embeddings


@dataclass(frozen=True)
class Example:
    """What one loss is taken on: the model reads `before`, the embeddings of `context`, `after`.

    context: ids that the encoder reads. after: ids that the model reads behind their embeddings, of
    which those from `start` on are predicted. before: ids before them. ratio: as for the encoder.
    """

    context: tuple[int, ...]
    after: tuple[int, ...]
    before: tuple[int, ...] = ()
    start: int = 0
    ratio: int | None = None


@dataclass(frozen=True)
class Texts:
    """What examples are drawn of.

    ids: of texts. length: tokens that a drawn text has, at most. pairs: examples of questions,
    context and answer, for those who learn from them.
    """

    ids: tuple[tuple[int, ...], ...]
    length: int
    pairs: tuple[Example, ...] = ()

    def draw(self, tokens: int, chance: Random) -> tuple[int, ...]:
        """Consecutive tokens of one text.

        Args:
            tokens: how many.
            chance: texts are drawn by their length.

        Raises:
            LengthwiseError: where no text has as many.
        """
        long = [each for each in self.ids if len(each) >= tokens]
        if not long:
            raise LengthwiseError(
                f"no text has the {tokens:,} tokens that are to be drawn of one: give longer "
                "texts, or a smaller length"
            )
        (text,) = chance.choices(long, [len(each) - tokens + 1 for each in long])
        start = chance.randrange(len(text) - tokens + 1)
        return text[start : start + tokens]


class Encoder(nn.Module, ABC):
    """Reads ids, and gives embeddings that a model reads in their place. Made by `start`.

    model: whose embeddings they stand for. chunk: tokens that are encoded together, at most; longer
    texts are encoded chunk by chunk, and chunks do not see each other.
    """

    def __init__(self, model: AdaptedModel, chunk: int) -> None:
        super().__init__()
        if not takes_embeddings(model):
            raise Refused(
                f"{model.family} reads the ids of its tokens in later layers too, and embeddings "
                "alone do not say them",
                "take a model of another family",
            )
        self.model, self.chunk = model, chunk

    @abstractmethod
    def places(self, tokens: int, ratio: int | None = None) -> list[int]:
        """Which tokens of a chunk the embeddings stand for, ascending; as many as there are.

        Args:
            tokens: of the chunk.
            ratio: as for `forward`.
        """

    @abstractmethod
    def forward(self, contexts: Seq[Seq[int]], ratio: int | None = None) -> list[Tensor]:
        """Embeddings `[len(places), hidden]` of each chunk, in whose graph the encoder is.

        Args:
            contexts: ids of several chunks.
            ratio: tokens an embedding, where that is chosen when a text is read.
        """

    def checked(self, ratio: int | None) -> int | None:
        """The ratio that is meant; by default an encoder has none.

        Args:
            ratio: as the user gave it; None is the encoder's own.

        Raises:
            LengthwiseError: for one that it does not have.
        """
        if ratio is not None:
            raise LengthwiseError(
                f"ratio={ratio}: the number of embeddings of this encoder is fixed; leave it out"
            )
        return None

    def pieces(self, ids: Seq[int]) -> Iterator[Seq[int]]:
        """Chunks of a text.

        Args:
            ids: of the text.
        """
        return (ids[at : at + self.chunk] for at in range(0, len(ids), self.chunk))

    def stand_ins(self, ids: Seq[int], ratio: int | None = None) -> list[int]:
        """An id for each embedding of a text: that of a token that it stands for.

        Args:
            ids: of the text.
            ratio: as for `forward`.
        """
        return [part[at] for part in self.pieces(ids) for at in self.places(len(part), ratio)]

    @torch.no_grad()
    def encode(
        self, ids: Seq[int], ratio: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:  # fmt: skip
        """Embeddings `[m, hidden]` of a text, in the model's dtype. Memory is that of one chunk.

        Args:
            ids: of the text, at least one.
            ratio: as for `forward`.
            progress: called with the number of tokens of each chunk.
        """
        found = []
        for part in self.pieces(ids):
            found += [each.to(self.model.dtype) for each in self([part], ratio)]
            if progress is not None:
                progress(len(part))
        return torch.cat(found)


class SoftContext(ABC):
    """A way to make a soft context: options of a frozen dataclass.

    name: as users write it. paper: what it rests on. stages: of its training, in their order.
    asked_stages: those of them that learn from pairs. rate: at which the paper trains, or ours
    where that is not known. batch: examples of an update there.
    """

    name: ClassVar[str]
    paper: ClassVar[Papers]
    stages: ClassVar[tuple[str, ...]]
    asked_stages: ClassVar[tuple[str, ...]] = ()
    rate: ClassVar[float]
    batch: ClassVar[int] = 8

    def __post_init__(self) -> None:
        check_options(self)

    def __str__(self) -> str:
        return written(self)

    @abstractmethod
    def start(self, model: AdaptedModel) -> Encoder:
        """An encoder for a model, in float32, not trained yet.

        Args:
            model: that will read its embeddings.

        Raises:
            LengthwiseError: for options that this model leaves no room for.
            Refused: for a model that has no copy, or reads no embeddings.
        """

    @abstractmethod
    def example(self, stage: str, texts: Texts, chance: Random) -> Example:
        """One example of a stage.

        Args:
            stage: one of `stages`.
            texts: what it is drawn of.
            chance: decides on it.

        Raises:
            LengthwiseError: for texts that are too short for one.
        """


def _check(name: str, found: object) -> type[SoftContext]:
    ours = isinstance(found, type) and issubclass(found, SoftContext)
    if not (ours and dataclasses.is_dataclass(found)):
        raise TypeError("it is no dataclass of lengthwise.soft_contexts.base.SoftContext")
    assert isinstance(found, type) and issubclass(found, SoftContext)
    if found.name != name:
        raise ValueError(f"its class is named {found.name!r}")
    papers_of(found.paper)
    options(found)
    return found


SOFT_CONTEXTS: Registry[type[SoftContext]] = Registry(
    "lengthwise.soft_contexts", "soft context", _check, RecipeError
)

__all__ = ["SOFT_CONTEXTS", "Encoder", "Example", "SoftContext", "Texts"]
