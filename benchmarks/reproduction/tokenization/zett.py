"""ZeTT: a hypernetwork for stories15M, trained on tales that the model wrote, and two tokenizers.

The model stays as it is. What is asked for rows of a Unigram learned on other such tales, and of
GPT-2's tokenizer, is the network, and the ways that train nothing. float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.stories15m import stories15m
from benchmarks.reproduction.tokenization.tokenadapt import gpt2, minilm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise.tokenization.transplant.hypernetwork import Shape
from lengthwise.tokenization.transplant.loss import loss_a_byte
from lengthwise.tokenization.transplant.mean import Mean
from lengthwise.tokenization.transplant.method import Transplant
from lengthwise.tokenization.transplant.random import Random
from lengthwise.tokenization.transplant.sampled import Sampler, Sampling
from lengthwise.tokenization.transplant.surgery import transplant
from lengthwise.tokenization.transplant.tokenadapt import TokenAdapt
from lengthwise.tokenization.transplant.tokenadapt_own import TokenAdaptOwn
from lengthwise.tokenization.transplant.zett import Zett
from lengthwise.training.zett import Settings, train

_END = "<|endoftext|>"


def fresh() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """stories15M."""
    found = stories15m()
    assert found.tokenizer is not None
    return found.adapted.model, found.tokenizer


def tales(count: int, seed: int) -> list[str]:
    """Tales that stories15M writes at temperature 1."""
    model, tokenizer = fresh()
    torch.manual_seed(seed)
    found: list[str] = []
    while len(found) < count:
        given = torch.full((64, 1), 1)
        rows = model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=True, max_new_tokens=220,
            pad_token_id=2, top_k=0,
        )  # fmt: skip
        found += [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
    return found[:count]


def unigram(texts: list[str], size: int) -> PreTrainedTokenizerBase:
    """A Unigram of texts, as the sampled ones are, without their noise."""
    sampler = Sampler(Sampling(size, len(texts), noise=1e-30, sigma=0.0), seed=0)
    sampler.show(texts)
    tokenizer = sampler.draw()
    tokenizer.add_special_tokens([_END])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END)


@check({"rows made by": "", "unigram": ".3f", "gpt2": ".3f"})
def zett(
    identity: int = 400, steps: int = 200, batch: int = 4, vocabulary: int = 2048, layers: int = 1,
    written: int = 64, size: int = 8000, encoder: int = 1,
) -> Iterator[Found]:  # fmt: skip
    """Bits a byte of tales, under each tokenizer and each way to make rows.

    encoder: 0 leaves out the way that asks all-MiniLM-L6-v2.
    """
    learned, others, test = tales(written, 0), tales(written, 1), tales(16, 2)
    model, own = fresh()
    yield {"rows made by": "the original tokenizer",
           "unigram": (bits := loss_a_byte(model, own, test).bits), "gpt2": bits}  # fmt: skip
    new = {"unigram": unigram(others, size), "gpt2": gpt2()}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "network"
        how = Settings(
            identity=identity,
            steps=steps,
            batch=batch,
            length=256,
            sampling=Sampling(vocabulary=vocabulary, queue=256),
        )
        found = train(model, own, learned, place, Shape(layers=layers), how)
        ways: dict[str, Transplant] = {
            "zett": Zett(path=str(place)), "mean": Mean(), "tokenadapt_own": TokenAdaptOwn(),
            "random": Random(),
        }  # fmt: skip
        if encoder:
            ways["tokenadapt"] = TokenAdapt(encoder=minilm())
        for name, by in ways.items():
            row: Found = {"rows made by": name}
            for which, tokenizer in new.items():
                model, own = fresh()
                made = transplant(model, own, tokenizer, by)
                row[which] = loss_a_byte(made.model, made.tokenizer, test).bits
            yield row
    last = found.losses[-20:]
    yield Note({
        "identity": found.identity, "first nats a byte": found.losses[0],
        "last nats a byte": sum(last) / len(last), "unigram tokens": len(new["unigram"]),
    })  # fmt: skip
