"""Where two models that write one text part for good: what a router is taught.

No method of its own. Texts are the large model's. At each place the small model, which has read
the text so far, has a word of its own. Where it is another, the large model goes on from both
words. The place is divergent where the two do not come together again: a verifier that needs no
third model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.models.adapted_model import AdaptedModel

# The likeliest logits that a router reads.
LOGITS = 100
# Continuations that are written side by side.
TOGETHER = 16


@dataclass(frozen=True)
class Places:
    """Places of texts where the small model was about to say a word, one a row.

    states `[n, hidden]`: its last hidden state. tokens `[n]`: its word. logits `[n, k]`: its
    largest ones, largest first. differs `[n]`: whether the large model says another word.
    diverges `[n]`: whether the two ways part for good. Float32, int64 and bool on the CPU.
    """

    states: Tensor
    tokens: Tensor
    logits: Tensor
    differs: Tensor
    diverges: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def joined(cls, parts: Seq[Places]) -> Places:
        """Places of several texts, one behind the other."""
        names = ("states", "tokens", "logits", "differs", "diverges")
        return cls(*(torch.cat([getattr(each, name) for each in parts]) for name in names))


def largest(logits: Tensor) -> Tensor:
    """The LOGITS largest of logits `[..., vocab]`, or all of a smaller vocabulary."""
    return logits.topk(min(LOGITS, logits.shape[-1]), -1).values


def rejoins(one: Seq[int], other: Seq[int], same: int) -> bool:
    """Whether the end of one way, its last `same` tokens, stands somewhere in the other.

    Args:
        one: what was written behind the small model's word, that word first.
        other: what was written behind the large model's.
        same: tokens.
    """
    end = list(one[-same:])
    return len(one) > same and any(
        list(other[n : n + same]) == end for n in range(len(other) - same + 1)
    )


def written(sequences: Seq[Sequence], logits: Seq[Tensor], count: int) -> list[list[int]]:
    """What a model writes behind texts, greedily; the sequences read it, but for its last token.

    Args:
        sequences: of one model.
        logits: `[vocab]` of each, of the token behind it.
        count: tokens of each, at least one.
    """
    said = [[int(each.argmax())] for each in logits]
    for _ in range(count - 1):
        rows = [(s, own[-1:], None) for s, own in zip(sequences, said, strict=True)]
        found, steps = extend(rows)
        for (sequence, tokens, _), new, step, own in zip(rows, found, steps, said, strict=True):
            sequence.commit(step, tokens)
            own.append(int(new[-1].argmax()))
    return said


def answers(model: AdaptedModel, prompts: Seq[Seq[int]], count: int) -> list[list[int]]:
    """The greedy answers of a model to prompts, so many tokens of each, some side by side.

    Args:
        model: that answers.
        prompts: tokens of each.
        count: at least one.
    """
    found: list[list[int]] = []
    for start in range(0, len(prompts), TOGETHER):
        sequences, logits = [], []
        for prompt in prompts[start : start + TOGETHER]:
            sequences.append(Sequence(model, expected=len(prompt) + count))
            logits.append(prefill(sequences[-1], prompt))
            sequences[-1].end_prefill()
        found += written(sequences, logits, count)
    return found


def places(
    small: AdaptedModel, large: AdaptedModel, prompt: Seq[int], said: Seq[int], horizon: int = 16,
    same: int = 4, told: Callable[[int], None] = lambda count: None,
) -> Places:  # fmt: skip
    """The places of a text of the large model, and what would have come of the small one's words.

    Args:
        small: that is to write.
        large: that wrote the text.
        prompt: tokens before it.
        said: the text.
        horizon: tokens that the large model writes behind the small one's word.
        same: tokens in which two ways are one again.
        told: called with the number of continuations that are done.
    """
    logits, states = _read(small, prompt, said)
    own = logits.argmax(-1)
    differs = own != torch.tensor(said)
    diverges = torch.zeros(len(said), dtype=torch.bool)
    at = [n for n in differs.nonzero()[:, 0].tolist() if len(said) - n > same]
    for group, sequences in _before(large, prompt, said, at):
        rows = [(each, [int(own[n])], None) for n, each in zip(group, sequences, strict=True)]
        found, steps = extend(rows)
        for (sequence, tokens, _), step in zip(rows, steps, strict=True):
            sequence.commit(step, tokens)
        ways = written(sequences, [each[-1] for each in found], horizon)
        for n, way in zip(group, ways, strict=True):
            diverges[n] = not rejoins([int(own[n]), *way], said[n : n + 2 * horizon], same)
        told(len(group))
    # The last places have too little behind them to be judged.
    kept = slice(0, max(1, len(said) - same))
    whole = Places(states, own, largest(logits), differs, diverges)
    return Places(*(getattr(whole, name)[kept] for name in vars(whole)))


def _read(model: AdaptedModel, prompt: Seq[int], said: Seq[int]) -> tuple[Tensor, Tensor]:
    """Logits `[said, vocab]` and states `[said, hidden]` that predict each token of a text."""
    sequence = Sequence(model)
    if len(prompt) > 1:
        prefill(sequence, prompt[:-1])
    states: list[Tensor] = []
    (logits,), (step,) = extend([(sequence, [prompt[-1], *said[:-1]], None)], "all", states)
    sequence.commit(step, [prompt[-1], *said[:-1]])
    return logits.float().cpu(), states[0].float().cpu()


def _before(
    model: AdaptedModel, prompt: Seq[int], said: Seq[int], at: Seq[int]
) -> Iterator[tuple[list[int], list[Sequence]]]:
    """Groups of places with sequences that have read what stands before each of them."""
    reader = Sequence(model, expected=len(prompt) + len(said))
    prefill(reader, prompt)
    reader.end_prefill()
    group: list[int] = []
    sequences: list[Sequence] = []
    for n in at:
        if missed := list(said[len(reader) - len(prompt) : n]):
            _, (step,) = extend([(reader, missed, None)], "none")
            reader.commit(step, missed)
        group.append(n)
        sequences.append(reader.branch())
        if len(group) == TOGETHER:
            yield group, sequences
            group, sequences = [], []
    if group:
        yield group, sequences


__all__ = ["LOGITS", "Places", "answers", "largest", "places", "rejoins", "written"]
