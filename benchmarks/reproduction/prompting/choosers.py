"""What choosers keep of the evidence for planted questions of five kinds, at equal tokens.

Facts are planted in Python's language reference (`evaluation.tasks.planted`), as many questions of
each kind: a key; three facts far apart; two that lead to each other; a fact asked for in other
words; a sentence of the document itself. Kept is the share of the evidence's characters that is
read, mean over the questions. TOKENS is what was read for a question, mean: the prompt, and
whatever was read to choose it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq
from statistics import fmean

from benchmarks.reproduction.harness import Found, Note, check, load, reference
from benchmarks.reproduction.prompting.evidence import TOKENS, Beginning, Random
from benchmarks.reproduction.stories import stories

from lengthwise.api.text_model import LocalText
from lengthwise.documents.document import Document
from lengthwise.evaluation.metrics.evidence import evidence_fields
from lengthwise.evaluation.tasks.planted import KINDS, planted
from lengthwise.evaluation.tasks.qa import QuestionAnswer
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


@check({"recipe": "", "evidence": ".0f", "whole": ".0f", TOKENS: ",.0f"})
def published(count: int = 320, questions: int = 60, encoder: str = "") -> Iterator[Found]:
    """Questions that people asked of stories, `count` of which are one document: the share of the
    evidence that is kept, and of questions that keep all of theirs."""
    asked = stories(count, questions)
    recipes = ["bm25(budget=10%)", "bm25(budget=10%, passage=32)"]
    recipes += ["dense(budget=10%)", "dense(budget=10%, passage=32)"] if encoder else []
    ways = [(f"`{each}`", method_of(each, encoder if "dense" in each else "")) for each in recipes]
    for name, method in (("the first 10%", Beginning(10)), ("10% at random", Random(10)), *ways):
        shares, tokens = evidence(method, *asked)
        every = [share for found in shares.values() for share in found]
        whole = 100 * fmean(share > 99.99 for share in every)
        yield {"recipe": name, "evidence": fmean(every), "whole": whole, TOKENS: tokens}
    yield Note({"tokens of the document": LocalText(load()).count(asked[0].text)})


def method_of(recipe: str, encoder: str = "") -> Method:
    """The prompting method of a recipe, with a folder of an encoder where one is given."""
    given = recipe.replace(")", f", encoder={encoder})") if encoder else recipe
    method = parse(given).prompting
    assert method is not None
    return method


def of_recipe(recipe: str, length: int, questions: int, encoder: str = "") -> dict[str, object]:
    """What a recipe keeps; a folder of an encoder is not printed."""
    return kept(f"`{recipe}`", method_of(recipe, encoder), length, questions)


def kept(name: str, method: Method | Beginning, length: int, questions: int) -> dict[str, object]:
    """What a method keeps of planted evidence."""
    model = load()
    text = model.tokenizer.decode(reference(model)[:length])  # type: ignore[union-attr]
    found, tokens = evidence(method, *planted(Document("reference", str(text)), questions))
    every = [share for shares in found.values() for share in shares]
    return {
        "recipe": name, **{kind: fmean(found[kind]) for kind in KINDS}, "all": fmean(every),
        TOKENS: tokens,
    }  # fmt: skip


def evidence(
    method: Method | Beginning, document: Document, asked: Seq[QuestionAnswer]
) -> tuple[dict[str, list[float]], float]:
    """The share of the evidence of each question that a method keeps, %, by kind of question; and
    the tokens that were read for a question, mean."""
    found: dict[str, list[float]] = {}
    tokens = 0
    for each in asked:
        reader = LocalText(load())
        read = method.write_prompt([document.text], each.question, reader)
        fields = evidence_fields(each.located(document), read.passages)
        found.setdefault(each.kind, []).append(100 * fields["evidence_recall"])
        tokens += reader.tokens_read + reader.count(read.text)
    return found, tokens / len(asked)
