"""Supertokens: merges of chunks of random length, against BPE and SuperBPE; then rows for them.

Texts are those of `superbpe.py`, domains and ways those of `tokenadapt.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.prose import held_out, prose
from benchmarks.reproduction.tokenization import tokenadapt
from benchmarks.reproduction.tokenization.superbpe_runs import run
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from lengthwise.tokenization.fast_bpe import FastBPE
from lengthwise.tokenization.trainers.kind import TokenizerKind
from lengthwise.tokenization.trainers.superbpe import SuperBPE
from lengthwise.tokenization.trainers.supertokens import Supertokens
from lengthwise.tokenization.transplant.mean import Mean
from lengthwise.tokenization.transplant.random import Random
from lengthwise.tokenization.transplant.tokenadapt import TokenAdapt
from lengthwise.tokenization.transplant.tokenadapt_own import TokenAdaptOwn

SPACE = "\u0120"


def trained(kind: TokenizerKind, megabytes: float, size: int) -> Tokenizer:
    """A tokenizer of a kind on so much prose."""
    with tempfile.TemporaryDirectory() as work:
        return kind.train(
            lambda: prose(megabytes), size, Path(work), lambda what, share: None
        )  # fmt: skip


@check({"tokenizer": "", "vocabulary": ",d", "bytes a token": ".3f", "of plain BPE's": ".3f",
        "reach over a space": ".1%", "of those in use": ".1%"})  # fmt: skip
def supertokens(
    megabytes: float = 20.0, size: int = 50_000, test: float = 2.0
) -> Iterator[Found]:  # fmt: skip
    """Bytes a token on held-out documents cut at blank lines, and the share of tokens that reach
    over a space: of the vocabulary, and of the tokens of the texts."""
    texts = [part for document in held_out(test) for part in document.split("\n\n") if part]
    plain = 0.0
    for name, kind in (("plain BPE", SuperBPE(transition=1.0)),
                       ("superbpe(transition=0.4)", SuperBPE(transition=0.4)),
                       ("supertokens", Supertokens())):  # fmt: skip
        tokenizer = trained(kind, megabytes, size)
        over = {i for token, i in tokenizer.get_vocab().items() if SPACE in token.lstrip(SPACE)}
        ids = [i for each in FastBPE(tokenizer).encode(texts) for i in each.tolist()]
        held = sum(len(text.encode()) for text in texts) / len(ids)
        plain = plain or held
        yield {
            "tokenizer": name, "vocabulary": tokenizer.get_vocab_size(), "bytes a token": held,
            "of plain BPE's": held / plain,
            "reach over a space": len(over) / tokenizer.get_vocab_size(),
            "of those in use": sum(i in over for i in ids) / len(ids),
        }  # fmt: skip


@check({"by": "", "megabytes": ".0f", "seconds": ".0f", "peak, MB": ".0f", "merges": ""})
def memory(
    megabytes: tuple[float, ...] = (5.0, 20.0), size: int = 50_000,
    ours: tuple[float, ...] = (110.0,),
) -> Iterator[Found]:  # fmt: skip
    """Training in a process of its own, by us and by `tokenizers` from the same chunks; `ours` are
    sizes that it is not asked for. Merges are digests: where they are the same, they are equal."""
    for each in (*megabytes, *ours):
        for by in ("ours", "tokenizers") if each in megabytes else ("ours",):
            row = run("chunks", each, size, by)
            yield {"by": by, "megabytes": each, "seconds": row["first"], "peak, MB": row["peak"],
                   "merges": row["digest"]}  # fmt: skip


@check(tokenadapt.COLUMNS)
def transplanted(
    megabytes: float = 20.0, size: int = 50_000, texts: int = 16_000
) -> Iterator[Found]:  # fmt: skip
    """Bits a byte of the embedded model with supertokens, for each way to make rows. Nothing is
    trained."""
    new = PreTrainedTokenizerFast(
        tokenizer_object=trained(Supertokens(), megabytes, size), eos_token="<|endoftext|>"
    )
    model, own = tokenadapt.fresh()
    yield tokenadapt.row("the original tokenizer", tokenadapt.losses(model, own, texts))
    ways = {
        "tokenadapt": TokenAdapt(encoder=tokenadapt.minilm()), "tokenadapt_own": TokenAdaptOwn(),
        "mean": Mean(), "random": Random(),
    }  # fmt: skip
    for name, by in ways.items():
        found, copied, made = tokenadapt.after(by, new, texts)
        yield tokenadapt.row(name, found)
    yield Note({"copied": copied, "made": made})


__all__ = ["memory", "supertokens", "transplanted"]
