"""The acceptance head of SpecDec++: how likely the next guess of a drafting model is to be
accepted.

    head(h) = W_out f_3(f_2(f_1(h))),   f_i(x) = x + SiLU(W_i x),   c = softmax(head(h))[1]

It reads the hidden state h from which the guess is made. It is trained on texts of the target, with
both models frozen. At every place of a text a token y is drawn from the draft's distribution q. The
label is the probability that y is accepted, a = min(1, p(y) / q(y)). The loss is a cross-entropy in
which a rejection weighs more:

    sum of -(a log c + 6 (1 - a) log(1 - c))  /  sum of (a + 6 (1 - a))

Ours differs twice. The original reads the state one token late. And it trains on states of a draft
that has read its own guesses, right and wrong ones, at most places of the text. Its labels are
those of the text all the same. Ours reads the text as it is, for a guess below a wrong one is never
judged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence as Seq
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lengthwise._utils.files import write_aside
from lengthwise._utils.messages import first_line
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend
from lengthwise.errors import LengthwiseError
from lengthwise.methods.calibration import fingerprint
from lengthwise.models.adapted_model import AdaptedModel

BLOCKS = 3
# How much a rejection weighs in the loss.
WEIGHT = 6.0
# Tokens that both models read at a time, and states that one step of training sees.
CHUNK, BATCH = 256, 256
KIND = "lengthwise acceptance head 1"


class AcceptanceHead(nn.Module):
    """draft, target: fingerprints of the models it was trained for."""

    def __init__(self, hidden: int, draft: str = "", target: str = "") -> None:
        super().__init__()
        self.draft, self.target = draft, target
        self.blocks = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(BLOCKS))
        self.out = nn.Linear(hidden, 2)

    @property
    def hidden(self) -> int:
        """Length of the states it reads."""
        return self.out.in_features

    def forward(self, states: Tensor) -> Tensor:
        """Scores `[n, 2]` of rejection and acceptance for states `[n, hidden]`."""
        for block in self.blocks:
            states = states + F.silu(block(states))
        found: Tensor = self.out(states)
        return found

    @torch.no_grad()
    def prob(self, state: Tensor) -> float:
        """The probability that a guess made from a state `[hidden]` is accepted."""
        weight = self.out.weight
        scores = self(state.to(weight.device, weight.dtype)[None])
        return float(scores.softmax(-1)[0, 1])


@torch.no_grad()
def examples(
    draft: AdaptedModel,
    target: AdaptedModel,
    tokens: Seq[int],
    temperature: float = 1.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """States `[n, hidden]` of the draft after each token of a text of the target, and the labels
    `[n]` of the guesses made from them, float32 on the CPU. At temperature 0 a guess is the
    likeliest token."""
    rng = torch.Generator().manual_seed(seed)
    states, labels = [], []
    for (p, _), (q, read) in zip(_read(target, tokens), _read(draft, tokens), strict=True):
        # Rows of weights that pad a vocabulary stand for no token.
        size = min(p.shape[1], q.shape[1])
        p, q = p[:, :size], q[:, :size]
        if temperature == 0:
            labels.append((p.argmax(-1) == q.argmax(-1)).float())
        else:
            p, q = (torch.softmax(logits / temperature, -1) for logits in (p, q))
            drawn = torch.multinomial(q, 1, generator=rng)
            labels.append((p.gather(1, drawn) / q.gather(1, drawn))[:, 0].clamp_max(1))
        states.append(read)
    return torch.cat(states), torch.cat(labels)


def train(
    draft: AdaptedModel,
    target: AdaptedModel,
    texts: Seq[Seq[int]],
    temperature: float = 1.0,
    epochs: int = 3,
    steps: int | None = None,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> AcceptanceHead:
    """A head for a draft with the target's vocabulary, from token ids that the target generated.

    steps: of BATCH states each, in place of epochs. Raises LengthwiseError where there are no
    texts.
    """
    texts = [text for text in texts if len(text)]
    if not texts:
        raise LengthwiseError("the acceptance head needs at least one text to learn from")
    pairs = [
        examples(draft, target, text, temperature, seed + number)
        for number, text in enumerate(texts)
    ]
    states, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = AcceptanceHead(states.shape[1], fingerprint(draft), fingerprint(target))
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps or epochs * -(-len(states) // BATCH)):
        if not len(order):
            order = torch.randperm(len(states), generator=rng)
        batch, order = order[:BATCH], order[BATCH:]
        optimizer.zero_grad()
        with torch.enable_grad():
            loss(head(states[batch]), labels[batch]).backward()
        optimizer.step()
    return head.requires_grad_(False)


def loss(scores: Tensor, labels: Tensor) -> Tensor:
    """The weighted cross-entropy of scores `[n, 2]` and soft labels `[n]`."""
    rejected, accepted = F.log_softmax(scores, -1).unbind(-1)
    against = WEIGHT * (1 - labels)
    return -(labels * accepted + against * rejected).sum() / (labels + against).sum()


def save(head: AcceptanceHead, path: Path | str) -> None:
    """Writes a head, aside and then renamed."""
    path = Path(os.path.realpath(path))
    about = {"kind": KIND, "draft": head.draft, "target": head.target}
    weights = {name: weight.contiguous() for name, weight in head.state_dict().items()}
    try:
        with write_aside(path) as aside:
            save_file(weights, aside, about)
    except (OSError, SafetensorError) as error:
        raise LengthwiseError(f"{path}: the head cannot be written ({error})") from error


def load(path: Path | str) -> AcceptanceHead:
    """Reads a head; raises LengthwiseError where the file is none or is damaged."""
    try:
        with safe_open(str(path), "pt") as file:
            about = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about.get("kind") != KIND:
            raise LengthwiseError(f"{path}: this is no acceptance head; lengthwise writes {KIND!r}")
        head = AcceptanceHead(weights["out.weight"].shape[1], about["draft"], about["target"])
        head.load_state_dict(weights)
    except OSError as error:
        raise LengthwiseError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise LengthwiseError(
            f"{path}: the acceptance head cannot be read ({first_line(error)}); train it anew"
        ) from error
    return head.requires_grad_(False)


def _read(model: AdaptedModel, tokens: Seq[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits `[n, vocab]` after each of up to CHUNK tokens at a time, and the hidden states
    `[n, hidden]` they are read from; float32 on the CPU."""
    sequence = Sequence(model)
    for start in range(0, len(tokens), CHUNK):
        part = list(tokens[start : start + CHUNK])
        states: list[Tensor] = []
        (logits,), (block,) = extend([(sequence, part, None)], "all", states)
        sequence.commit(block, part)
        yield logits.float().cpu(), states[0].float().cpu()


__all__ = ["AcceptanceHead", "examples", "load", "loss", "save", "train"]
