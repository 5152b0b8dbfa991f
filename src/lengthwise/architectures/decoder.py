"""A small decoder whose attention is to be filled in: what the models of this room share.

Blocks normalise first (RMS), their feed-forward is GELU, and no product has a bias. Rows hold one
document or several: a document begins where positions do not go on by one, and sees itself alone.
They are trained and measured in whole rows: only a model that says so (`keeps_cache`) goes on from
a cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class DecoderConfig(PreTrainedConfig):
    """Sizes of a decoder; `max_position_embeddings` is what positions may count to, where they
    are learned."""

    model_type = "lengthwise_decoder"

    def __init__(
        self, vocab_size: int = 257, hidden_size: int = 128, intermediate_size: int = 512,
        num_hidden_layers: int = 4, num_attention_heads: int = 4,
        max_position_embeddings: int = 128, initializer_range: float = 0.02,
        tie_word_embeddings: bool = True, **other: Any,
    ) -> None:  # fmt: skip
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size={hidden_size} is no multiple of "
                f"num_attention_heads={num_attention_heads}"
            )
        super().__init__(**other)
        self.tie_word_embeddings = tie_word_embeddings

    @property
    def head_dim(self) -> int:
        return int(self.hidden_size // self.num_attention_heads)


@dataclass(frozen=True)
class Rows:
    """Where the tokens of a batch stand. What has n^2 numbers is made where a layer asks for it.

    positions: int64 `[rows, n]`, from anywhere on by one in each document. cache: what layers put
    their keys and values into. before: tokens that it had, of the one document of each row.
    """

    positions: Tensor
    cache: Cache | None = None
    before: int = 0

    @cached_property
    def distance(self) -> Tensor:
        """Of a query and a key in this order, int64 `[rows, n, before + n]`."""
        earlier = torch.arange(-self.before, 0, device=self.positions.device)
        keys = torch.cat((self.positions[:, :1] + earlier, self.positions), 1)
        return self.positions[:, :, None] - keys[:, None]

    @cached_property
    def begins(self) -> Tensor:
        """Whether a document begins with a token, bool `[rows, n]`."""
        return self.positions.diff(prepend=self.positions[:, :1] - 2) != 1

    @cached_property
    def seen(self) -> Tensor:
        """Whether a query sees a key, bool as `distance`: its own document, as far as itself."""
        if self.before:
            return self.distance >= 0
        document = self.begins.cumsum(-1)
        order = torch.arange(self.positions.shape[1], device=self.positions.device)
        return (document[:, :, None] == document[:, None]) & (order[:, None] >= order)


class Attention(nn.Module):
    """Multi-head attention. A model overrides `mix`, or parts of it."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        size = config.hidden_size
        self.q, self.k, self.v, self.o = (nn.Linear(size, size, bias=False) for _ in range(4))

    def forward(self, states: Tensor, where: Rows) -> Tensor:
        """What attention adds to states `[rows, n, hidden]`."""
        rows, count, _ = states.shape
        split = rows, count, self.config.num_attention_heads, -1
        query, key, value = (
            project(states).view(split).transpose(1, 2) for project in (self.q, self.k, self.v)
        )
        out = self.read(query, key, value, where)
        found: Tensor = self.o(out.transpose(1, 2).reshape(rows, count, -1))
        return found

    def read(self, query: Tensor, key: Tensor, value: Tensor, where: Rows) -> Tensor:
        """What each query reads, `[rows, heads, n, head_dim]` as query, key and value."""
        return self.mix(
            query, key, value, where.distance[:, None], where.seen[:, None], where.positions
        )

    def logits(self, query: Tensor, key: Tensor, distance: Tensor, positions: Tensor) -> Tensor:
        """`[rows, heads, n, n]` of query and key `[rows, heads, n, head_dim]`."""
        found: Tensor = query @ key.mT / float(self.config.head_dim**0.5)
        return found

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, distance: Tensor, seen: Tensor,
        positions: Tensor,
    ) -> Tensor:  # fmt: skip
        """What each query reads, `[rows, heads, n, head_dim]`; distance, seen `[rows, 1, n, n]`."""
        scores = self.logits(query, key, distance, positions).masked_fill(~seen, -torch.inf)
        return self.weighted(scores.float().softmax(-1).to(value.dtype), distance) @ value

    def weighted(self, weights: Tensor, distance: Tensor) -> Tensor:
        """Weights `[rows, heads, n, n]` after the softmax, as values are given them."""
        return weights


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside the residual."""

    def __init__(self, config: DecoderConfig, attention: Attention) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.attention = attention
        self.norms = nn.ModuleList(nn.RMSNorm(size) for _ in range(2))
        self.up, self.down = nn.Linear(size, inner, bias=False), nn.Linear(inner, size, bias=False)

    def forward(self, states: Tensor, where: Rows) -> Tensor:
        states = states + self.attention(self.norms[0](states), where)
        found: Tensor = states + self.down(F.gelu(self.up(self.norms[1](states))))
        return found


class Decoder(PreTrainedModel):
    """A causal language model. attention: the class of its layers'. keeps_cache: whether that reads
    `Rows.cache`."""

    config_class: type[DecoderConfig] = DecoderConfig
    config: DecoderConfig
    attention: type[Attention] = Attention
    keeps_cache = False
    _tied_weights_keys = {"head.weight": "embeddings.weight"}
    _supports_sdpa = True  # The name alone: its attention is its own.

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, self.attention(config, number))
            for number in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        """`[rows, n, hidden]` of ids and positions int64 `[rows, n]`."""
        found: Tensor = self.embeddings(ids)
        return found

    def forward(
        self, input_ids: Tensor, position_ids: Tensor | None = None,
        past_key_values: Cache | None = None, use_cache: bool | None = None,
        attention_mask: Tensor | None = None, **_: Any,
    ) -> CausalLMOutputWithPast:  # fmt: skip
        """Logits `[rows, n, vocab]` of input_ids int64 `[rows, n]`.

        Args:
            input_ids: of the rows.
            position_ids: int64 `[rows, n]`, from 0 in each document; None is one document a row.
            past_key_values: the cache to go on from; it is added to.
            use_cache: whether to begin one where there is none.
            attention_mask: has to be all ones.

        Raises:
            ValueError: for padding, and for a cache where the model keeps none or where documents
                begin behind one.
        """
        if attention_mask is not None and not bool((attention_mask != 0).all()):
            raise ValueError(f"{self.config.model_type} reads no padding: give rows of one length")
        if use_cache and past_key_values is None and self.keeps_cache:
            past_key_values = DynamicCache()
        where = self._where(input_ids, position_ids, past_key_values)
        states = self.embedded(input_ids, where.positions)
        for layer in self.layers:
            states = layer(states, where)
        logits = self.head(self.norm(states))
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    def _where(self, ids: Tensor, positions: Tensor | None, cache: Cache | None) -> Rows:
        if cache is not None and not self.keeps_cache:
            raise ValueError(
                f"{self.config.model_type} keeps no cache: read whole rows, with use_cache=False"
            )
        before = 0 if cache is None else int(cache.get_seq_length())
        if positions is None:
            positions = torch.arange(before, before + ids.shape[1], device=ids.device)
        where = Rows(positions.expand_as(ids), cache, before)
        if cache is not None and (
            bool(where.begins[:, 1:].any()) or bool((where.positions[:, 0] != before).any())
        ):
            raise ValueError(
                f"a cache of {before} tokens goes on at position {before}, with one document a row"
            )
        return where


__all__ = ["Attention", "Decoder", "DecoderConfig", "Rows"]
