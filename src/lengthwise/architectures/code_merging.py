"""Token merging for code: the subtokens of an identifier become one vector behind the embeddings.

Saad et al., "On the Effect of Token Merging on Pre-trained Models for Code", 2025,
arXiv:2507.14423.

A tokenizer cuts `getUserName` in three. Their embeddings are merged, and the model above, any of
transformers that reads `inputs_embeds`, sees about one position an identifier.

    mean      e_g = mean of e_i, i in group g
    learned   a_i = softmax over the group of (w . e_i + b);   e_g = sum of a_i e_i

The shorter sequence has positions of its own. With groups of one the model is what it was, to the
bit: its embeddings go through as they are. w begins at 0, and so as the mean. Truncate behind the
merge (`most`), or no context is gained.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from lengthwise._utils.papers import Paper

PAPER = Paper(
    "On the Effect of Token Merging on Pre-trained Models for Code", "Saad et al.", 2025,
    arxiv="2507.14423",
)  # fmt: skip
MERGINGS = ("mean", "learned")


class CodeMergingConfig(PreTrainedConfig):
    """merging: mean or learned. inner: the config of the model above. head: its class with its
    module, which is one of transformers."""

    model_type = "code_merging"

    def __init__(
        self, merging: str = "mean", inner: Any = None, head: str = "", **other: Any
    ) -> None:
        if merging not in MERGINGS:
            raise ValueError(f"merging={merging!r} is none of {', '.join(MERGINGS)}")
        if isinstance(inner, dict):
            inner = AutoConfig.for_model(**inner)
        self.merging, self.inner, self.head = merging, inner, head
        super().__init__(**other)

    @property
    def hidden_size(self) -> int:
        """Channels of the embeddings."""
        return int(self.inner.get_text_config().hidden_size)


class CodeMerging(PreTrainedModel):
    """A model of transformers behind a merge of its embeddings.

    Args:
        config: what to make.
        inner: the model itself, such as a pre-trained one; None makes a new one.

    Raises:
        ValueError: where the config names no class of transformers.
    """

    config_class = CodeMergingConfig
    config: CodeMergingConfig
    base_model_prefix = "inner"
    _supports_sdpa = True

    def __init__(self, config: CodeMergingConfig, inner: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if inner is None:
            inner = _made(config)
        self.inner = inner
        if config.merging == "learned":
            self.score = nn.Linear(config.hidden_size, 1)
            nn.init.zeros_(self.score.weight)
            nn.init.zeros_(self.score.bias)
        self.all_tied_weights_keys = {
            f"inner.{name}": f"inner.{other}"
            for name, other in getattr(inner, "all_tied_weights_keys", {}).items()
        }

    @classmethod
    def over(cls, model: PreTrainedModel, merging: str = "mean") -> CodeMerging:
        """A merge in front of a model, which is not copied.

        Args:
            model: an encoder or a decoder. Of an encoder-decoder this is its encoder.
            merging: mean or learned.

        Raises:
            ValueError: for an encoder-decoder.
        """
        if "decoder_input_ids" in inspect.signature(model.forward).parameters:
            raise ValueError(
                f"{type(model).__name__} is an encoder-decoder, whose decoder writes whole tokens: "
                "merge its encoder, CodeMerging.over(model.get_encoder())"
            )
        made = type(model)
        head = f"{made.__module__}.{made.__qualname__}"
        found = cls(CodeMergingConfig(merging, model.config, head), model)
        # Weights of its own stand where the model's are, in its numbers.
        nn.Module.to(found, model.device, model.dtype)
        return found

    def get_input_embeddings(self) -> nn.Module:
        found: nn.Module = self.inner.get_input_embeddings()
        return found

    def forward(
        self, input_ids: Tensor, groups: Tensor, attention_mask: Tensor | None = None,
        most: int | None = None, **given: Any,
    ) -> ModelOutput:  # fmt: skip
        """What the model above makes of merged embeddings.

        Args:
            input_ids: int64 `[rows, n]`.
            groups: int64 `[rows, n]`, from 0 up by 0 or 1, as `code_groups` gives them.
            attention_mask: 0 for what is filled up at the right; None is none.
            most: positions that are read, of the merged sequence.
            given: handed on, such as labels. Those of a decoder are of merged positions.

        Raises:
            ValueError: for groups that are none.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        _check(groups, mask, input_ids)
        embedded = self.get_input_embeddings()(input_ids)
        merged, there = self.merge(embedded, groups, mask)
        if most is not None:
            merged, there = merged[:, :most], there[:, :most]
        found: ModelOutput = self.inner(inputs_embeds=merged, attention_mask=there, **given)
        return found

    def weights(self, embedded: Tensor, groups: Tensor, mask: Tensor) -> Tensor:
        """What each token counts in its group, `[rows, n]`: 1 in all of a group."""
        score = embedded.new_zeros(embedded.shape[:2], dtype=torch.float32)
        if self.config.merging == "learned":
            score = self.score(embedded)[..., 0].float()
        where, count = _placed(groups, mask)
        highest = score.new_full((len(score), count), -torch.inf)
        highest = highest.scatter_reduce(1, where, score.detach(), "amax")
        raised = (score - highest.gather(1, where)).exp() * (mask != 0)
        total = raised.new_zeros(len(score), count).scatter_add(1, where, raised)
        return raised / total.gather(1, where).clamp_min(torch.finfo(total.dtype).tiny)

    def merge(self, embedded: Tensor, groups: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Merged embeddings `[rows, m, hidden]` and their mask int64 `[rows, m]`."""
        where, count = _placed(groups, mask)
        # Summed in float32, whatever the model's numbers are.
        weighted = embedded * self.weights(embedded, groups, mask)[..., None]
        index = where[..., None].expand_as(embedded)
        merged = weighted.new_zeros(len(embedded), count, embedded.shape[-1])
        merged = merged.scatter_add(1, index, weighted)[:, :-1].to(embedded.dtype)
        sizes = (groups.masked_fill(mask == 0, -1).amax(1, keepdim=True) + 1).clamp_min(0)
        there = torch.arange(count - 1, device=mask.device) < sizes
        return merged, there.long()


def _made(config: CodeMergingConfig) -> PreTrainedModel:
    """A new model above, of a class of transformers and of no other package."""
    module, _, name = config.head.rpartition(".")
    made = None
    if module.startswith("transformers.models.") and config.inner is not None:
        made = getattr(importlib.import_module(module), name, None)
    if not (isinstance(made, type) and issubclass(made, PreTrainedModel)):
        raise ValueError(
            f"head={config.head!r} is no model of transformers, or there is no inner config: make "
            "one of a model with CodeMerging.over(model)"
        )
    return made(config.inner)


def padded_groups(rows: list[list[int]]) -> Tensor:
    """Groups of several texts as one batch, int64 `[rows, n]`.

    Args:
        rows: groups of each text.
    """
    made = [torch.tensor(row, dtype=torch.long) for row in rows]
    return nn.utils.rnn.pad_sequence(made, batch_first=True, padding_value=0)


def _placed(groups: Tensor, mask: Tensor) -> tuple[Tensor, int]:
    """Where each token goes, and how many places there are, one more for what is filled up."""
    count = int(groups.masked_fill(mask == 0, 0).max()) + 2
    return groups.masked_fill(mask == 0, count - 1), count


def _check(groups: Tensor, mask: Tensor, ids: Tensor) -> None:
    if groups.shape != ids.shape or mask.shape != ids.shape:
        raise ValueError(
            f"groups {tuple(groups.shape)} and mask {tuple(mask.shape)} are as input_ids, "
            f"{tuple(ids.shape)}"
        )
    both = (mask[:, 1:] != 0) & (mask[:, :-1] != 0)
    steps = groups.diff(dim=1)
    wrong = both & (steps != 0) & (steps != 1)
    if (
        bool(wrong.any())
        or bool((groups[:, 0] != 0).any())
        or bool(((mask[:, 1:] != 0) & (mask[:, :-1] == 0)).any())
    ):
        raise ValueError(
            "groups begin at 0 and go up by 0 or 1 from token to token, and padding stands at the "
            "right"
        )


__all__ = ["MERGINGS", "PAPER", "CodeMerging", "CodeMergingConfig", "padded_groups"]
