"""What choosers keep of the evidence for planted questions of five kinds, at equal tokens.

Facts are planted in Python's language reference (`evaluation.tasks.planted`), as many questions of
each kind: a key; three facts far apart; two that lead to each other; a fact asked for in other
words; a sentence of the document itself. Kept is the share of the evidence's characters that is
read, mean over the questions. TOKENS is what was read for a question, mean: the prompt, and
whatever was read to choose it.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from benchmarks.reproduction.harness import Found, check, load, reference
from benchmarks.reproduction.prompting.evidence import TOKENS, Beginning, Random

from lengthwise.api.text_model import LocalText
from lengthwise.documents.document import Document
from lengthwise.evaluation.metrics.evidence import evidence_fields
from lengthwise.evaluation.tasks.planted import KINDS, planted
from lengthwise.methods.base import Method
from lengthwise.recipes import parse

COLUMNS = {"recipe": "", **dict.fromkeys(KINDS, ".0f"), "all": ".0f", TOKENS: ",.0f"}


@check(COLUMNS)
def choosers(length: int = 16_384, questions: int = 60, encoder: str = "") -> Iterator[Found]:
    """Methods that choose by words or vectors; `encoder` names a folder."""
    yield kept("the first 10%", Beginning(10), length, questions)
    yield kept("10% at random", Random(10), length, questions)
    for recipe in ("bm25(budget=10%)", "bm25(budget=10%, passage=32)", "reorder(budget=10%)",
                   "simple_hack(budget=10%)"):  # fmt: skip
        yield of_recipe(recipe, length, questions)
    if encoder:
        for recipe in ("dense(budget=10%)", "dense(budget=10%, passage=32)"):
            yield of_recipe(recipe, length, questions, encoder)


@check(COLUMNS)
def longer(length: int = 110_000, questions: int = 60, encoder: str = "") -> Iterator[Found]:
    """The same with short passages, in a longer text."""
    yield kept("10% at random", Random(10), length, questions)
    yield of_recipe("bm25(budget=10%, passage=32)", length, questions)
    if encoder:
        yield of_recipe("dense(budget=10%, passage=32)", length, questions, encoder)


@check(COLUMNS)
def asking(length: int = 8_192, questions: int = 10, share: int = 10) -> Iterator[Found]:
    """Methods that ask the model about all of the document, for fewer questions."""
    names = ("bm25", "xl3m", "infiniretri", "infiniretri, depth=0.75", "seal",
             "seal, among=allowed", "llmlingua")  # fmt: skip
    for each in names:
        name, _, option = each.partition(", ")
        yield of_recipe(f"{name}(budget={share}%{option and ', '}{option})", length, questions)


def of_recipe(recipe: str, length: int, questions: int, encoder: str = "") -> dict[str, object]:
    """What a recipe keeps; a folder of an encoder is not printed."""
    given = recipe.replace(")", f", encoder={encoder})") if encoder else recipe
    method = parse(given).prompting
    assert method is not None
    return kept(f"`{recipe}`", method, length, questions)


def kept(name: str, method: Method | Beginning, length: int, questions: int) -> dict[str, object]:
    """What a method keeps."""
    model = load()
    text = model.tokenizer.decode(reference(model)[:length])  # type: ignore[union-attr]
    document, asked = planted(Document("reference", str(text)), questions)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    tokens = 0
    for each in asked:
        reader = LocalText(model)
        read = method.write_prompt([document.text], each.question, reader)
        fields = evidence_fields(each.located(document), read.passages)
        found[each.kind].append(100 * fields["evidence_recall"])
        tokens += reader.tokens_read + reader.count(read.text)
    every = [share for shares in found.values() for share in shares]
    return {
        "recipe": name, **{kind: fmean(shares) for kind, shares in found.items()},
        "all": fmean(every), TOKENS: tokens / len(asked),
    }  # fmt: skip
