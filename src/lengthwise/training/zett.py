"""Training of ZeTT's hypernetwork for a model, whose weights stay as they are.

Minixhofer, Ponti and Vulic, "Zero-Shot Tokenizer Transfer", NeurIPS 2024 (arXiv 2405.07883). Two
phases:

    identity   H gives old tokens their own rows: the squared distance, summed over numbers
    main       each step draws a tokenizer of recent texts; a batch is cut by it, the model reads
               it with H's rows, and
               loss = its loss a token + 0.5 * lexical,
               lexical = mean |H(t) - E_old[t]|^2 / mean |E_old|^2  over tokens t that are old ones

The paper's: 10k and 200k steps of 128 texts, rate 3e-4 falling to 6e-5, gradients clipped at 0.1,
weight decay 0.01, beta2 0.95, for 7B parameters. Ours begins with fewer: see `Settings`. In the
identity phase gradients are clipped at 1, and distances are of scaled rows, as the losses of both
matrices are summed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence as Seq
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise.tokenization.transplant.hypernetwork import HyperNetwork, Shape, save_network
from lengthwise.tokenization.transplant.loss import opening, stretches
from lengthwise.tokenization.transplant.method import Donor
from lengthwise.tokenization.transplant.pieces import Pieces
from lengthwise.tokenization.transplant.sampled import Sampler, Sampling, spelled
from lengthwise.tokenization.transplant.surgery import (
    donor_of,
    matrices_of,
    refuse,
    spelled as spelled_by,
)
from lengthwise.training.config import TrainingError

LEXICAL = 0.5
"""Weight of the lexical loss; the paper's."""
_TOKENS = 512
_END = 0.2
"""The share of the rate that is left at the end; the paper's 6e-5 of 3e-4."""


@dataclass(frozen=True)
class Settings:
    """How a hypernetwork is trained.

    Attributes:
        identity: steps of the identity phase (the paper's: 10,000).
        steps: of the main phase (the paper's: 200,000).
        batch: texts of a step (the paper's: 128).
        length: bytes of a text.
        lr: AdamW's rate at its highest (the paper's: 3e-4).
        clip: most that the norm of a gradient of the main phase may be.
        lexical: weight of the lexical loss.
        seed: of what is drawn.
        sampling: how tokenizers are drawn.
    """

    identity: int = 500
    steps: int = 500
    batch: int = 8
    length: int = 512
    lr: float = 1e-3
    clip: float = 0.1
    lexical: float = LEXICAL
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        for name in ("identity", "steps", "batch"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name}={getattr(self, name)}: give at least 1")
        if self.length < 16:
            raise TrainingError(f"length={self.length}: give at least 16 bytes")
        if self.sampling.vocabulary <= 256:
            raise TrainingError(
                f"vocabulary={self.sampling.vocabulary}: give more than the 256 single bytes"
            )
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise TrainingError(f"{name}={value}: give a number above 0")


@dataclass(frozen=True)
class Outcome:
    """What training gave. identity: distance of scaled rows a number at the end of the first phase.
    losses: of the main phase, nats a byte of each step."""

    network: HyperNetwork
    identity: float
    losses: list[float]


Told = Callable[[str, int, int, float], None]
"""Progress: the phase, steps done, steps in all, and the loss."""


def train(
    model: PreTrainedModel, own: PreTrainedTokenizerBase, texts: Seq[str], out: Path | None,
    shape: Shape | None = None, how: Settings | None = None,
    told: Told = lambda phase, done, steps, loss: None,
) -> Outcome:  # fmt: skip
    """Trains a hypernetwork.

    Args:
        model: a causal language model in float32, wherever it is; it stays as it is.
        own: its tokenizer.
        texts: what it is trained on.
        out: the file to write; None writes none.
        shape: of the network.
        how: steps and rates.
        told: called with progress.

    Raises:
        LengthwiseError: a model or text that this cannot be done with, or a loss that is no number.
    """
    how, shape = how or Settings(), shape or Shape()
    refuse(model)
    parts = [part for text in texts for part in stretches(text, how.length)]
    if not parts:
        raise TrainingError("there is no text to train on: name a file with text")
    old = spelled_by(own, "the model's tokenizer")
    pieces = Pieces(own, old)
    donor = donor_of(matrices_of(model), pieces, old, ())
    embeddings = tuple(m for m in donor.matrices if m.shape[1] == donor.matrices[0].shape[1])
    torch.manual_seed(how.seed)
    network = HyperNetwork(embeddings, shape).to(model.device)
    told_as = _Run(model, own, network, donor, embeddings, pieces, how)
    identity = told_as.identity(told)
    with _still(model):
        losses = told_as.main(parts, told)
    network.eval()
    if out is not None:
        save_network(out, network, donor, {**asdict(how), "identity_loss": identity})
    return Outcome(network, identity, losses)


@contextmanager
def _still(model: PreTrainedModel) -> Iterator[None]:
    """While it lasts, no weight of the model wants a gradient, and all its rows pass one on: the
    number of its padding token is that of another token in a sampled tokenizer."""
    inner: Any = model.get_input_embeddings()
    padding, wanting = inner.padding_idx, [w for w in model.parameters() if w.requires_grad]
    try:
        inner.padding_idx = None
        for weight in wanting:
            weight.requires_grad_(False)
        yield
    finally:
        inner.padding_idx = padding
        for weight in wanting:
            weight.requires_grad_(True)


class _Run:
    """Both phases, over the same network."""

    def __init__(
        self, model: PreTrainedModel, own: PreTrainedTokenizerBase, network: HyperNetwork,
        donor: Donor, embeddings: tuple[Tensor, ...], pieces: Pieces, how: Settings,
    ) -> None:  # fmt: skip
        self._model, self._network, self._how = model, network, how
        self._device = model.device
        self._embeddings = tuple(each.to(self._device) for each in embeddings)
        self._pieces = pieces
        self._texts = [n for n, data in enumerate(donor.spelled) if data]
        self._start, self._chance = opening(own), Random(how.seed)
        names = {id(weight): name for name, weight in model.named_parameters()}
        inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
        self._names = [names[id(inner.weight)]]
        if len(embeddings) > 1:
            self._names.append(names[id(outer.weight)])
        # A bias is of the old vocabulary; the sampled ones go without.
        self._bias = None if outer.bias is None else names[id(outer.bias)]

    def identity(self, told: Told) -> float:
        """H gives old tokens their own rows. The last distance."""
        steps, loss = self._how.identity, torch.tensor(0.0)
        optimizer = self._optimizer()
        for step in range(steps):
            ids = self._chance.sample(self._texts, min(_TOKENS, len(self._texts)))
            loss = self._distance([(each,) for each in ids], ids)
            self._update(optimizer, loss, step, steps, clip=1.0)
            told("identity", step + 1, steps, loss.item())
        return loss.item()

    def _distance(self, pieces: Seq[Seq[int]], ids: Seq[int]) -> Tensor:
        """Mean square of scaled numbers, summed over matrices."""
        total = torch.zeros((), device=self._device)
        scales = self._network.deviations
        parts = zip(self._network(pieces), self._embeddings, scales, strict=True)
        for rows, matrix, scale in parts:
            total = total + ((rows - matrix[list(ids)]) / scale).square().mean()
        return total

    def main(self, parts: Seq[str], told: Told) -> list[float]:
        """The model's loss on texts cut by sampled tokenizers. Nats a byte of each step."""
        how, losses = self._how, []
        sampler, optimizer = Sampler(how.sampling, how.seed), self._optimizer()
        sampler.show(self._chance.choices(parts, k=how.sampling.queue))
        for step in range(how.steps):
            texts = self._chance.choices(parts, k=how.batch)
            sampler.show(texts)
            tokenizer = sampler.draw()
            cuts = [self._pieces.cut(each) for each in spelled(tokenizer)]
            rows = self._network([each or (self._start,) for each in cuts])
            ids = [each.ids for each in tokenizer.encode_batch(texts)]
            nats = self._nats(ids, rows)
            count = sum(map(len, ids))
            loss = nats / count + how.lexical * self._lexical(cuts, rows)
            self._update(optimizer, loss, step, how.steps, how.clip)
            losses.append(float(nats.detach()) / sum(len(text.encode()) for text in texts))
            told("main", step + 1, how.steps, losses[-1])
        return losses

    def _nats(self, ids: Seq[Seq[int]], rows: tuple[Tensor, ...]) -> Tensor:
        """The summed loss of texts, each behind the model's opening token."""
        count, longest = len(rows[0]), max(map(len, ids))
        replaced = {
            name: torch.cat([made, matrix[self._start][None]])
            for name, made, matrix in zip(self._names, rows, self._embeddings, strict=True)
        }
        if self._bias is not None:
            replaced[self._bias] = torch.zeros(count + 1, device=self._device)
        given = torch.full((len(ids), longest), count)
        targets = torch.full((len(ids), longest), -100)
        for number, row in enumerate(ids):
            given[number, 1 : len(row)] = torch.tensor(row[:-1], dtype=torch.long)
            targets[number, : len(row)] = torch.tensor(row, dtype=torch.long)
        logits = functional_call(
            self._model, replaced, (), {"input_ids": given.to(self._device), "use_cache": False}
        ).logits.flatten(0, 1)
        goals = targets.flatten().to(self._device)
        return F.cross_entropy(logits.float(), goals, ignore_index=-100, reduction="sum")

    def _lexical(self, cuts: Seq[Seq[int]], rows: tuple[Tensor, ...]) -> Tensor:
        same = [n for n, each in enumerate(cuts) if len(each) == 1]
        total = torch.zeros((), device=self._device)
        for made, matrix in zip(rows, self._embeddings, strict=True):
            target = matrix[[cuts[n][0] for n in same]]
            norm = target.square().sum(1).mean()
            total = total + (made[same] - target).square().sum(1).mean() / norm
        return total

    def _optimizer(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            self._network.parameters(), lr=self._how.lr, betas=(0.9, 0.95), weight_decay=0.01
        )

    def _update(
        self, optimizer: torch.optim.AdamW, loss: Tensor, step: int, steps: int, clip: float
    ) -> None:
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._network.parameters(), clip)
        if not torch.isfinite(loss.detach() + norm):
            raise TrainingError(
                f"the loss or gradient of step {step} is not finite: train with a lower lr"
            )
        for group in optimizer.param_groups:
            group["lr"] = self._how.lr * (1 - (1 - _END) * step / steps)
        optimizer.step()
        optimizer.zero_grad()


__all__ = ["LEXICAL", "Outcome", "Settings", "Told", "train"]
