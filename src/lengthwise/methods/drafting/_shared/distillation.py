"""Teaching a drafting model what the target said where it had guessed wrong.

No method of its own. An example is a window of a finished request's tokens. For some places in it,
it holds the target's distribution of the token that follows. Training runs on a float32 copy
through the model's own forward, outside our attention. What guesses is a copy made of that after
each update, so requests under way keep the weights they began with.

A distribution is kept as its largest entries and one more outcome, "any other token". What is
compared is exact for those, and a lower bound of the whole divergence. The target's distribution
after token i is compared with the model's output at token i, which guesses token i + 1.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor
from transformers import PreTrainedModel

from lengthwise._utils.files import write_aside
from lengthwise._utils.messages import first_line
from lengthwise.engine.speculative.loading import adapt_draft_model
from lengthwise.errors import LengthwiseError
from lengthwise.methods.calibration import INCIDENTAL
from lengthwise.models.adapted_model import AdaptedModel

# Entries of a distribution that are kept.
KEPT = 64
# Weight of the target's side where both sides count.
BETA = 0.9
# Probabilities below this are taken for it: "any other token" may have none at all.
SMALLEST = 1e-8
LOSSES = ("forward", "reverse", "jsd", "both")
VERSION = "1"


@dataclass(frozen=True)
class TopKProbs:
    """Largest entries of a distribution: token ids `[k]`, log-probabilities `[k]` float32."""

    ids: Tensor
    logs: Tensor

    @classmethod
    def of(cls, logits: Tensor, vocab_size: int) -> TopKProbs:
        """From the target's logits `[vocab]`, over the first vocab_size tokens."""
        known = logits[:vocab_size].float().log_softmax(-1)
        logs, ids = known.topk(min(KEPT, len(known)))
        return cls(ids.cpu(), logs.cpu())


@dataclass(frozen=True)
class Example:
    """tokens: a window of a text. targets: by place in the window, of the token that follows it."""

    tokens: list[int]
    targets: dict[int, TopKProbs]


def training_examples(
    tokens: Seq[int], targets: dict[int, TopKProbs], window: int
) -> list[Example]:
    """Windows of a text that hold all places of targets.

    Each place has half a window before it, where the text has as much.
    """
    found: list[Example] = []
    left = sorted(targets)
    while left:
        stop = left[-1] + 1
        start = max(0, stop - window)
        first = start + (window // 2 if start else 0)
        here = [place for place in left if place >= min(first, stop - 1)]
        left = left[: len(left) - len(here)]
        own = {place - start: targets[place] for place in here}
        found.append(Example(list(tokens[start:stop]), own))
    return found


class ReplayBuffer:
    """Lessons not yet learned, at most `most` places of them: the oldest are forgotten first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._examples: deque[Example] = deque()

    def __len__(self) -> int:
        """Places held."""
        return sum(len(example.targets) for example in self._examples)

    def add(self, new: Iterable[Example]) -> None:
        self._examples.extend(new)
        while len(self) > self.most and len(self._examples) > 1:
            self._examples.popleft()

    def take(self) -> list[Example]:
        """All of them, which leave."""
        found = list(self._examples)
        self._examples.clear()
        return found


def divergence(logits: Tensor, targets: Seq[TopKProbs], kind: str) -> Tensor:
    """Mean divergence in nats of a draft's logits `[places, vocab]` from the target's
    distributions.

    With the target's p and the draft's q:

        forward  KL(p || q)
        reverse  KL(q || p)
        jsd      BETA KL(p || m) + (1 - BETA) KL(q || m),  m = BETA p + (1 - BETA) q
        both     BETA KL(p || q) + (1 - BETA) KL(q || p)
    """
    ids = torch.stack([target.ids for target in targets]).to(logits.device)
    p = _with_rest(torch.stack([target.logs for target in targets]).to(logits.device).exp())
    q = _with_rest(logits.float().log_softmax(-1).gather(1, ids).exp())
    if kind == "forward":
        return _kl(p, q).mean()
    if kind == "reverse":
        return _kl(q, p).mean()
    if kind == "both":
        return (BETA * _kl(p, q) + (1 - BETA) * _kl(q, p)).mean()
    mixed = BETA * p + (1 - BETA) * q
    return (BETA * _kl(p, mixed) + (1 - BETA) * _kl(q, mixed)).mean()


def _with_rest(probs: Tensor) -> Tensor:
    """Probabilities `[places, k]` and that of any other token."""
    return torch.cat([probs, 1 - probs.sum(-1, keepdim=True)], -1).clamp_min(SMALLEST)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(-1)


@dataclass(frozen=True)
class Report:
    """What an update did: places it learned from, their mean divergence on the way and after it."""

    places: int
    before: float
    after: float


class Student:
    """A drafting model that is taught. serving: what guesses now; updates: how often it changed.

    The trained copy is made at the first update, in float32 with the state of AdamW: 12 bytes for
    every parameter and, while an update runs, 4 more.
    """

    def __init__(self, first: AdaptedModel, learning_rate: float, loss: str) -> None:
        self.serving = first
        self.dtype = first.dtype
        self.learning_rate, self.loss = learning_rate, loss
        self.updates = 0
        self._trained: PreTrainedModel | None = None
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def trained(self) -> PreTrainedModel:
        """The copy that is trained, made of what first served."""
        if self._trained is None:
            model = copy.deepcopy(self.serving.model).float()
            self._trained = model.requires_grad_(True).eval()
        return self._trained

    def learn(self, given: Seq[Example], batch: int) -> Report:
        """One pass over examples, the optimizer stepping after each `batch` of them; then what
        guesses is replaced."""
        places = sum(len(example.targets) for example in given)
        before = 0.0
        with torch.inference_mode(False), torch.enable_grad():
            model = self.trained
            if self._optimizer is None:
                self._optimizer = torch.optim.AdamW(
                    model.parameters(), lr=self.learning_rate, weight_decay=0.0
                )
            for at in range(0, len(given), batch):
                part = given[at : at + batch]
                count = sum(len(example.targets) for example in part)
                # One window a forward: nothing is padded, and few logits live at once.
                for example in part:
                    loss = self._loss(example) * (len(example.targets) / count)
                    loss.backward()
                    before += float(loss.detach()) * count / places
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                self._optimizer.step()
                self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            after = sum(float(self._loss(each)) * len(each.targets) / places for each in given)
        self.updates += 1
        self._serve()
        return Report(places, before, after)

    def _loss(self, example: Example) -> Tensor:
        model: Any = self.trained
        ids = torch.tensor([example.tokens], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0]
        places = torch.tensor(list(example.targets), device=model.device)
        return divergence(logits[places], list(example.targets.values()), self.loss)

    def _serve(self) -> None:
        """Makes what guesses anew, for joined and packed weights are copies."""
        model = copy.deepcopy(self.trained).to(self.dtype).requires_grad_(False)  # type: ignore[arg-type]
        self.serving = adapt_draft_model(model.eval(), fuse=self.serving.fast is not None)

    def save(self, path: str, of: str) -> None:
        """Writes the trained weights aside, then renames them. of: whom the student guesses for.

        Raises LengthwiseError where it cannot. The optimizer's state is not kept.
        """
        place = Path(os.path.realpath(os.path.expanduser(path)))
        header = {**self._header(of), "updates": str(self.updates)}
        try:
            with write_aside(place) as aside:
                save_model(self.trained, str(aside), header)
        except (OSError, SafetensorError) as error:
            raise LengthwiseError(
                f"{place}: the taught drafter cannot be saved ({error}); give a path that can be "
                "written"
            ) from error

    def load(self, path: str, of: str) -> None:
        """Goes on from saved weights; raises LengthwiseError where they are no such student's."""
        place = Path(os.path.expanduser(path))
        remedy = "give another path, or delete the file to begin anew"
        try:
            with safe_open(place, framework="pt") as file:
                header = file.metadata() or {}
            for name, value in self._header(of).items():
                if header.get(name) != value:
                    raise LengthwiseError(
                        f"{place}: its {name} is {header.get(name, 'not given')} and {value} is "
                        f"expected; {remedy}"
                    )
            load_model(self.trained, place)
            self.updates = int(header["updates"])
        except LengthwiseError:
            raise
        except OSError as error:
            raise LengthwiseError(f"{place}: cannot be read ({error.strerror or error})") from error
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            reason = first_line(error)
            raise LengthwiseError(
                f"{place}: not the whole of a taught drafter ({reason}); {remedy}"
            ) from error
        self._serve()

    def _header(self, of: str) -> dict[str, str]:
        config = self.serving.model.config.get_text_config().to_dict()
        facts = {name: value for name, value in config.items() if name not in INCIDENTAL}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        return {
            "kind": "lengthwise osd", "version": VERSION, "guesser": of,
            "configuration": digest.hexdigest()[:16],
        }  # fmt: skip


__all__ = [
    "LOSSES", "Example", "ReplayBuffer", "Report", "Student", "TopKProbs", "divergence",
    "training_examples",
]  # fmt: skip
