"""Byte2Word: the vector of a word made of its bytes by cross-attention, under a word-level BERT.

Lee et al., "Word-Level Representation From Bytes For Language Modeling", 2022, arXiv:2211.12677.

The bytes of a word are embedded in a small table, and learned queries read them once. So the input
side has a hundredth of the weights of a table of subwords. The encoder above reads words. In
pre-training whole words are masked, and a masked word's state says its subwords, so that no softmax
over words is needed.

    c_j = E[b_j] + P[j]                                  j up to `longest`, d_b channels
    w   = W [softmax(q_1 K c / sqrt(d_b)) V c; ...; q_Q]  no attention among bytes
    h   = BERT(CLS, w_1, w_2, ...)
    p(subword in slot s of word i) = softmax(B act(norm(A_s h_i + z_s)))    and a class for "none"

Ours: the backbone is transformers' `BertModel`, given `inputs_embeds`. The abstract fixes the
parts; d_b = 192, one query and four slots are our choice. A word is what BERT's own splitter calls
one, and one of more bytes than `longest` is cut in several.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput

from lengthwise._utils.papers import Paper
from lengthwise._utils.utf8 import utf8

PAPER = Paper(
    "Word-Level Representation From Bytes For Language Modeling", "Lee et al.", 2022,
    arxiv="2211.12677",
)  # fmt: skip
FILLING = -1


class Byte2WordConfig(BertConfig):
    """A BertConfig with the sizes of words. longest: bytes of a word. byte_size: d_b. queries: Q.
    slots: subwords that a masked word may have. vocab_size: subwords that are predicted."""

    model_type = "byte2word"

    def __init__(
        self, longest: int = 32, byte_size: int = 192, queries: int = 1, slots: int = 4,
        **sizes: Any,
    ) -> None:  # fmt: skip
        given = {"longest": longest, "byte_size": byte_size, "queries": queries, "slots": slots}
        for name, each in given.items():
            if each < 1:
                raise ValueError(f"{name}={each}: give at least 1")
        self.longest, self.byte_size, self.queries, self.slots = longest, byte_size, queries, slots
        super().__init__(**sizes)


class ByteWords(nn.Module):
    """Vectors of words, of their bytes."""

    def __init__(self, config: Byte2WordConfig) -> None:
        super().__init__()
        size = config.byte_size
        self.bytes = nn.Embedding(256, size)
        self.places = nn.Embedding(config.longest, size)
        self.queries = nn.Parameter(torch.randn(config.queries, size))
        self.key, self.value = (nn.Linear(size, size) for _ in range(2))
        self.out = nn.Linear(size * config.queries, config.hidden_size)

    def forward(self, words: Tensor) -> Tensor:
        """`[..., hidden]` of bytes int64 `[..., n]`, FILLING behind the end; a word without bytes
        reads nothing and is `out`'s bias."""
        places = torch.arange(words.shape[-1], device=words.device)
        states = self.bytes(words.clamp_min(0)) + self.places(places)
        scores = self.queries @ self.key(states).mT / states.shape[-1] ** 0.5
        valid = (words != FILLING)[..., None, :]
        weights = scores.masked_fill(~valid, torch.finfo(scores.dtype).min).softmax(-1)
        read = (weights * valid) @ self.value(states)
        found: Tensor = self.out(read.flatten(-2))
        return found


class Byte2WordPreTrained(PreTrainedModel):
    """What the models of this file share: words in, states of CLS and words out."""

    config_class = Byte2WordConfig
    config: Byte2WordConfig
    main_input_name = "words"
    base_model_prefix = "reader"
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, ByteWords):
            # So that a word's vector is not lost beside the position it is added to.
            for each in (module.bytes.weight, module.places.weight, module.queries):
                nn.init.normal_(each)
            for product in (module.key, module.value):
                nn.init.xavier_uniform_(product.weight)


class Byte2Word(Byte2WordPreTrained):
    """The encoder."""

    def __init__(self, config: Byte2WordConfig) -> None:
        super().__init__(config)
        self.words = ByteWords(config)
        # Its own table has no use: one row, so that it has no weights to speak of.
        inner = BertConfig(**(config.to_dict() | {"vocab_size": 1, "pad_token_id": 0}))
        self.backbone = BertModel(inner, add_pooling_layer=False)
        self.mask = nn.Parameter(torch.randn(config.hidden_size) * config.initializer_range)
        self.cls = nn.Parameter(torch.randn(config.hidden_size) * config.initializer_range)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, words: Tensor, masked: Tensor | None = None, **_: Any) -> Tensor:
        """States of CLS and of words, `[rows, 1 + words, hidden]`.

        Args:
            words: bytes int64 `[rows, words, n]`, FILLING behind the end of a word. What has no
                bytes is no word, and nobody sees it.
            masked: bool `[rows, words]`, those that are hidden.

        Raises:
            ValueError: for more words than the backbone has positions, or more bytes a word.
        """
        rows, count, bytes_ = words.shape
        if count + 1 > self.config.max_position_embeddings or bytes_ > self.config.longest:
            raise ValueError(
                f"{count} words of {bytes_} bytes: this model reads up to "
                f"{self.config.max_position_embeddings - 1} words of {self.config.longest}"
            )
        there = (words != FILLING).any(-1)
        vectors = self.words(words)
        if masked is not None:
            vectors = torch.where(masked[..., None], self.mask, vectors)
        states = torch.cat((self.cls.expand(rows, 1, -1), vectors), 1)
        found: Tensor = self.backbone(
            inputs_embeds=states, attention_mask=F.pad(there.long(), (1, 0), value=1)
        ).last_hidden_state
        return found


class Byte2WordForMaskedLM(Byte2WordPreTrained):
    """Says the subwords of masked words."""

    def __init__(self, config: Byte2WordConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.reader = Byte2Word(config)
        self.spread = nn.Linear(size, config.slots * size)
        self.slots = nn.Embedding(config.slots, size)
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.head = nn.Linear(size, config.vocab_size + 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, words: Tensor, masked: Tensor, labels: Tensor | None = None, **_: Any
    ) -> MaskedLMOutput:
        """Logits of masked words, `[masked, slots, vocab_size + 1]` in the order of rows.

        Args:
            words: bytes int64 `[rows, words, n]`.
            masked: bool `[rows, words]`.
            labels: int64 `[rows, words, slots]`: subwords, then `vocab_size` for none. The loss is
                nats a masked word, all its slots together.
        """
        states = self.reader(words, masked)[:, 1:][masked]
        spread = self.spread(states).unflatten(-1, (self.config.slots, -1))
        logits = self.head(self.norm(F.gelu(spread + self.slots.weight)))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(
                logits.flatten(0, 1).float(), labels[masked].flatten(), reduction="sum"
            ) / max(1, len(states))
        return MaskedLMOutput(loss=loss, logits=logits)


class Byte2WordForSequenceClassification(Byte2WordPreTrained):
    """Classes of a text, of the state of CLS; the subword head is not needed."""

    def __init__(self, config: Byte2WordConfig) -> None:
        super().__init__(config)
        self.reader = Byte2Word(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, words: Tensor, labels: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Logits `[rows, classes]`.

        Args:
            words: bytes int64 `[rows, words, n]`.
            labels: int64 `[rows]`.
        """
        logits = self.classifier(self.dropout(self.reader(words)[:, 0]))
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def pieces_of(words: Seq[str], longest: int) -> tuple[list[str], int]:
    """Words of at most so many bytes, and how many had to be cut; no character is.

    Args:
        words: any, such as BERT's splitter gives.
        longest: bytes of one, 4 or more.

    Raises:
        TokenizerError: for half a surrogate pair.
        ValueError: for a length that some character exceeds.
    """
    if longest < 4:
        raise ValueError(f"longest={longest}: a character may have 4 bytes; give at least 4")
    found, cut = [], 0
    for word in words:
        if len(word) * 4 <= longest or len(utf8(word)) <= longest:
            found.append(word)
            continue
        cut += 1
        piece, size = "", 0
        for letter in word:
            wide = len(utf8(letter))
            if size + wide > longest:
                found.append(piece)
                piece, size = "", 0
            piece, size = piece + letter, size + wide
        found.append(piece)
    return found, cut


def bytes_of_words(rows: Seq[Seq[str]], longest: int) -> Tensor:
    """Bytes of rows of words, int64 `[rows, words, n]`, FILLING behind their ends.

    Args:
        rows: words of at most `longest` bytes, as `pieces_of` gives them.
        longest: bytes of one.

    Raises:
        ValueError: for a longer word.
    """
    spelled = [[utf8(word) for word in row] for row in rows]
    widest = max((len(word) for row in spelled for word in row), default=1)
    if widest > longest:
        raise ValueError(f"a word has {widest} bytes, and at most {longest} are read: cut it first")
    count = max(map(len, spelled), default=0)
    flat = b"".join(
        word.ljust(widest, b"\0") for row in spelled for word in [*row, *[b""] * (count - len(row))]
    )
    found = torch.frombuffer(bytearray(flat), dtype=torch.uint8) if flat else torch.zeros(0)
    sizes = torch.tensor(
        [[len(word) for word in row] + [0] * (count - len(row)) for row in spelled]
    ).view(len(spelled), count, 1)
    made = found.long().view(len(spelled), count, widest)
    return made.masked_fill(torch.arange(widest) >= sizes, FILLING)


def input_weights(config: Byte2WordConfig) -> int:
    """Weights of the input side: bytes, places, queries and products."""
    return sum(each.numel() for each in ByteWords(config).parameters())


__all__ = [
    "FILLING",
    "PAPER",
    "Byte2Word",
    "Byte2WordConfig",
    "Byte2WordForMaskedLM",
    "Byte2WordForSequenceClassification",
    "bytes_of_words",
    "input_weights",
    "pieces_of",
]
