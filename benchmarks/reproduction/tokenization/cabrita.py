"""Cabrita: an English model's tokenizer is given Turkish tokens, and training goes on.

The model is stories15M (English tales, Llama 2's tokenizer) or the embedded one; the text is the
help of LibreOffice in Turkish, of which every tenth paragraph is held out. Every way trains for as
many steps on as many bytes: a row has as many tokens as its tokenizer makes of them. float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.stories15m import stories15m
from benchmarks.reproduction.turkish import turkish
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise.models.load import load_pretrained
from lengthwise.tokenization.transplant.extend import extended
from lengthwise.tokenization.transplant.folder import save
from lengthwise.tokenization.transplant.loss import loss_a_byte
from lengthwise.tokenization.transplant.mean import Mean
from lengthwise.tokenization.transplant.method import Transplant
from lengthwise.tokenization.transplant.random import Random
from lengthwise.tokenization.transplant.surgery import transplant
from lengthwise.tokenization.transplant.tokenadapt_own import TokenAdaptOwn
from lengthwise.training.continued import Continued, go_on

WAYS: dict[str, Transplant | None] = {
    "the old tokenizer": None, "mean": Mean(), "tokenadapt_own": TokenAdaptOwn(),
    "random": Random(),
}  # fmt: skip


def opened(base: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in float32 with its tokenizer."""
    if base == "embedded":
        model, tokenizer, _ = load_pretrained(None, "fp32")
        return model, tokenizer
    found = stories15m()
    assert found.tokenizer is not None
    return found.adapted.model, found.tokenizer


def texts() -> tuple[list[str], str]:
    """What is trained on, and what is held out."""
    paragraphs = turkish()
    return [p for n, p in enumerate(paragraphs) if n % 10], "\n".join(paragraphs[::10])


@check({"rows of new tokens": "", "tokens": ",", "bytes a token": ".3f", "before": ".3f",
        "after": ".3f", "steps": ",", "bytes a step": ","})  # fmt: skip
def cabrita(
    base: str = "stories15M", more: int = 4000, steps: int = 30, row: int = 1000, rows: int = 2,
    lr: float = 5e-4, held: int = 8_000,
) -> Iterator[Found]:  # fmt: skip
    """Bits a byte of held-out Turkish, before and after training on equal bytes."""
    learned, test = texts()
    test = test[:held]
    for name, by in WAYS.items():
        model, own = opened(base)
        new = own if by is None else extended(own, lambda: iter(learned), more)
        made = transplant(model, own, new, by)
        before = loss_a_byte(made.model, made.tokenizer, [test])
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            save(place / "start", made.model, made.tokenizer, {})
            (place / "text.txt").write_text("\n".join(learned), encoding="utf-8")
            how = Continued(
                steps=steps, length=round(row * before.tokens / before.bytes), rows=rows, lr=lr
            )
            go_on(place / "start", (str(place / "text.txt"),), place / "work", how)
            trained, tokenizer, _ = load_pretrained(str(place / "work" / "run" / "model"), "fp32")
            after = loss_a_byte(trained, tokenizer, [test])
        yield {
            "rows of new tokens": name, "tokens": made.tokens,
            "bytes a token": before.bytes / before.tokens, "before": before.bits,
            "after": after.bits, "steps": steps, "bytes a step": row * rows,
        }  # fmt: skip
    yield Note({"held out": len(test.encode()), "learned from": sum(map(len, learned))})
