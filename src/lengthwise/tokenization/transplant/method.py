"""What a way of making rows is, what it is given, and which there are.

`pyproject.toml` declares ours under the group `lengthwise.transplants`, as a third party does.
"""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from lengthwise._utils.papers import Papers
from lengthwise._utils.registry import Registry
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Told


def setting(
    default: Any, help: str, low: float | None = None, high: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:  # fmt: skip
    """A field that is an option of a transplant: int, float, bool or str.

    Args:
        default: the paper's, or that of its released code.
        help: what it means, in a few words.
        low: smallest value, itself allowed.
        high: largest value, itself allowed.
        choices: the values allowed; None is any.
    """
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Donor:
    """A model's old rows, and the tokens that want new ones.

    matrices: float32 `[old tokens, width]`: input embeddings, and for a model that is not tied its
    output embeddings and their bias (width 1) if there is one. spelled: of each old token its
    bytes, None for special ones. wanted: bytes of the tokens that have no row yet. pieces: of each
    of these the old tokens that spell it, none where they cannot.
    """

    matrices: tuple[Tensor, ...]
    spelled: tuple[bytes | None, ...]
    wanted: tuple[bytes, ...]
    pieces: tuple[tuple[int, ...], ...]

    @cached_property
    def fingerprint(self) -> str:
        """Of the old input embeddings and what the tokens are."""
        return fingerprint_of(self.matrices[0], self.spelled)

    def fingerprints(self) -> list[str]:
        """The same of these rows in every dtype that a model is loaded in, this one's first."""
        kinds = (torch.float32, torch.bfloat16, torch.float16)
        return [fingerprint_of(self.matrices[0].to(each), self.spelled) for each in kinds]

    def drawn(self, count: int, seed: int) -> tuple[Tensor, ...]:
        """Rows of each matrix from a normal law with the scalar mean and deviation of its numbers.

        Args:
            count: how many.
            seed: of the draws.
        """
        found = []
        for number, each in enumerate(self.matrices):
            noise = torch.Generator().manual_seed(seed + number)
            row = torch.randn(count, each.shape[1], generator=noise)
            found.append(row * each.std() + each.mean())
        return tuple(found)


def fingerprint_of(embeddings: Tensor, spelled: Seq[bytes | None]) -> str:
    """Of a model's input embeddings and its vocabulary.

    Args:
        embeddings: `[tokens, width]`.
        spelled: the bytes of each token.
    """
    found = hashlib.sha256(repr(list(spelled)).encode())
    found.update(embeddings[::7].contiguous().float().numpy().tobytes())
    return found.hexdigest()


class Transplant(ABC):
    """A way to make rows for tokens that a model does not have; its fields are its options."""

    name: ClassVar[str]
    paper: ClassVar[Papers] = None

    def __post_init__(self) -> None:
        """Raises TokenizerError for an option out of its bounds."""
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            value, about = getattr(self, each.name), each.metadata
            low, high, choices = (about.get(key) for key in ("low", "high", "choices"))
            if (
                (low is not None and not value >= low) or (high is not None and not value <= high)
                or (choices is not None and value not in choices)
            ):  # fmt: skip
                allowed = f"one of {', '.join(choices)}" if choices else (
                    f"{'any' if low is None else f'{low:g}'} to "
                    f"{'any' if high is None else f'{high:g}'}"
                )  # fmt: skip
                raise TokenizerError(f"{self.name}: {each.name}={value}: allowed is {allowed}")

    def check(self) -> None:
        """Raises TokenizerError for what this way needs and cannot find, before any work."""
        return

    @abstractmethod
    def rows(self, donor: Donor, told: Told) -> tuple[Tensor, ...]:
        """The new rows, for each of the donor's matrices.

        Args:
            donor: the old rows, and what is wanted.
            told: called with progress.

        Returns:
            Of each matrix float32 `[wanted, width]`.

        Raises:
            TokenizerError: where it cannot be done for this model.
        """


def silent(what: str, share: float) -> None:
    """Tells nobody."""


def _transplant(name: str, value: object) -> type[Transplant]:
    if not (isinstance(value, type) and issubclass(value, Transplant)):
        raise TypeError(f"{name} is no Transplant")
    return value


TRANSPLANTS = Registry("lengthwise.transplants", "transplant", _transplant, TokenizerError)

__all__ = [
    "TRANSPLANTS", "Donor", "Transplant", "fingerprint_of", "setting", "silent",
]  # fmt: skip
