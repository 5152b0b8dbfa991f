"""Grammar-aligned samples: on a table whose law is known, and on the embedded model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.reproduction.decoding.tabular import Sampler, Table
from benchmarks.reproduction.harness import Found, check, load

from lengthwise.methods.decoding.asap import Asap
from lengthwise.methods.decoding.grammar import Grammar
from lengthwise.recipes import Recipe

# Drawn tables and languages that begin where the card's does: seed, spread of logits, sum.
TABLES = {"A": (24, 2.0, 7), "B": (11, 2.0, 9)}
COUNTS = (0, 100, 500, 2000)


@check({"table": "", "samples": "", "total variation": ".3f", "rate of the root": ".4f",
        "share of texts": ".4f", "in the language": ".0%"})  # fmt: skip
def asap(seed: int = 0, only: str = "") -> Iterator[Found]:
    """Total variation to the exact conditional law, by samples so far, on each table or one."""
    for name, (number, spread, total) in TABLES.items():
        if only not in ("", name):
            continue
        sampler, kept = Sampler(Table(number, spread), total, seed), 0
        for count in COUNTS:
            while sampler.drawn < count:
                kept += sum(sampler.draw()) == total
            yield {
                "table": name, "samples": count, "total variation": sampler.distance(),
                "rate of the root": sampler.rate, "share of texts": sampler.share,
                "in the language": kept / count if count else 1.0,
            }  # fmt: skip


PROMPT = "The colours of the flag, one letter each (r, g, b, w):"
# What the model would rather not say behind "r" and "g", and does not mind behind "b".
PATTERN = r" (r|g)(~[0-9]{3})| b[a-z]{1,6}| w[a-z ]{1,6}"


@check({"recipe": "", "samples": "", "in the language": "", "log-probability a text": ".2f",
        "share of texts, at most": ".4f"})  # fmt: skip
def real(samples: int = 20, new: int = 24) -> Iterator[Found]:
    """Samples on the embedded model: all grammatical, and how likely the model finds them."""
    model = load()
    for method in (Grammar(regex=PATTERN), Asap(regex=PATTERN)):
        good, log_probs, rate = 0, 0.0, 1.0
        for seed in range(samples):
            found = model.generate(
                PROMPT, Recipe((method,)), temperature=1.0, seed=seed, max_new_tokens=new
            )
            good += re.fullmatch(PATTERN, found.text) is not None
            ids = [*model.encode(PROMPT), *found.token_ids]
            log_probs += float(model.score(ids)[-len(found.token_ids) :].sum())
            rate = found.metrics.figures.get("asap: share of texts in the language, at most", rate)
        yield {
            "recipe": method.name, "samples": samples, "in the language": good,
            "log-probability a text": log_probs / samples, "share of texts, at most": rate,
        }  # fmt: skip
