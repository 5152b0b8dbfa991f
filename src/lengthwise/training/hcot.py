"""HCoT: a second model thinks, and the first reads its thought as one embedding.

Liu and others, "Expediting and Elevating Large Language Model Reasoning via Hidden Chain-of-Thought
Decoding", 2024, arXiv:2409.08561. A thought is written by nobody: where it would stand, the text
has one token [CoT], and a CoT model compresses the thought into that token's last hidden state.

    text: question [CoT] answer          state s = CoT model(question [CoT]), at [CoT]

Stage 1 trains the CoT model on questions with their thoughts. Its loss is that of the tokens of
`thought [CoT]` behind the question, plus a symmetric contrastive one over a batch, with weight w
and temperature T:

    L = CE(thought [CoT]) + w InfoNCE(s_i . t_j / T),     t = CoT model(thought [CoT]), at [CoT]

with s and t of norm 1. So s, which is made of the question alone, comes near to what the thought
says. Stage 2 freezes the CoT model. The model reads a projection of s where [CoT] stands, and
learns to write [CoT] and what follows. To answer, it writes until [CoT], the CoT model is asked in
one forward, and it goes on; a text may have several thoughts.

Ours, as the paper was not to be had in full: the thought is read alone for t, and equal thoughts of
a batch count as one another's. The projection is a linear layer, whatever the widths. w is 1 and T
is 0.1. The true thought is read by nobody in stage 2, so that nothing of it leaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence as Seq
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from lengthwise._utils.papers import Paper
from lengthwise.training.config import TrainingError
from lengthwise.training.fitting import fit_batches, padded_ids, written_loss

PAPER = Paper(
    "Expediting and Elevating Large Language Model Reasoning via Hidden Chain-of-Thought Decoding",
    "Liu and others", 2024, arxiv="2409.08561",
)  # fmt: skip


@dataclass(frozen=True)
class Thinking:
    """A text in which thoughts are hidden, in tokens.

    said: what is read and written, in parts; the first is the question. thoughts: one between each
    two parts. The last part ends with whatever ends a text.
    """

    said: tuple[tuple[int, ...], ...]
    thoughts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.thoughts or len(self.said) != len(self.thoughts) + 1:
            raise TrainingError(
                f"{len(self.said)} parts and {len(self.thoughts)} thoughts: one thought stands "
                "between each two parts"
            )
        if not all((*self.said, *self.thoughts)):
            raise TrainingError("a part or a thought has no token")

    def hidden(self, cot: int) -> tuple[int, ...]:
        """The text with the token `cot` for each thought."""
        return tuple(t for part in self.said[:-1] for t in (*part, cot)) + self.said[-1]

    def steps(self, cot: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """What stands before each thought, and the thought."""
        found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        before: tuple[int, ...] = ()
        for part, thought in zip(self.said, self.thoughts, strict=False):
            before = (*before, *part)
            found.append((before, thought))
            before = (*before, cot)
        return found


@dataclass(frozen=True)
class Stage:
    """How a stage is trained, by AdamW on batches that are drawn.

    steps: updates. batch: texts of one. lr: the highest rate, which falls linearly to a tenth.
    contrast: weight of the contrastive loss, in stage 1. temperature: of it. clip: most that the
    norm of a gradient may be.
    """

    steps: int = 1000
    batch: int = 32
    lr: float = 1e-3
    contrast: float = 1.0
    temperature: float = 0.1
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "lr", "temperature", "clip"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name}={getattr(self, name)}: give a number above 0")
        if not self.contrast >= 0:
            raise TrainingError(f"contrast={self.contrast}: give 0 or more")


class HiddenThoughts(nn.Module):
    """A model and the CoT model that thinks for it. cot: the token [CoT], the same for both.

    Both are causal language models of transformers with one vocabulary; their widths may differ.
    """

    def __init__(self, model: PreTrainedModel, thinker: PreTrainedModel, cot: int) -> None:
        super().__init__()
        self.model, self.thinker, self.cot = model, thinker, cot
        for name, each in (("model", model), ("CoT model", thinker)):
            size = int(_embeddings(each).weight.shape[0])
            if not 0 <= cot < size:
                raise TrainingError(
                    f"token {cot} for [CoT] is none of the {size:,} of the {name}: add it to the "
                    "tokenizer and resize_token_embeddings first"
                )
        wide, own = (int(_embeddings(each).weight.shape[1]) for each in (thinker, model))
        self.projection = nn.Linear(wide, own)

    def states(self, before: Seq[Seq[int]]) -> Tensor:
        """Hidden states of [CoT] behind texts, `[texts, hidden of the CoT model]`.

        Args:
            before: tokens of each text.
        """
        return states_of(self.thinker, [(*each, self.cot) for each in before])

    def embedded(self, rows: Seq[Seq[int]]) -> Tensor:
        """What the model reads of texts, `[texts, longest, hidden]`: at [CoT] a projected state.

        The CoT model is asked without gradient.

        Args:
            rows: tokens of each text, filled up behind their end.
        """
        ids = padded_ids(rows, self.model.device, self.cot)
        places = [(r, n) for r, row in enumerate(rows) for n, t in enumerate(row) if t == self.cot]
        found: Tensor = _embeddings(self.model)(ids)
        if not places:
            return found
        with torch.no_grad():
            states = self.states([rows[r][:n] for r, n in places])
        index = torch.tensor(places, device=found.device).T
        return found.index_put((index[0], index[1]), self.projection(states).to(found.dtype))

    @torch.no_grad()
    def write(self, question: Seq[int], max_new_tokens: int, stop: Iterable[int] = ()) -> list[int]:
        """The greedy answer to a question; [CoT] stands for each thought, and no stop token does.

        Args:
            question: tokens, at least one.
            max_new_tokens: [CoT] counts as one.
            stop: tokens that end it.
        """
        ends, ids, cache = frozenset(stop), list(question), None
        fed = self.embedded([ids])
        self.eval()
        for _ in range(max_new_tokens):
            found = self.model(inputs_embeds=fed, past_key_values=cache, use_cache=True)
            cache = found.past_key_values
            token = int(found.logits[0, -1].argmax())
            if token in ends:
                break
            ids.append(token)
            fed = self._last(ids)
        return ids[len(question) :]

    def _last(self, ids: Seq[int]) -> Tensor:
        """What the model reads of the last token of a text, `[1, 1, hidden]`: for [CoT] the CoT
        model reads all before it."""
        if ids[-1] == self.cot:
            found: Tensor = self.projection(self.states([ids[:-1]])).to(self.model.dtype)[:, None]
        else:
            last = torch.tensor([[ids[-1]]], device=self.model.device)
            found = _embeddings(self.model)(last)
        return found


def states_of(thinker: PreTrainedModel, rows: Seq[Seq[int]]) -> Tensor:
    """The last hidden state of the last token of texts, `[texts, hidden]`.

    Args:
        thinker: whose states they are.
        rows: tokens of each text.
    """
    ids = padded_ids(rows, thinker.device, 0)
    # Behind its last token nobody looks, so what fills a row up needs no mask.
    hidden: Tensor = thinker.base_model(input_ids=ids, use_cache=False).last_hidden_state
    last = torch.tensor([len(row) - 1 for row in rows], device=hidden.device)
    return hidden[torch.arange(len(rows), device=hidden.device), last]


def contrast(states: Tensor, thoughts: Tensor, same: Tensor, temperature: float) -> Tensor:
    """The symmetric contrastive loss of states and the thoughts that they stand for.

    Args:
        states: `[n, hidden]`, made of questions.
        thoughts: `[n, hidden]`, made of thoughts.
        same: `[n, n]`, whether thoughts are equal, so that neither is wrong.
        temperature: above 0.
    """
    near = F.normalize(states, dim=-1) @ F.normalize(thoughts, dim=-1).T / temperature
    others = same & ~torch.eye(len(near), dtype=torch.bool, device=near.device)
    near = near.masked_fill(others, -torch.inf)
    wanted = torch.arange(len(near), device=near.device)
    return (F.cross_entropy(near, wanted) + F.cross_entropy(near.T, wanted)) / 2


def thinking_loss(thinker: PreTrainedModel, cot: int, texts: Seq[Thinking], how: Stage) -> Tensor:
    """Stage 1's loss of a batch.

    Args:
        thinker: the CoT model.
        cot: the token [CoT].
        texts: of the batch; each of their thoughts counts.
        how: weight and temperature of the contrastive loss.
    """
    steps = [step for text in texts for step in text.steps(cot)]
    rows = [(*before, *thought, cot) for before, thought in steps]
    loss = written_loss(thinker, rows, [len(before) for before, _ in steps])
    if not how.contrast:
        return loss
    states = states_of(thinker, [(*before, cot) for before, _ in steps])
    thoughts = states_of(thinker, [(*thought, cot) for _, thought in steps])
    numbers = {thought: n for n, (_, thought) in enumerate(steps)}
    kinds = torch.tensor([numbers[thought] for _, thought in steps], device=states.device)
    same = kinds[:, None] == kinds
    return loss + how.contrast * contrast(states, thoughts, same, how.temperature)


def answer_loss(hidden: HiddenThoughts, texts: Seq[Thinking]) -> Tensor:
    """Stage 2's loss of a batch: of [CoT] and all that is said behind the question.

    Args:
        hidden: whose CoT model is not trained.
        texts: of the batch.
    """
    rows = [text.hidden(hidden.cot) for text in texts]
    firsts = [len(text.said[0]) for text in texts]
    return written_loss(hidden.model, rows, firsts, hidden.embedded(rows))


def train_thinker(
    thinker: PreTrainedModel, cot: int, texts: Seq[Thinking], how: Stage,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> None:  # fmt: skip
    """Stage 1, in place.

    Args:
        thinker: the CoT model.
        cot: the token [CoT].
        texts: at least one.
        how: how it is trained.
        told: called with each step and its loss.

    Raises:
        TrainingError: for a loss or gradient that is no number.
    """
    fit_batches(thinker, lambda some: thinking_loss(thinker, cot, some, how), texts, how, told)


def train_answers(
    hidden: HiddenThoughts, texts: Seq[Thinking], how: Stage,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> None:  # fmt: skip
    """Stage 2, in place: the model and the projection; the CoT model stays as it is.

    Args:
        hidden: both models.
        texts: at least one; their thoughts are not read.
        how: how it is trained.
        told: called with each step and its loss.

    Raises:
        TrainingError: for a loss or gradient that is no number.
    """
    trained = nn.ModuleList([hidden.model, hidden.projection])
    hidden.thinker.eval()
    fit_batches(trained, lambda some: answer_loss(hidden, some), texts, how, told)


def _embeddings(model: PreTrainedModel) -> Any:
    return model.get_input_embeddings()


__all__ = [
    "PAPER", "HiddenThoughts", "Stage", "Thinking", "answer_loss", "contrast", "states_of",
    "thinking_loss", "train_answers", "train_thinker",
]  # fmt: skip
