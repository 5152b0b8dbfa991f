"""EAGLE: one trained layer continues the model's own hidden states, and with them its text.

Li et al., "EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty", ICML 2024,
arXiv:2401.15077. Li et al., "EAGLE-2: Faster Inference of Language Models with Dynamic Draft
Trees", EMNLP 2024, arXiv:2406.16858.

With f_t the hidden state that the head reads at token t, and e the embedding of a token:

    f^_{t+1} = layer(fc(e(x_{t+1}), f_t)),   q(x_{t+2} | ...) = softmax(head(f^_{t+1}))

where `layer` is one Llama layer with a cache of its own and `head` the model's own. The tree grows
by levels: the `width` guesses whose whole path is likeliest are continued, each with its `width`
likeliest tokens. Of all of them the likeliest `nodes` are verified. After verification the layer
reads the true hidden states of what was accepted, in place of its own.

Checkpoints are those the authors publish for EAGLE and EAGLE-2 (the same files: `config.json`, and
`pytorch_model.bin` or `model.safetensors`). EAGLE-3 reads the states of three layers of the model,
which a forward of ours does not give, and is refused by name.

Ours: guesses are accepted losslessly under any sampling, where the released code draws its bonus
token without the processors. The policy decides how many levels and nodes pay.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaModel

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import ModelError, Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.drafting._shared.model_drafter import bucket_of, fit_vocab
from lengthwise.methods.drafting._shared.trained_heads import Checkpoint, KeptByModel
from lengthwise.models.adapted_model import AdaptedModel

FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Eagle(Method):
    """path: the trained layer. depth, width, nodes: levels of the tree, how many guesses of each
    are continued and with how many tokens, and how many of all are verified."""

    name: ClassVar[str] = "eagle"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[tuple[Paper, ...]] = (
        Paper(
            "EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty",
            "Li et al.",
            2024,
            arxiv="2401.15077",
            venue="ICML",
            code="https://github.com/SafeAILab/EAGLE",
        ),
        Paper(
            "EAGLE-2: Faster Inference of Language Models with Dynamic Draft Trees",
            "Li et al.",
            2024,
            arxiv="2406.16858",
            venue="EMNLP",
            code="https://github.com/SafeAILab/EAGLE",
        ),
    )
    lossless: ClassVar[bool] = True
    path: str = option("", "a trained layer: a folder or hub name, as its authors publish it")
    depth: int = option(6, "levels of the tree", low=0)
    width: int = option(10, "guesses of a level that are continued, and with how many", low=1)
    nodes: int = option(59, "guesses of the whole tree that are offered", low=1)

    @classmethod
    def identity(cls, length: int) -> Eagle:
        return cls(depth=0)

    def check(self, model: AdaptedModel) -> None:
        if self.path or self.depth:
            self.layer(model)

    def layer(self, model: AdaptedModel) -> DraftLayer:
        """The trained layer, where the model lives; raises ModelError where it is another's."""
        if not self.path:
            raise Refused(
                "eagle guesses by a layer that was trained for this model, and none is named",
                "write eagle(path=FOLDER), or use a drafter that needs no training: lookup",
            )
        return _LAYERS(self.path, model)

    def start_drafter(self, model: AdaptedModel) -> EagleDrafter | None:
        return EagleDrafter(self, self.layer(model), model) if self.depth else None


class DraftLayer(nn.Module):
    """Tokens and the states before them -> the states that follow, over a cache of the caller's."""

    def __init__(self, checkpoint: Checkpoint, model: AdaptedModel) -> None:
        super().__init__()
        name, weights = checkpoint.name, dict(checkpoint.weights)
        if "d2t" in weights or any(key.startswith("midlayer.") for key in weights):
            raise ModelError(
                f"{name}: an EAGLE-3 checkpoint, which reads hidden states of three layers that a "
                "forward of ours does not give; use one for EAGLE or EAGLE-2"
            )
        vocab, hidden = model.model.get_output_embeddings().weight.shape
        config = LlamaConfig(**_known(checkpoint.config))
        if config.hidden_size != hidden:
            raise ModelError(f"{name}: its states have {config.hidden_size} numbers and this "
                             f"model's {hidden}: it was trained for another model")  # fmt: skip
        config.num_hidden_layers = sum(
            key.endswith("self_attn.q_proj.weight") for key in weights
        ) or 1  # fmt: skip
        config.attention_bias = "layers.0.self_attn.q_proj.bias" in weights
        config._attn_implementation = "sdpa"
        with torch.device("meta"):
            net: Any = LlamaModel(config)
        own = weights.pop("embed_tokens.weight", None)
        embed: Any = model.model.get_input_embeddings()
        self.embed: Tensor = embed.weight if own is None else own
        if self.embed.shape[1] != hidden or self.embed.shape[0] < vocab:
            raise ModelError(f"{name}: embeds {self.embed.shape[0]:,} tokens and this model has "
                             f"{vocab:,}: it was trained for another model")  # fmt: skip
        self.embed = self.embed.to(model.device, model.dtype)
        self.fc = checkpoint.need("fc.weight", (hidden, 2 * hidden)).to(model.device, model.dtype)
        bias = weights.get("fc.bias")
        self.fc_bias = None if bias is None else bias.to(model.device, model.dtype)
        net.norm = nn.Identity()
        net.layers[0].input_layernorm = nn.Identity()
        net.embed_tokens = nn.Identity()
        rest = {k: v.to(model.device, model.dtype) for k, v in weights.items()
                if k.startswith("layers.")}  # fmt: skip
        missing, extra = net.load_state_dict(rest, strict=False, assign=True)
        if missing or extra:
            raise ModelError(f"{name}: its layer lacks {', '.join(missing) or 'nothing'} and has "
                             f"{', '.join(extra) or 'nothing'} beyond; is it an EAGLE "
                             "checkpoint?")  # fmt: skip
        net.rotary_emb = type(net.rotary_emb)(config).to(model.device)
        self.net: Any = net.eval().requires_grad_(False)
        self.head = model.model.get_output_embeddings()

    @torch.no_grad()
    def forward(self, tokens: Tensor, states: Tensor, positions: Tensor, cache: DynamicCache,
                mask: Tensor | None = None) -> Tensor:  # fmt: skip
        """States `[n, hidden]` after tokens `[n]` that follow states `[n, hidden]`; mask: bool
        `[n, cached + n]`, None for a chain."""
        joined = torch.cat([self.embed[tokens], states], -1)
        x = nn.functional.linear(joined, self.fc, self.fc_bias)[None]
        out: Tensor = self.net(
            inputs_embeds=x, position_ids=positions[None], past_key_values=cache, use_cache=True,
            attention_mask=None if mask is None else mask[None, None],
        ).last_hidden_state[0]  # fmt: skip
        return out

    @torch.no_grad()
    def logits(self, states: Tensor) -> Tensor:
        found: Tensor = self.head(states)
        return found


_LAYERS = KeptByModel(FILES, DraftLayer)


def _known(config: dict[str, Any]) -> dict[str, Any]:
    """What a Llama layer is made of, of a published configuration."""
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
             "head_dim", "hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling",
             "rope_parameters", "max_position_embeddings")  # fmt: skip
    found = {name: config[name] for name in names if config.get(name) is not None}
    if "hidden_size" not in found or "intermediate_size" not in found:
        raise ModelError("config.json of an EAGLE checkpoint names hidden_size and "
                         "intermediate_size, and this one does not")  # fmt: skip
    return found | {
        "vocab_size": 1, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip


@dataclass(frozen=True)
class _Guess:
    """A candidate: the one above it (-1: the root), its token, log-probability of the whole path,
    its own probability and its rank among its siblings."""

    above: int
    token: int
    score: float
    prior: float
    rank: int


@dataclass(frozen=True)
class _HeldCache:
    """The layer's cache, as its bytes are counted."""

    cache: DynamicCache

    def nbytes(self) -> int:
        layers: Seq[Any] = self.cache.layers
        found = [t for layer in layers for t in (layer.keys, layer.values)]
        return sum(t.numel() * t.element_size() for t in found if t is not None)

    def groups(self) -> tuple[()]:
        return ()


class EagleDrafter(Drafter):
    """Keeps the layer's cache in step with the text, and grows a tree from its newest state."""

    name = "eagle"
    runs_model = True
    wants_states = True

    def __init__(self, options: Eagle, layer: DraftLayer, model: AdaptedModel) -> None:
        self.options, self.layer, self.vocab_size = options, layer, model.vocab_size
        self.cache = DynamicCache(config=layer.net.config)
        self._features: list[Tensor] = []  # true states that the layer has not read yet
        self._start = 0  # the token whose state is the first of them
        self._length = 0  # entries of the cache that stand for committed text
        self._last: Tensor | None = None

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        noted = list(sequence.noted or ())
        self._start = len(sequence.tokens) - sum(map(len, noted))
        for states in noted:
            self._features.append(states)
            self._read(sequence.tokens)

    def held(self) -> list[_HeldCache]:
        return [_HeldCache(self.cache)]

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        if self.states is not None:
            ids = torch.tensor(accepted, device=self.states.device)
            self._features.append(self.states[ids])

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self._read(tokens)
        if self._last is None:
            return
        try:
            found = self._grow(self._last, len(tokens) - 1, min(limit, self.options.depth))
        finally:
            if extra := int(self.cache.get_seq_length()) - self._length:
                self.cache.crop(-extra)
        best = sorted(range(len(found)), key=lambda i: -found[i].score)[: self.options.nodes]
        nodes = {-1: 0}
        for number in sorted(best):
            each = found[number]
            nodes[number] = tree.add(nodes[each.above], each.token, self.name,
                                     bucket_of(each.rank, each.prior), each.prior)  # fmt: skip

    def _read(self, tokens: Seq[int]) -> None:
        """Feeds the true states that a token follows, each with that token."""
        start, count = self._start, len(tokens) - 1 - self._start
        if not self._features or count <= 0:
            return
        states, rest = torch.cat(self._features).tensor_split([count])
        self._features = [rest] if len(rest) else []
        self._start = start + len(states)
        device = states.device
        after = torch.tensor(list(tokens[start + 1 : self._start + 1]), device=device)
        positions = torch.arange(start, self._start, device=device)
        self._last = self.layer(after, states, positions, self.cache)[-1]
        self._length += len(states)

    def _grow(self, last: Tensor, position: int, depth: int) -> list[_Guess]:
        """Candidates level by level, those of a level in order of their parents."""
        width = self.options.width
        found = self._children(last[None], [-1], [0.0])
        front, states = list(range(len(found))), {-1: last}
        slots: dict[int, list[int]] = {-1: []}
        for level in range(1, depth + 1):
            best = max(front, key=lambda i: found[i].score)
            going = self.draft_depth.should_continue(
                bucket_of(found[best].rank, found[best].prior), found[best].prior
            )
            if level == depth or not going:
                break
            front = sorted(front, key=lambda i: -found[i].score)[:width]
            out = self._level(found, front, slots, states, position + level - 1)
            begin = len(found)
            found += self._children(out, front, [found[i].score for i in front])
            front = list(range(begin, len(found)))
        return found

    def _level(
        self, found: list[_Guess], front: list[int], slots: dict[int, list[int]],
        states: dict[int, Tensor], position: int,
    ) -> Tensor:  # fmt: skip
        """The states after the candidates of `front`, which read the text and those above them.

        slots: of each candidate that was read, the places in the cache of its path.
        """
        device = states[-1].device
        cached = int(self.cache.get_seq_length())
        mask = torch.zeros(len(front), cached + len(front), dtype=torch.bool, device=device)
        mask[:, : self._length] = True
        for row, number in enumerate(front):
            slots[number] = [*slots[found[number].above], cached + row]
        rows = [row for row, number in enumerate(front) for _ in slots[number]]
        mask[rows, [slot for number in front for slot in slots[number]]] = True
        tokens = torch.tensor([found[i].token for i in front], device=device)
        before = torch.stack([states[found[i].above] for i in front])
        positions = torch.full((len(front),), position, device=device)
        out: Tensor = self.layer(tokens, before, positions, self.cache, mask)
        states.update(zip(front, out, strict=True))
        return out

    def _children(self, states: Tensor, above: Seq[int], scores: Seq[float]) -> list[_Guess]:
        """The likeliest tokens after each of these states `[n, hidden]`."""
        logits = torch.stack([fit_vocab(row, self.vocab_size) for row in self.layer.logits(states)])
        log_probs = logits.float().log_softmax(-1)
        best = log_probs.topk(min(self.options.width, log_probs.shape[-1]))
        probs = best.values.exp().tolist()
        return [
            _Guess(parent, token, score + value, prob, rank)
            for parent, score, tokens, values, priors in zip(
                above, scores, best.indices.tolist(), best.values.tolist(), probs, strict=True
            )
            for rank, (token, value, prob) in enumerate(zip(tokens, values, priors, strict=True))
        ]


__all__ = ["Checkpoint", "DraftLayer", "Eagle", "EagleDrafter"]
