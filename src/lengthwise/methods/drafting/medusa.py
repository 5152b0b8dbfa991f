"""Medusa: small trained heads on the model's last hidden state guess several tokens at once.

Cai et al., "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads", ICML
2024, arXiv:2401.10774.

Head k reads the hidden state h of the last token that was processed, and guesses the token k + 1
places on. The model's own head has given the first of them:

    head_k(h) = W_k r_L(... r_1(h)),   r(x) = x + SiLU(U x + b)

The best guesses of all heads make a fixed tree. A path (i, j, ...) is the i-th likeliest token of
the first head, then the j-th of the second. Heads are those their authors publish, for the model
they were trained on. They are a `config.json` with medusa_num_heads and medusa_num_layers, and
`medusa_lm_head.pt` or `.safetensors`.

Ours: the tree is the released one of 63 nodes (`nodes` takes the first of them). The policy
verifies those of them that pay. They are accepted losslessly; the paper's typical acceptance is the
verifier `typical`. The first round after the prompt has guesses too.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import ModelError, Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.drafting._shared.model_drafter import bucket_of
from lengthwise.methods.drafting._shared.trained_heads import Checkpoint, KeptByModel
from lengthwise.methods.papers import MEDUSA
from lengthwise.models.adapted_model import AdaptedModel

FILES = ("medusa_lm_head.safetensors", "medusa_lm_head.pt")
# Ranks along each path of the released tree `mc_sim_7b_63`, likeliest first.
_TREE = (
    "0 00 1 01 2 000 10 02 3 03 4 04 20 05 001 5 06 6 07 010 11 7 08 002 30 09 8 9 100 020 12 "
    "003 40 21 004 005 0000 011 006 030 50 13 007 008 009 60 040 14 70 012 200 31 22 80 050 15 "
    "101 021 90 060 0001 16 070"
)
PATHS = tuple(tuple(map(int, path)) for path in _TREE.split())


@dataclass(frozen=True)
class Medusa(Method):
    """path: the trained heads. nodes: how much of the tree is guessed."""

    name: ClassVar[str] = "medusa"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = MEDUSA
    lossless: ClassVar[bool] = True
    path: str = option("", "trained heads: a folder or hub name, as their authors publish them")
    nodes: int = option(len(PATHS), "guesses of the fixed tree", low=0, high=len(PATHS))

    @classmethod
    def identity(cls, length: int) -> Medusa:
        return cls(nodes=0)

    def check(self, model: AdaptedModel) -> None:
        if self.path or self.nodes:
            self.heads(model)

    def heads(self, model: AdaptedModel) -> Heads:
        """The trained heads, where the model lives; raises ModelError where they are another's."""
        if not self.path:
            raise Refused(
                "medusa guesses by heads that were trained for this model, and none are named",
                "write medusa(path=FOLDER), or use a drafter that needs no training: lookup",
            )
        return _HEADS(self.path, model)

    def start_drafter(self, model: AdaptedModel) -> MedusaDrafter | None:
        return MedusaDrafter(self.heads(model), PATHS[: self.nodes]) if self.nodes else None


class Heads:
    """hidden state `[hidden]` -> logits `[heads, vocab]` of the tokens 2, 3, ... places on."""

    def __init__(self, checkpoint: Checkpoint, model: AdaptedModel) -> None:
        config = checkpoint.config
        try:
            count, depth = int(config["medusa_num_heads"]), int(config["medusa_num_layers"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{checkpoint.name}: config.json says no medusa_num_heads and medusa_num_layers"
            ) from error
        head = model.model.get_output_embeddings().weight
        vocab, hidden = head.shape
        weights = {k.removeprefix("medusa_head."): v for k, v in checkpoint.weights.items()}
        named = Checkpoint(checkpoint.name, config, weights)

        def need(key: str, *shape: int) -> Tensor:
            return named.need(key, shape).to(model.device, model.dtype)

        self._blocks = [
            [(need(f"{k}.{j}.linear.weight", hidden, hidden), need(f"{k}.{j}.linear.bias", hidden))
             for j in range(depth)]
            for k in range(count)
        ]  # fmt: skip
        self._out = [need(f"{k}.{depth}.weight", vocab, hidden) for k in range(count)]

    def __len__(self) -> int:
        return len(self._out)

    @torch.no_grad()
    def __call__(self, state: Tensor) -> Tensor:
        found = []
        for blocks, out in zip(self._blocks, self._out, strict=True):
            x = state
            for weight, bias in blocks:
                x = x + F.silu(F.linear(x, weight, bias))
            found.append(F.linear(x, out))
        return torch.stack(found)


_HEADS = KeptByModel(FILES, Heads)


class MedusaDrafter(Drafter):
    """Guesses the paths of a tree from the hidden state of the last processed token."""

    name = "medusa"
    wants_states = last_state = True

    def __init__(self, heads: Heads, paths: Seq[tuple[int, ...]]) -> None:
        self.heads = heads
        self.paths = [path for path in paths if len(path) <= len(heads)]
        self._state: Tensor | None = None

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        if sequence.noted:
            self._state = sequence.noted[-1][-1]

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        if self._state is None:
            return
        paths = [path for path in self.paths if len(path) <= limit]
        if not paths:
            return
        ranks = 1 + max(max(path) for path in paths)
        logits = self.heads(self._state).float()[: max(map(len, paths))]
        best = logits.softmax(-1).topk(min(ranks, logits.shape[-1]))
        found, probs = best.indices.tolist(), best.values.tolist()
        nodes: dict[tuple[int, ...], int] = {(): 0}
        for path in paths:
            head, rank = len(path) - 1, path[-1]
            if rank < len(found[head]) and path[:-1] in nodes:
                prior = probs[head][rank]
                nodes[path] = tree.add(nodes[path[:-1]], found[head][rank], self.name,
                                       bucket_of(rank, prior), prior)  # fmt: skip

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        if self.states is not None:
            self._state = self.states[accepted[-1]]


__all__ = ["Heads", "Medusa", "MedusaDrafter"]
