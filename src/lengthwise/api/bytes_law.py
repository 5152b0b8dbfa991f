"""A text as bytes: exact laws of the next byte behind any prompt, and what is made of them.

See `tokenization.byte_covers` for the method. A prompt is read once, as far as its tokens are
settled, and every encoding of its end goes on in a fork.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from lengthwise.api.byte_prompt import BytePrompt, byte_prompt
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt, require_text
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import note_token_nll
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError, NotFinite, Refused
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import RecipeLike
from lengthwise.tokenization.byte_covers import TOLERANCE, ByteCovers, ByteLaw, Settled
from lengthwise.tokenization.token_bytes import Floats
from lengthwise.tokenization.valid_encodings import require_utf8, spelling_of, unfinished

NEW_BYTES = 256


@dataclass(frozen=True)
class ByteGeneration:
    """What was written behind a text.

    data: its bytes. drawn: how many of them were chosen one by one. tokens: those that were chosen
    behind them, by ordinary decoding. finish_reason: "stop" or "length".
    """

    data: bytes
    drawn: int
    tokens: tuple[int, ...]
    finish_reason: str

    @property
    def text(self) -> str:
        """The bytes as text; a character that was begun with another text's bytes is a sign."""
        return self.data.decode(errors="replace")


class ByteReader(ABC):
    """A text that was read as bytes, and the law of what follows: of one model or of several."""

    # The last bytes that were read: a character may be cut by two calls.
    _before = b""

    @abstractmethod
    def law(self) -> ByteLaw:
        """What follows: 256 bytes, or the end.

        Raises:
            LengthwiseError: where the text has no probability.
        """

    @abstractmethod
    def feed_byte(self, byte: int) -> float:
        """Reads one byte.

        Args:
            byte: 0 to 255.

        Returns:
            Its natural log-probability; minus infinity where it has none.
        """

    @abstractmethod
    def fork(self) -> Self:
        """The same text, to go on apart. What was read is not read again."""

    def feed(self, data: str | bytes) -> float:
        """Reads more of the text.

        Args:
            data: text, or bytes, which may end within a character.

        Returns:
            Its natural log-probability; minus infinity where it has none.

        Raises:
            LengthwiseError: for what is neither, and bytes that no text has there.
        """
        found, given = 0.0, data_of(data, self._before)
        for byte in given:
            found += self.feed_byte(byte)
            if found == -math.inf:
                break
        self._before = (self._before + given)[-4:]
        return found

    def logprob(self, data: str | bytes) -> float:
        """Natural log-probability that the text goes on with `data`. It is not read.

        Args:
            data: as for `feed`.
        """
        return self.fork().feed(data)

    def generate(
        self, max_new_bytes: int = NEW_BYTES, *, temperature: float = 0.0, seed: int = 0
    ) -> ByteGeneration:
        """Writes on, the likeliest byte each time unless a temperature is given.

        Of one model, bytes are chosen one by one only until nearly all of the probability goes by
        one encoding, and tokens from there on, under its recipe. At temperature 1 that is the
        model's own distribution over texts; at others a byte's, and then a token's.

        Args:
            max_new_bytes: at most.
            temperature: 0 is greedy.
            seed: an integer of 64 bits.

        Raises:
            LengthwiseError: for arguments other than these.
        """
        _require_count(max_new_bytes)
        sampling = Sampling(temperature=temperature, seed=seed)
        text, drawn = self.fork(), bytearray()
        noise = np.random.default_rng(sampling.seed % 2**64)
        while len(drawn) < max_new_bytes:
            if (behind := text._tokens(max_new_bytes - len(drawn), sampling)) is not None:
                data, tokens, why = behind
                return ByteGeneration(bytes(drawn) + data, len(drawn), tokens, why)
            byte = _chosen(text.law(), sampling.temperature, noise)
            if byte is None:
                return ByteGeneration(bytes(drawn), len(drawn), (), "stop")
            drawn.append(byte)
            text.feed_byte(byte)
        return ByteGeneration(bytes(drawn), len(drawn), (), "length")

    def _tokens(self, most: int, sampling: Sampling) -> tuple[bytes, tuple[int, ...], str] | None:
        """The rest by ordinary decoding, where that is exact; None where bytes are to be drawn."""
        return None


class ByteText(ByteReader):
    """A text under one model. See `Model.bytes`."""

    def __init__(self, model: HeldModel, covers: ByteCovers, before: bytes = b"") -> None:
        self._model, self._covers, self._before = model, covers, before

    def law(self) -> ByteLaw:
        with no_autocast():
            return self._covers.law()

    def feed_byte(self, byte: int) -> float:
        with no_autocast():
            return self._covers.feed(byte)

    def fork(self) -> ByteText:
        return ByteText(self._model, self._covers.fork(), self._before)

    def _tokens(self, most: int, sampling: Sampling) -> tuple[bytes, tuple[int, ...], str] | None:
        settled = self._covers.settled()
        if settled is None:
            return None
        with no_autocast():
            return _written(self._model, settled, most, sampling)


class _Forks:
    """A model as exact byte laws ask it: a fork of what was read for each token behind it."""

    @torch.no_grad()
    def extend(self, asked: Seq[tuple[Any, int]]) -> list[tuple[Any, Floats]]:
        rows: list[tuple[Sequence, list[int], None]] = []
        for sequence, token in asked:
            rows.append((sequence.branch(), [token], None))
        every, steps = loop.extend(rows)
        found: list[tuple[Any, Floats]] = []
        for (sequence, tokens, _), logits, metadata in zip(rows, every, steps, strict=True):
            if sequence.wants_token_nll:
                note_token_nll(sequence, logits, tokens)
            sequence.commit(metadata, tokens)
            sequence.last_logits = logits[-1].clone()
            found.append((sequence, _law(sequence)))
        return found


def open_bytes(
    model: HeldModel, prompt: Prompt | bytes, recipe: RecipeLike, context: Prompt | None,
    suffix: str | None, order: str, tolerance: float, chunk: int | None,
) -> ByteText:  # fmt: skip
    """See `Model.bytes`, whose arguments these are.

    Args:
        model: that reads the text.
        prompt: the text so far.
        recipe: under which.
        context: what stands before it.
        suffix: what follows what is to be filled in.
        order: of suffix and prefix.
        tolerance: share of the probability that may be left out.
        chunk: tokens of a prefill forward.

    Raises:
        LengthwiseError: as `Model.bytes` does.
    """
    number = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    if not number or not 0 <= tolerance <= 0.01:
        raise LengthwiseError(f"tolerance={tolerance!r}: allowed is 0 to 0.01")
    given = byte_prompt(model, prompt, context, suffix, order)
    plan = model.plan(recipe)
    _require_own_law(plan)
    plan.check_prompt(len(given.tokens))
    covers = ByteCovers(given.spelling, _Forks(), tolerance)
    with no_autocast():
        sequence = Sequence(model.adapted, plan)
        loop.prefill(sequence, given.tokens, chunk)
        sequence.end_prefill()
        covers.begin(given.path, sequence, _law(sequence))
        _read(covers, given)
    return ByteText(model, covers, given.rest[-4:])


def _require_own_law(plan: Plan) -> None:
    if plan.decides:
        raise Refused(
            f"{plan.text} decides what is written, token by token or text by text, and the exact "
            "law of the next byte is the model's own",
            "leave out the method that decides; positions, selection, retention, codecs and "
            "drafters go with bytes",
        )


def _read(covers: ByteCovers, given: BytePrompt) -> None:
    for number, byte in enumerate(given.rest):
        if covers.feed(byte) == -math.inf:
            raise LengthwiseError(
                f"the model gives the prompt no probability from byte {number - len(given.rest)} "
                "(from its end) on; give a text that its tokenizer can write"
            )


def _law(sequence: Sequence) -> Floats:
    logits = sequence.last_logits
    assert logits is not None
    if not bool(logits.amax().isfinite()):
        raise NotFinite(len(sequence), dtype=str(logits.dtype).removeprefix("torch."))
    found: Floats = torch.softmax(logits.double(), -1).cpu().numpy()
    return found


def _written(
    model: HeldModel, settled: Settled, most: int, sampling: Sampling
) -> tuple[bytes, tuple[int, ...], str]:
    """Ordinary decoding behind an encoding, its first token one that spells what is behind it."""
    vocabulary, probs = spelling_of(model._tokenizer()).vocabulary, settled.encoding.probs
    assert probs is not None
    sequence = settled.encoding.state.branch()
    logits = sequence.last_logits
    if settled.depth:
        low, high = settled.span
        places = vocabulary.ids[low:high][probs[low:high] > 0]
        index = torch.as_tensor(places, device=logits.device)
        masked = torch.full_like(logits, -math.inf)
        masked[index] = logits[index]
        logits = masked
    request = loop.begin(sequence, sampling, most, model.stop_ids())
    loop.start(request, logits)
    while not request.done and len(vocabulary.text(request.output)) - settled.depth < most:
        loop.step([request])
    data = vocabulary.text(request.output)[settled.depth :]
    cut = len(data) > most or not request.done
    why = "length" if cut else loop.finish(request).finish_reason
    return data[:most], tuple(request.output), why


def _chosen(law: ByteLaw, temperature: float, noise: np.random.Generator) -> int | None:
    every = np.append(law.probs, law.end)
    if temperature:
        with np.errstate(divide="ignore"):
            scaled = np.log(every) / temperature
        every = np.exp(scaled - scaled.max())
        place = int(noise.choice(257, p=every / every.sum()))
    else:
        place = int(every.argmax())
    return None if place == 256 else place


def data_of(data: str | bytes, before: bytes = b"") -> bytes:
    """Text as bytes.

    Args:
        data: text, or bytes of one.
        before: the last bytes of the text that it follows.

    Raises:
        LengthwiseError: for what is neither, and for bytes that no text has there.
    """
    if isinstance(data, str):
        require_text("the text", data)
        data = data.encode()
    if not isinstance(data, bytes):
        raise LengthwiseError(f"a text of {type(data).__name__}: give a string or bytes")
    whole = unfinished(before) + data
    require_utf8(whole)
    return data


def _require_count(count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise LengthwiseError(f"max_new_bytes={count!r}: give a whole number, at least 1")


__all__ = [
    "NEW_BYTES", "TOLERANCE", "ByteGeneration", "ByteReader", "ByteText", "data_of", "open_bytes",
]  # fmt: skip
