"""Encoders of methods that compare vectors: the folder of one is named, none comes with us."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache

from lengthwise.errors import Refused


def require_encoder(method: str, folder: str) -> str:
    """The folder of an encoder.

    Args:
        method: its name.
        folder: as the recipe has it.

    Raises:
        Refused: where none is named.
    """
    if not folder:
        raise Refused(
            f"{method} compares vectors, and no encoder is given",
            f"give the folder of one, {method}(encoder=FOLDER), such as a copy of "
            "all-MiniLM-L6-v2; or take bm25, which compares words",
        )
    return folder


@lru_cache(maxsize=1)
def example_encoder() -> str:
    """The folder of a tiny random encoder of letters, gone when the process ends."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = {sign: n for n, sign in enumerate(("[PAD]", "[UNK]", *map(chr, range(33, 127))))}
    tokenizer = Tokenizer(models.BPE(letters, [], unk_token="[UNK]"))
    config = BertConfig(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64,
    )  # fmt: skip
    folder = tempfile.mkdtemp(prefix="lengthwise-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


__all__ = ["example_encoder", "require_encoder"]
