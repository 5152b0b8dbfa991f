"""Choosing the next token: greedy, or sampled with noise that belongs to a position, not to a
moment.

A sample is `argmax(log p + Gumbel noise)` with noise drawn from (seed, position of the token). Its
distribution is that of ordinary sampling. The token chosen at a position does not depend on whether
drafting found it early, so drafted and plain sampling give the same text for the same seed.
The largest of what is chosen from must be finite, or NotFinite says where it was not.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import FloatTensor, LongTensor, Tensor
from transformers import LogitsProcessorList

from lengthwise.engine.context_ids import ContextIds
from lengthwise.engine.next_token_law import NextTokenLaw, asked
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.steering import Steering
from lengthwise.errors import NotFinite

# From this stream on, noise is the drafters' own: the target's choices know nothing of it.
DRAWN = 1 << 20


def streams(name: str) -> int:
    """The first of DRAWN streams of noise for a drafter of this name: two drafters that drew with
    the same noise would not draw independently, as verification by rejection supposes."""
    return DRAWN * (1 + zlib.crc32(name.encode()) % 1021)


def likeliest(logits: Tensor) -> tuple[list[int], list[float]]:
    """The token of the largest logit of every row of `[rows, vocab]`, and that logit.

    Of equal ones the first counts. The logit is not finite where a row has a NaN, an infinity, or
    nothing but minus infinity.

    On a CPU numpy finds it in float32 5 to 20 times faster than PyTorch does, which takes 0.17 ms a
    row of 49,152 in bfloat16: 16 guesses would wait 2.6 ms to be verified.
    """
    if logits.device.type == "cpu":
        found = logits.float().numpy()
        best = found.argmax(-1)
        return best.tolist(), found[np.arange(len(best)), best].tolist()
    tokens = logits.argmax(-1)
    values = logits.gather(-1, tokens[:, None])[:, 0]
    return [int(each) for each in tokens.tolist()], [float(each) for each in values.tolist()]


class Sampler:
    """Chooses tokens of one sequence under a `Sampling`.

    rules: processors that come before those of the sampling. steering: what stands in place of
    both. row: which prompt of how many this is, counted from 0, for what is said of it. laws: what
    changes the model's law before any of them. prompt: tokens before what is written. stop_ids:
    tokens that end the text. state: the hidden state `[hidden]` that the next logits were read
    from, where a law wants it.
    """

    def __init__(
        self,
        sampling: Sampling,
        rules: Sequence[Any] = (),
        steering: Steering | None = None,
        row: tuple[int, int] = (0, 1),
        laws: Sequence[NextTokenLaw] = (),
    ) -> None:
        self.sampling = sampling
        self.steering = steering
        self.row = row
        self.laws = laws
        self.prompt = 0
        self.stop_ids: Set[int] = frozenset()
        self.state: Tensor | None = None
        self._text = ContextIds()
        self.obey(rules)

    def obey(self, rules: Sequence[Any]) -> None:
        """Puts processors in front of those of the sampling.

        Args:
            rules: logits processors of transformers, in order; they replace those given before.
        """
        self._rules = LogitsProcessorList(rules)
        # The penalty is our own: that of transformers looks at every token of the text each time.
        free = replace(self.sampling, repetition_penalty=1.0)
        self._processors = free.processors()
        #: Greedy over untouched logits: an argmax is all there is to do.
        self.plain = self.sampling.plain and not rules and not self.laws and self.steering is None

    def process(self, logits: Tensor, context: Sequence[int]) -> Tensor:
        """Logits `[vocab]` of the token after context, processed, float32.

        Args:
            logits: the model's own, `[vocab]`.
            context: ids of all tokens before it.

        Raises:
            NotFinite: where no token can be chosen from them.
        """
        given = self._lawful(logits, context) if self.laws else logits
        if self.steering is not None:
            scores = self.steering.process(given, context)
        else:
            scores = self._ruled(given.float(), context)
            if self._processors:
                none = torch.zeros(1, 1, dtype=torch.int64, device=logits.device)
                scores = self._processors(cast(LongTensor, none), cast(FloatTensor, scores[None]))
                scores = scores[0]
        self.require(float(scores.max()), len(context), logits)
        return scores

    def _ruled(self, scores: Tensor, context: Sequence[int]) -> Tensor:
        """Scores `[vocab]` as the rules and the repetition penalty leave them, which look at the
        text; nobody else is shown it."""
        penalty = float(self.sampling.repetition_penalty)
        if not self._rules and penalty == 1:
            return scores
        self._text.follow(context, self.prompt, scores.device)
        if self._rules:
            ids = cast(LongTensor, self._text.ids[None])
            # Rules may write in place, and the logits are still wanted as they are.
            scores = self._rules(ids, cast(FloatTensor, scores.clone()[None]))[0]
        if penalty != 1:
            punished = torch.where(scores < 0, scores * penalty, scores / penalty)
            scores = torch.where(self._text.seen(len(scores)), punished, scores)
        return scores

    def _lawful(self, logits: Tensor, context: Sequence[int]) -> Tensor:
        """Logits `[vocab]` as the laws leave them, float32."""
        self.require(float(logits.max()), len(context), logits)
        written, scores = list(context[self.prompt :]), logits.to(torch.float32, copy=True)
        for law in self.laws:
            if law.wants_states:
                law.state = self.state
            scores = asked(law, law.process, scores, written)
        return scores

    def ends(self, written: Sequence[int]) -> bool:
        """Whether a law says that the text is complete.

        Args:
            written: ids behind the prompt, at least one.
        """
        return any(asked(law, law.ends, written) for law in self.laws)

    def over(self, context: Sequence[int]) -> bool:
        """Whether nothing may follow: the newest token is a stop token, or the text is complete.

        Args:
            context: ids of all tokens, at least one of them written.
        """
        if context[-1] in self.stop_ids:
            return True
        return bool(self.laws) and self.ends(list(context[self.prompt :]))

    def require(self, largest: float, position: int, logits: Tensor) -> None:
        """Raises NotFinite where the largest of what a token is chosen from is no number.

        Args:
            largest: the largest score.
            position: of the token, counted from 0.
            logits: the model's own, of any shape. They tell a model's fault from a rule's.
        """
        if math.isfinite(largest):
            return
        raise NotFinite(
            position, self.row, str(logits.dtype).removeprefix("torch."),
            forbidden=bool(logits.float().max().isfinite()),
        )  # fmt: skip

    def choose(
        self, logits: Tensor, context: Sequence[int], best: tuple[int, float] | None = None
    ) -> int:
        """The token that follows context.

        Args:
            logits: the model's own, `[vocab]`.
            context: ids of all tokens before it.
            best: what `likeliest` gives for these logits, where that is known already.

        Raises:
            NotFinite: where no token can be chosen.
        """
        if self.plain:
            if best is None:
                (token,), (value,) = likeliest(logits[None])
            else:
                token, value = best
            self.require(value, len(context), logits)
            return token
        scores = self.process(logits, context)
        if self.sampling.temperature == 0:
            return int(scores.argmax())
        return int((torch.log_softmax(scores, -1) + self.noise(len(context), scores)).argmax())

    def probs(self, logits: Tensor, context: Sequence[int]) -> Tensor:
        """Probabilities `[vocab]` of the token after context, float64 on the CPU.

        Args:
            logits: the model's own, `[vocab]`.
            context: ids of all tokens before it.

        Raises:
            NotFinite: where no token can be chosen.
        """
        return torch.softmax(self.process(logits, context).to("cpu", torch.float64), -1)

    def draw(self, probs: Tensor, position: int) -> int:
        """A token drawn by the noise of its position.

        Args:
            probs: its probabilities, `[vocab]`.
            position: of the token, counted from 0.
        """
        return int((probs.log() + self.noise(position, probs)).argmax())

    def uniform(self, position: int, number: int) -> float:
        """Uniform in [0, 1): the number-th of a position, independent of its noise.

        Args:
            position: of the token, counted from 0.
            number: from 0 on; each is another number.
        """
        return float(self._generator(position, 1 + number).random())

    def perturbed(self, probs: Tensor, position: int, stream: int = 0) -> Tensor:
        """log probs + Gumbel noise `[vocab]`: its largest entries, in order, are draws without
        replacement.

        Stream 0 is the noise that the target's own choice at this position will use. Drafts that
        take it are likely to guess that choice. They are guesses, not draws: those take a stream
        from DRAWN on.

        Args:
            probs: the drafter's probabilities, `[vocab]`.
            position: of the token, counted from 0.
            stream: which noise of the position.
        """
        return probs.log() + self.noise(position, probs, stream)

    def _generator(self, position: int, stream: int) -> np.random.Generator:
        """Random numbers that belong to all 64 bits of the seed, to a position and to a stream.

        (PyTorch's generator on a CPU reads 32 bits of its seed.)
        """
        packed = self.sampling.seed.to_bytes(9, "little", signed=True)
        packed += struct.pack("<qq", position, stream)
        key = hashlib.blake2b(packed, digest_size=16).digest()
        return np.random.Generator(np.random.PCG64DXSM(int.from_bytes(key, "little")))

    def noise(self, position: int, like: Tensor, stream: int = 0) -> Tensor:
        """Gumbel noise `[vocab]`, keyed by the seed, the position and a stream.

        Args:
            position: of the token, counted from 0.
            like: `[vocab]`, whose device and dtype it gets.
            stream: which noise of the position.
        """
        uniform = torch.from_numpy(self._generator(position, stream).random(len(like)))
        noise = -torch.log(-torch.log(uniform.clamp_(1e-300, 1 - 1e-16)))
        return noise.to(like.device, torch.promote_types(like.dtype, torch.float32))


__all__ = ["DRAWN", "Sampler", "likeliest", "streams"]
