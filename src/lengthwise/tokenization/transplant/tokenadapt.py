"""TokenAdapt: a new token as a mixture of old ones, of its pieces and of what means the same.

Sharthak et al., "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation
and Supertoken Learning", 2025 (arXiv 2505.09738), code Tinycompany-AI/tokenadapt. For a new token s
and a text encoder `ext`:

    local    s is cut into pieces p_i by the old tokenizer
             w = softmax(cos(ext(s), ext(p_i))),  len_i = |p_i| / |s|,  c_i = (w_i + len_i) / 2
             a = softmax(c / tau),  e_local = sum a_i E_old[p_i]
    global   the k nearest old tokens n_j by cos(ext(s), ext(n_j)), those below `threshold` dropped
             g = softmax(sim / tau),  e_global = sum g_j E_old[n_j]
    e        (1 - w_g) e_local + w_g e_global; one alone where the other is empty; where both are,
             a draw with the scalar mean and deviation of the old matrix

Weights are found once and used for input and output embeddings. The paper's `ext` is
nomic-embed-text-v2-moe; any sentence encoder in a folder may be named. The second softmax over
values of 0 to 1 is flat at tau 0.3, and is left so.

Ours: tokens are matched by bytes, where the paper's code compares decoded strings. A token that
ends inside a character has no text for `ext`: its pieces are then weighed by length alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise._utils.papers import Paper
from lengthwise._utils.text_encoder import TextEncoder
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Told
from lengthwise.tokenization.transplant.method import Donor, setting
from lengthwise.tokenization.transplant.mixture import Mixing, Weights

NOMIC = "nomic-ai/nomic-embed-text-v2-moe"
"""The paper's encoder."""
GUARD = 1e-5
"""What the released code adds to tau."""
_BATCH = 256
_ROWS = 512


@dataclass(frozen=True)
class Heuristics(Mixing):
    """The local and the global heuristic, over vectors that a subclass finds."""

    tau: float = setting(0.3, "temperature of both softmaxes", low=1e-6)
    k: int = setting(3, "nearest old tokens of the global heuristic", low=0)
    w_g: float = setting(0.3, "weight of the global heuristic", low=0.0, high=1.0)
    threshold: float = setting(0.0, "least similarity of a near token", low=-1.0, high=1.0)

    @abstractmethod
    def vectors(self, donor: Donor, told: Told) -> tuple[Tensor, Tensor]:
        """Of old and wanted tokens, each of length 1, or 0 for one that means nothing.

        Args:
            donor: the old rows, and what is wanted.
            told: called with progress.

        Returns:
            float32 `[old tokens, width]` and `[wanted, width]`.
        """

    def barred(self, donor: Donor, number: int) -> Seq[int]:
        """Old tokens that are no neighbours of a wanted one.

        Args:
            donor: the old rows, and what is wanted.
            number: of the wanted token.
        """
        return ()

    def weights(self, donor: Donor, told: Told) -> Seq[Weights]:
        """Those of the hybrid, see `Mixing.weights`."""
        old, new = self.vectors(donor, told)
        near = self._near(donor, old, new, told) if self.k and self.w_g else [{}] * len(new)
        return [
            hybrid(self._local(donor, number, old, new[number]), near[number], self.w_g)
            for number in range(len(donor.wanted))
        ]

    def _local(self, donor: Donor, number: int, old: Tensor, own: Tensor) -> Weights:
        pieces = donor.pieces[number]
        if not pieces:
            return {}
        sims = (old[list(pieces)] @ own).tolist()
        sizes = lengths([donor.spelled[each] or b"" for each in pieces])
        return local_weights(pieces, sims, sizes, self.tau)

    def _near(self, donor: Donor, old: Tensor, new: Tensor, told: Told) -> list[Weights]:
        meant = old.norm(dim=1) > 0
        found: list[Weights] = []
        for first in range(0, len(new), _ROWS):
            sims = new[first : first + _ROWS] @ old.T
            sims[:, ~meant] = -torch.inf
            for row in range(len(sims)):
                sims[row, list(self.barred(donor, first + row))] = -torch.inf
            best = sims.topk(min(self.k, int(meant.sum())))
            for row, (values, ids) in enumerate(zip(*map(Tensor.tolist, best), strict=True)):
                known = bool(new[first + row].any())
                found.append(global_weights(ids, values, self.tau, self.threshold) if known else {})
            told("nearest tokens", len(found) / len(new))
        return found


@dataclass(frozen=True)
class TokenAdapt(Heuristics):
    """The paper's: similarities are those of a sentence encoder."""

    name: ClassVar[str] = "tokenadapt"
    paper: ClassVar[Paper] = Paper(
        "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation and "
        "Supertoken Learning", "Sharthak et al.", 2025, arxiv="2505.09738",
        code="https://github.com/Tinycompany-AI/tokenadapt",
    )  # fmt: skip

    encoder: str = setting(NOMIC, "folder of a sentence encoder of transformers")

    def check(self) -> None:
        """Raises TokenizerError where there is no encoder."""
        _opened(self.encoder)

    def vectors(self, donor: Donor, told: Told) -> tuple[Tensor, Tensor]:
        """The encoder's, see `Heuristics.vectors`."""
        old = embedded(self.encoder, tuple(map(text_of, donor.spelled)), told)
        return old, embedded(self.encoder, tuple(map(text_of, donor.wanted)), told)


def local_weights(pieces: Seq[int], sims: Seq[float], sizes: Seq[int], tau: float) -> Weights:
    """How much each piece of a token is of it.

    Args:
        pieces: old tokens; one that stands twice has both weights.
        sims: of each its similarity to the whole.
        sizes: of each its length.
        tau: temperature.
    """
    whole = sum(sizes)
    shares = torch.tensor([each / whole for each in sizes], dtype=torch.float64)
    scores = (torch.tensor(sims, dtype=torch.float64).softmax(0) + shares) / 2
    found: dict[int, float] = {}
    for piece, share in zip(pieces, (scores / (tau + GUARD)).softmax(0).tolist(), strict=True):
        found[piece] = found.get(piece, 0.0) + share
    return found


def global_weights(ids: Seq[int], sims: Seq[float], tau: float, threshold: float) -> Weights:
    """How much of a token each of its neighbours is.

    Args:
        ids: old tokens.
        sims: of each its similarity.
        tau: temperature.
        threshold: below it a neighbour is none.
    """
    kept = [(each, sim) for each, sim in zip(ids, sims, strict=True) if sim >= threshold]
    values = torch.tensor([sim for _, sim in kept], dtype=torch.float64) / (tau + GUARD)
    return {each: share for (each, _), share in zip(kept, values.softmax(0).tolist(), strict=True)}


def hybrid(local: Weights, near: Weights, w_g: float) -> Weights:
    """Both heuristics together.

    Args:
        local: weights of pieces.
        near: weights of neighbours.
        w_g: of the neighbours.
    """
    if not local or not near:
        return local or near
    found = {each: (1 - w_g) * share for each, share in local.items()}
    for each, share in near.items():
        found[each] = found.get(each, 0.0) + w_g * share
    return found


def lengths(pieces: Seq[bytes]) -> list[int]:
    """Characters of each piece; bytes where one of them is half a character.

    Args:
        pieces: their bytes.
    """
    try:
        return [len(each.decode()) for each in pieces]
    except UnicodeDecodeError:
        return [len(each) for each in pieces]


def text_of(data: bytes | None) -> str | None:
    """A token's text; None where it has none.

    Args:
        data: its bytes, None for a special token.
    """
    try:
        return None if not data else data.decode()
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=1)
def _opened(folder: str) -> TextEncoder:
    way_out = (
        f'name the folder of a sentence encoder, as in --by "tokenadapt(encoder=FOLDER)" (the '
        f"paper's is {NOMIC}), or take tokenadapt_own, which asks the model's own embeddings"
    )
    try:
        return TextEncoder(str(Path(folder).expanduser()) if Path(folder).exists() else folder)
    except Exception as error:  # of transformers, the hub client, or the encoder's own code
        raise TokenizerError(
            f"tokenadapt: there is no encoder at {folder!r} ({first_line(error)}): {way_out}"
        ) from error


_Key = tuple[str, tuple[str | None, ...]]
# Two tokenizers of the last call: settings are compared on the same vectors.
_FOUND: dict[_Key, Tensor] = {}


def embedded(folder: str, texts: tuple[str | None, ...], told: Told) -> Tensor:
    """Vectors of length 1, zeros for None: float32 `[texts, width]`. The last ones are kept.

    Args:
        folder: of the encoder.
        texts: what is embedded.
        told: called with progress.
    """
    encoder, key = _opened(folder), (folder, texts)
    if key in _FOUND:
        return _FOUND[key]
    found = torch.zeros(len(texts), encoder.width)
    order = sorted((n for n, each in enumerate(texts) if each), key=lambda n: len(texts[n] or ""))
    for first in range(0, len(order), _BATCH):
        part = order[first : first + _BATCH]
        found[part] = F.normalize(encoder.embed([texts[n] or "" for n in part]), dim=1)
        told("tokens embedded", (first + len(part)) / len(order))
    while len(_FOUND) > 1:
        del _FOUND[next(iter(_FOUND))]
    _FOUND[key] = found
    return found


__all__ = [
    "NOMIC", "Heuristics", "TokenAdapt", "embedded", "global_weights", "hybrid", "lengths",
    "local_weights", "text_of",
]  # fmt: skip
