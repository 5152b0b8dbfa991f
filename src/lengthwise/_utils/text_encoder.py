"""Texts as vectors, by a transformers encoder that lies in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_ENDLESS = 1 << 30


class TextEncoder:
    """The mean of an encoder's last states over a text, or the first of them where the folder says
    that it was trained so (`1_Pooling`, as sentence-transformers writes it).

    Raises whatever transformers raises for a folder that holds no encoder with its tokenizer.
    """

    def __init__(self, folder: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        from lengthwise._utils.devices import fastest_device

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self.model = model.to(fastest_device())
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        pooling = Path(folder) / "1_Pooling" / "config.json"
        self._first = pooling.is_file() and bool(
            json.loads(pooling.read_text("utf-8")).get("pooling_mode_cls_token")
        )

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.model.config.hidden_size)

    def embed(self, texts: Sequence[str], longest: int | None = None) -> Tensor:
        """One vector a text, in one batch: float32 `[texts, width]` on the CPU, of any length.

        longest: tokens of a text that are read, none meaning as many as the encoder takes.
        """
        import torch

        limits = (longest, getattr(self.model.config, "max_position_embeddings", None),
                  self.tokenizer.model_max_length)  # fmt: skip
        # A tokenizer that knows no limit names a number without end.
        least = min((limit for limit in limits if limit and limit < _ENDLESS), default=None)
        given = self.tokenizer(
            list(texts), padding=True, truncation=least is not None, max_length=least,
            return_tensors="pt",
        ).to(self.model.device)  # fmt: skip
        given.pop("token_type_ids", None)
        with torch.inference_mode():
            states: Tensor = self.model(**given).last_hidden_state.float()
            if self._first:
                return states[:, 0].cpu()
            mask = given["attention_mask"].unsqueeze(-1).float()
            mean: Tensor = (states * mask).sum(1) / mask.sum(1).clamp_min(1)
        return mean.cpu()


__all__ = ["TextEncoder"]
