"""Learn Your Tokens: words pooled from their bytes, and spelled byte by byte all at once.

Thawani et al., "Learn Your Tokens: Word-Pooled Tokenization for Language Modeling", Findings of
EMNLP 2023, arXiv:2310.11628.

A small encoder reads the bytes of each word by itself. The main model reads words alone. A small
decoder spells every next word, all of them in parallel, from what the main model made of those
before it.

    e_i = encoder([CLS_1..CLS_K, units of word i])[:K]      both ways, within the word
    h   = main([BEGIN, e_1, e_2, ...])                      causal, K vectors a word
    p(unit t of word i) = decoder([h_{i-1}, units 1..t-1])  causal, within the word
    p(word) = product of p(unit), the unit that ends it included

Attention costs (K W)^2 for W words in place of the square of all bytes, and W L^2 within words.

Ours: words end at new lines too, and long ones are cut (`word_units.py`), so that every text can be
written and read back. Blocks are those of `decoder.py` with rotary positions. Words of about one
length are encoded and spelled together (`spelled`); `forward` is its plain twin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from lengthwise._utils.papers import Paper
from lengthwise._utils.utf8 import utf8
from lengthwise.architectures.decoder import Block, DecoderConfig, Rows
from lengthwise.architectures.position_schemes import SchemeAttention
from lengthwise.architectures.word_units import (
    FILLING,
    ON,
    SPACE,
    STOP,
    UNITS,
    bytes_of,
    lengths_of,
    units_of,
)

PAPER = Paper(
    "Learn Your Tokens: Word-Pooled Tokenization for Language Modeling", "Thawani et al.", 2023,
    arxiv="2310.11628", venue="Findings of EMNLP", code="https://github.com/avi-jit/etok",
)  # fmt: skip
_CLASSES = 4
_LINE, _BLANK = b"\n "


class LearnYourTokensConfig(DecoderConfig):
    """longest: bytes that a word may have. vectors: K, of a word. word_layers: of the encoder and
    of the decoder each. `num_hidden_layers` are the main model's."""

    model_type = "learn_your_tokens"

    def __init__(
        self, longest: int = 16, vectors: int = 1, word_layers: int = 2, **sizes: Any
    ) -> None:
        given = {"longest": longest, "vectors": vectors, "word_layers": word_layers}
        for name, each in given.items():
            if each < 1:
                raise ValueError(f"{name}={each}: give at least 1")
        self.longest, self.vectors, self.word_layers = longest, vectors, word_layers
        self.scheme, self.partial_rotary_factor = "rotary", 1.0
        super().__init__(**(sizes | {"vocab_size": UNITS}))


@dataclass(frozen=True)
class Within(Rows):
    """Units of words, which see their own word alone. valid: bool `[words, n]`, what may be seen.
    causal: whether a unit sees those before it alone."""

    valid: Tensor | None = None
    causal: bool = True

    @cached_property
    def seen(self) -> Tensor:
        """Whether a query sees a key, bool `[words, n, n]`."""
        valid = self.valid
        if valid is None:
            valid = torch.ones_like(self.positions, dtype=torch.bool)
        found = valid[:, None].expand(-1, valid.shape[1], -1)
        return found.tril() if self.causal else found


class Stack(nn.Module):
    """Blocks and a norm behind them."""

    def __init__(self, config: DecoderConfig, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(config, SchemeAttention(config, number)) for number in range(layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size)

    def forward(self, states: Tensor, valid: Tensor | None = None, causal: bool = True) -> Tensor:
        """States `[rows, n, hidden]` of such."""
        positions = torch.arange(states.shape[1], device=states.device).expand(states.shape[:2])
        where = Within(positions, valid=valid, causal=causal)
        for block in self.blocks:
            states = block(states, where)
        found: Tensor = self.norm(states)
        return found


class LearnYourTokens(PreTrainedModel):
    """A language model over words of bytes. It has no ids of tokens: it reads `word_units`."""

    config_class = LearnYourTokensConfig
    config: LearnYourTokensConfig
    main_input_name = "units"
    _tied_weights_keys = {"head.weight": "embeddings.weight"}
    _supports_sdpa = True  # The name alone: its attention is its own.

    def __init__(self, config: LearnYourTokensConfig) -> None:
        super().__init__(config)
        size, vectors = config.hidden_size, config.vectors
        self.embeddings = nn.Embedding(UNITS, size)
        self.classes = nn.Parameter(torch.randn(vectors, size) * config.initializer_range)
        self.begin = nn.Parameter(torch.randn(vectors, size) * config.initializer_range)
        self.encoder = Stack(config, config.word_layers)
        self.main = Stack(config, config.num_hidden_layers)
        self.decoder = Stack(config, config.word_layers)
        self.head = nn.Linear(size, UNITS, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def encode(self, units: Tensor) -> Tensor:
        """The vectors of words, `[words, K, hidden]` of units int64 `[words, n]`."""
        classes = self.classes.expand(len(units), -1, -1)
        states = torch.cat((classes, self.embeddings(units.clamp_min(0))), 1)
        valid = F.pad(units != FILLING, (self.config.vectors, 0), value=True)
        found: Tensor = self.encoder(states, valid, causal=False)[:, : self.config.vectors]
        return found

    def context(self, vectors: Tensor) -> Tensor:
        """What each word is spelled from, `[rows, words, K, hidden]`, of the words' own vectors:
        the main model's states of the word before it, for the first of BEGIN."""
        rows, words, count, size = vectors.shape
        begin = self.begin.expand(rows, 1, count, size)
        states = torch.cat((begin, vectors[:, :-1]), 1).flatten(1, 2)
        found: Tensor = self.main(states)
        return found.view(rows, words, count, size)

    def spell(self, context: Tensor, units: Tensor) -> Tensor:
        """Logits `[words, n, UNITS]` of units `[words, n]`, each of those before it and of the
        word's context `[words, K, hidden]`."""
        before = self.embeddings(units[:, :-1].clamp_min(0))
        states = self.decoder(torch.cat((context, before), 1))
        found: Tensor = self.head(states[:, self.config.vectors - 1 :])
        return found

    def forward(self, units: Tensor, **_: Any) -> CausalLMOutput:
        """Logits `[rows, words, n, UNITS]` of units int64 `[rows, words, n]`.

        Args:
            units: as `word_units.units_of` gives them, rows of words filled up behind their end.
        """
        shape = units.shape[:2]
        vectors = self.encode(units.flatten(0, 1)).unflatten(0, shape)
        logits = self.spell(self.context(vectors).flatten(0, 1), units.flatten(0, 1))
        return CausalLMOutput(logits=logits.unflatten(0, shape))

    def spelled(self, units: Tensor) -> tuple[Tensor, Tensor]:
        """What words cost: nats, and whether the likeliest units spell them, `[rows, words]` each.

        The same as by `forward`, but words of about one length are read together, so that little
        is filled up. What is no word costs 0.
        """
        shape, flat = units.shape[:2], units.flatten(0, 1)
        groups = _by_length(lengths_of(flat), units.shape[-1])
        vectors = _apart(groups, flat, self.encode, self.config.vectors)
        context = self.context(vectors.unflatten(0, shape)).flatten(0, 1)

        nats = torch.zeros(len(flat), device=flat.device)
        right = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        for words, width in groups:
            wanted = flat[words, :width]
            logits = self.spell(context[words], wanted).float()
            each = F.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=FILLING, reduction="none"
            )
            nats = nats.index_add(0, words, each.view(wanted.shape).sum(1))
            right[words] = ((logits.argmax(-1) == wanted) | (wanted == FILLING)).all(1)
        return nats.view(shape), right.view(shape)

    @torch.inference_mode()
    def write(
        self, text: str | bytes, words: int = 32, temperature: float = 0.0, seed: int = 0,
        told: Callable[[bytes], None] = lambda word: None,
    ) -> bytes:  # fmt: skip
        """Goes on with a text word by word, up to the end of the text or so many words.

        The main model reads all words again for each new one; it keeps no cache.

        Args:
            text: ends with a space where a new word is to begin; else a space is written first.
            words: most words that are written.
            temperature: 0 takes the likeliest unit.
            seed: of what is drawn.
            told: called with each word.

        Raises:
            ValueError: for a temperature below 0.
            TokenizerError: for half a surrogate pair.
        """
        if temperature < 0:
            raise ValueError(f"temperature={temperature}: 0 or more")
        data = text if isinstance(text, bytes) else utf8(text)
        started = data if not data or data.endswith(b" ") else data + b" "
        longest, device = self.config.longest, self.device
        chance = torch.Generator(device).manual_seed(seed)
        vectors = self.begin.new_zeros(0, *self.begin.shape)
        if started:
            vectors = self.encode(units_of(started, longest, stops=False).units.to(device))
        found = started[len(data) :]
        for _ in range(words):
            # One word more, whose own vectors nobody reads.
            rows = F.pad(vectors, (0, 0, 0, 0, 0, 1))[None]
            word = self._word(self.context(rows)[0, -1:], temperature, chance)
            text_of = bytes_of([word])
            found += text_of
            told(text_of)
            if word[-1] == STOP:
                break
            row = torch.tensor([word + [FILLING] * (longest + 1 - len(word))], device=device)
            vectors = torch.cat((vectors, self.encode(row)))
        return found

    def _word(self, context: Tensor, temperature: float, chance: torch.Generator) -> list[int]:
        """Units up to one that ends the word. Ends stand where `units_of` puts them."""
        word: list[int] = []
        while not word or word[-1] < SPACE:
            row = torch.tensor([[*word, FILLING]], device=context.device)
            logits = self.spell(context, row)[0, -1].float()
            full, line = len(word) == self.config.longest, bool(word) and word[-1] == _LINE
            if full or line:
                logits[:SPACE] = -torch.inf
            logits[[SPACE, STOP] if line else [] if full else [ON, _BLANK]] = -torch.inf
            if temperature:
                probs = (logits / temperature).softmax(-1)
                word.append(int(torch.multinomial(probs, 1, generator=chance)))
            else:
                word.append(int(logits.argmax()))
        return word


def _by_length(lengths: Tensor, most: int) -> list[tuple[Tensor, int]]:
    """Numbers of the words of each class of lengths, int64 `[words]`, and the width it is read in;
    what has no units is in none."""
    found, low = [], 0
    for number in range(1, _CLASSES + 1):
        high = -(-most * number // _CLASSES)
        words = ((lengths > low) & (lengths <= high)).nonzero()[:, 0]
        if len(words):
            found.append((words, int(lengths[words].max())))
        low = high
    return found


def _apart(
    groups: list[tuple[Tensor, int]], flat: Tensor, encode: Callable[[Tensor], Tensor], count: int
) -> Tensor:
    """Vectors of all words, `[words, K, hidden]`, encoded group by group."""
    parts = [encode(flat[words, :width]) for words, width in groups]
    order = torch.cat([words for words, _ in groups])
    made = torch.cat(parts)
    return made.new_zeros(len(flat), count, made.shape[-1]).index_copy(0, order, made)


__all__ = ["PAPER", "LearnYourTokens", "LearnYourTokensConfig"]
