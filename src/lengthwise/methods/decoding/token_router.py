"""The router of R2R: whether the large model should say the next token.

    x = W [norm(state), norm(embedding of the small model's word), V softmax(largest logits)]
    x = x + B_i(A_i norm(x)),  A_i of four times the width, with GELU;   then norm and one logit

It is trained on places that `divergence` labels, with the models frozen, by a binary cross-entropy
in which a divergent place weighs as much more as there are fewer of them. The paper's router has
six blocks of width 1,024, trained at rate 5e-5 on batches of 1,024 for 50 epochs at most, and stops
when 10 bring nothing; it is for 1.5B and larger. WIDTH, BLOCKS and `Fit` are ours, for 135M. Norms
and the softmax are those of the released code's `normalize_input`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lengthwise._utils.files import write_aside
from lengthwise._utils.messages import first_line
from lengthwise.errors import LengthwiseError
from lengthwise.methods.decoding.divergence import Places

KIND = "lengthwise token router 1"
WIDTH, BLOCKS = 128, 2
# Times its width that a block is wide inside.
EXPANSION = 4


@dataclass(frozen=True)
class Fit:
    """How a router is trained, by AdamW. patience: epochs without a lower loss on the places held
    out. recall: of divergent places held out, which the threshold is to catch."""

    rate: float = 1e-3
    decay: float = 5e-4
    batch: int = 256
    epochs: int = 50
    patience: int = 10
    dropout: float = 0.1
    recall: float = 0.95
    seed: int = 0


class TokenRouter(nn.Module):
    """small, large: fingerprints of the models it was trained for. threshold: chosen on places
    that were held out."""

    def __init__(
        self, hidden: int, embedding: int, logits: int, width: int = WIDTH, blocks: int = BLOCKS,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.small = self.large = ""
        self.threshold = 0.5
        self.state_norm, self.token_norm = nn.LayerNorm(hidden), nn.LayerNorm(embedding)
        self.of_logits = nn.Linear(logits, hidden)
        self.joined = nn.Linear(2 * hidden + embedding, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, EXPANSION * width), nn.GELU(),
                nn.Dropout(dropout), nn.Linear(EXPANSION * width, width), nn.Dropout(dropout),
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 1)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """hidden, embedding, logits, width, blocks."""
        hidden, logits = self.of_logits.out_features, self.of_logits.in_features
        embedding = self.joined.in_features - 2 * hidden
        return hidden, embedding, logits, self.joined.out_features, len(self.blocks)

    @property
    def size(self) -> int:
        """Its weights."""
        return sum(weight.numel() for weight in self.parameters())

    def forward(self, states: Tensor, embeddings: Tensor, logits: Tensor) -> Tensor:
        """One logit a place, `[n]`; above 0 the large model is wanted.

        Args:
            states: `[n, hidden]`, the small model's last.
            embeddings: `[n, embedding]` of its words.
            logits: `[n, k]`, its largest.
        """
        x = torch.cat(
            [
                self.state_norm(states), self.token_norm(embeddings),
                self.of_logits(logits.softmax(-1)),
            ],
            -1,
        )  # fmt: skip
        x = self.joined(x)
        for block in self.blocks:
            x = x + block(x)
        found: Tensor = self.out(self.norm(x))[:, 0]
        return found

    @torch.no_grad()
    def probs(self, states: Tensor, embeddings: Tensor, logits: Tensor) -> Tensor:
        """Probabilities `[n]` that places are divergent; arguments as those of `forward`."""
        weight = self.out.weight
        given = (each.to(weight.device, weight.dtype) for each in (states, embeddings, logits))
        found: Tensor = self(*given).sigmoid()
        return found


def train(
    seen: Places, held_out: Places, embed: Callable[[Tensor], Tensor], width: int = WIDTH,
    blocks: int = BLOCKS, how: Fit | None = None, told: Callable[[int], None] = lambda _: None,
) -> TokenRouter:  # fmt: skip
    """A router, its threshold chosen.

    Args:
        seen: what it is trained on.
        held_out: what says when to stop, and the threshold.
        embed: the small model's embeddings `[n, hidden]` of tokens `[n]`.
        width: of its blocks.
        blocks: how many.
        how: how it is trained.
        told: called with 1 for each epoch.

    Raises:
        LengthwiseError: where either has no divergent place, or none that is not.
    """
    how = how or Fit()
    for what, some in (("train on", seen), ("choose a threshold on", held_out)):
        divergent = int(some.diverges.sum())
        if not 0 < divergent < len(some):
            raise LengthwiseError(
                f"of {len(some)} places to {what} {divergent} are divergent; a router needs both "
                "kinds: give more texts, or another pair of models"
            )
    inputs = [_inputs(some, embed) for some in (seen, held_out)]
    (own, labels), (other, other_labels) = inputs
    generator = torch.Generator().manual_seed(how.seed)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(how.seed)
        hidden, embedding, logits = (each.shape[1] for each in own)
        router = TokenRouter(hidden, embedding, logits, width, blocks, how.dropout)
        optimizer = torch.optim.AdamW(router.parameters(), lr=how.rate, weight_decay=how.decay)
        weight = (1 - labels).sum() / labels.sum()
        best, kept, waited = float("inf"), router.state_dict(), 0
        for _ in range(how.epochs):
            router.train()
            for batch in torch.randperm(len(labels), generator=generator).split(how.batch):
                optimizer.zero_grad()
                found = router(*(each[batch] for each in own))
                F.binary_cross_entropy_with_logits(
                    found, labels[batch], pos_weight=weight
                ).backward()
                optimizer.step()
            router.eval()
            with torch.no_grad():
                loss = float(F.binary_cross_entropy_with_logits(
                    router(*other), other_labels, pos_weight=weight))  # fmt: skip
            told(1)
            waited += 1
            if loss < best:
                best, waited = loss, 0
                kept = {name: each.clone() for name, each in router.state_dict().items()}
            if waited == how.patience:
                break
    router.load_state_dict(kept)
    router.eval().requires_grad_(False)
    router.threshold = threshold_for(router.probs(*other), held_out.diverges, how.recall)
    return router


def _inputs(places: Places, embed: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], Tensor]:
    embeddings = embed(places.tokens).detach().float().cpu()
    # Read in inference mode they could not be trained on.
    given = [each.clone() for each in (places.states, embeddings, places.logits)]
    return given, places.diverges.float()


def threshold_for(probs: Tensor, diverges: Tensor, recall: float) -> float:
    """The largest threshold that catches a share of the divergent places.

    Args:
        probs: of places, `[n]`.
        diverges: whether they are, `[n]`, at least one.
        recall: the share, above 0.
    """
    own = probs[diverges].sort(descending=True).values
    return float(own[min(len(own), -int(-recall * len(own) // 1)) - 1])


def area(probs: Tensor, diverges: Tensor) -> float:
    """The area under the ROC curve: how often a divergent place has the larger probability.

    Args:
        probs: of places, `[n]`.
        diverges: whether they are, `[n]`, of both kinds.
    """
    yes, no = probs[diverges][:, None], probs[~diverges][None]
    return float(((yes > no).double() + (yes == no).double() / 2).mean())


def save(router: TokenRouter, path: Path | str) -> None:
    """Writes a router, aside and then renamed.

    Args:
        router: what is written.
        path: of the file.

    Raises:
        LengthwiseError: where it cannot be written.
    """
    path = Path(os.path.realpath(path))
    about = {
        "kind": KIND, "small": router.small, "large": router.large,
        "threshold": repr(router.threshold), "shape": " ".join(map(str, router.shape)),
    }  # fmt: skip
    weights = {name: weight.contiguous() for name, weight in router.state_dict().items()}
    try:
        with write_aside(path) as aside:
            save_file(weights, aside, about)
    except (OSError, SafetensorError) as error:
        raise LengthwiseError(f"{path}: the router cannot be written ({error})") from error


def load(path: Path | str) -> TokenRouter:
    """Reads a router.

    Args:
        path: of the file.

    Raises:
        LengthwiseError: where the file is none or is damaged.
    """
    try:
        with safe_open(str(path), "pt") as file:
            about = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about.get("kind") != KIND:
            raise LengthwiseError(f"{path}: this is no token router; lengthwise writes {KIND!r}")
        hidden, embedding, logits, width, blocks = map(int, about["shape"].split())
        router = TokenRouter(hidden, embedding, logits, width, blocks)
        router.small, router.large = about["small"], about["large"]
        router.threshold = float(about["threshold"])
        router.load_state_dict(weights)
    except OSError as error:
        raise LengthwiseError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise LengthwiseError(
            f"{path}: the router cannot be read ({first_line(error)}); train it anew"
        ) from error
    return router.eval().requires_grad_(False)


__all__ = [
    "BLOCKS", "WIDTH", "Fit", "TokenRouter", "area", "load", "save", "threshold_for", "train",
]  # fmt: skip
