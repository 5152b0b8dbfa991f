"""ZeTT: rows of new tokens by a network that reads how the old tokenizer spells them.

Minixhofer, Ponti and Vulic, "Zero-Shot Tokenizer Transfer", NeurIPS 2024 (arXiv 2405.07883), code
bminixhofer/zett. The network (`hypernetwork.py`) is trained once for a model, on tokenizers that
are sampled anew each step (`training/zett.py`), and then gives rows for any tokenizer at once.

Ours: a token without pieces is drawn at random, and a bias of the output embeddings is the mean of
those of the pieces; the paper's network may predict one. Of a token of more than seven pieces the
first seven are read, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise._utils.papers import Paper
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Told
from lengthwise.tokenization.transplant.hypernetwork import HOW, header, load_network
from lengthwise.tokenization.transplant.mean import uniform
from lengthwise.tokenization.transplant.method import Donor, Transplant, setting
from lengthwise.tokenization.transplant.mixture import mixed

PAPER = Paper(
    "Zero-Shot Tokenizer Transfer", "Minixhofer et al.", 2024, arxiv="2405.07883",
    venue="NeurIPS", code="https://github.com/bminixhofer/zett",
)  # fmt: skip
_ROWS = 1024


@dataclass(frozen=True)
class Zett(Transplant):
    """Rows of a trained hypernetwork."""

    name: ClassVar[str] = "zett"
    paper: ClassVar[Paper] = PAPER

    path: str = setting("", "file of a hypernetwork trained for this model")

    def check(self) -> None:
        """Raises TokenizerError where there is no file, or it is no network's."""
        if not self.path:
            raise TokenizerError(f'zett needs a network: give its file, as in "zett(path=FILE)"; '
                                 f"{HOW}")  # fmt: skip
        header(Path(self.path).expanduser())

    @torch.inference_mode()
    def rows(self, donor: Donor, told: Told) -> tuple[Tensor, ...]:
        """The network's, see `Transplant.rows`."""
        network = load_network(Path(self.path).expanduser(), donor)
        found = list(mixed(donor, [uniform(each) for each in donor.pieces]))
        known = [n for n, each in enumerate(donor.pieces) if each]
        for first in range(0, len(known), _ROWS):
            part = known[first : first + _ROWS]
            made = network([donor.pieces[n] for n in part])
            for matrix, rows in zip(found, made, strict=False):
                matrix[part] = rows
            told("rows", (first + len(part)) / len(known))
        return tuple(found)


__all__ = ["PAPER", "Zett"]
