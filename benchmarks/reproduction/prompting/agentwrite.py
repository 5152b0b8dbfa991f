"""AgentWrite: 5,000 words of the embedded model, part by part and in one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, Note, Row, check, load

import lengthwise
from lengthwise.api.text_models import as_text_model
from lengthwise.engine.sampling import Sampling
from lengthwise.evaluation.scorers.length_score import benchmark_words, length_score
from lengthwise.retrieval.sentences import sentences
from lengthwise.tokenization.words import count_words, words_of

INSTRUCTION = "Write a guide to growing vegetables in a small garden, for beginners."
COLUMNS = {
    "way": "", "words": ",", "length score": ".1f", "score by the benchmark's count": ".1f",
    "sentences said before, %": ".0f", "calls": ",", "left out": ",",
}  # fmt: skip


@check(COLUMNS)
def agentwrite(words: int = 5000, remembered: tuple[int, ...] = ()) -> Iterator[Found]:
    """Greedy: with all of the text shown again, and with so many tokens of its end."""
    for tokens in (None, *remembered):
        found = lengthwise.write(
            load(), INSTRUCTION, words, remembered=tokens, temperature=0.0
        )  # fmt: skip
        way = "part by part" if tokens is None else f"part by part, {tokens} tokens shown again"
        yield {
            **_row(way, found.text, words), "calls": sum(part.calls for part in found.parts),
            "left out": sum(part.held_back for part in found.parts),
        }  # fmt: skip
        yield Note({way: [part.words for part in found.parts], f"{way}, notes": list(found.notes)})


@check(COLUMNS)
def drawn(words: int = 5000, temperatures: tuple[float, ...] = (0.7, 1.0)) -> Iterator[Found]:
    """The same with tokens that are drawn: 1.0 is the temperature of the released code."""
    for temperature in temperatures:
        found = lengthwise.write(load(), INSTRUCTION, words, temperature=temperature)
        way = f"part by part, temperature {temperature:g}"
        yield {
            **_row(way, found.text, words), "calls": sum(part.calls for part in found.parts),
            "left out": sum(part.held_back for part in found.parts),
        }  # fmt: skip
        yield Note({way: [part.words for part in found.parts], f"{way}, notes": list(found.notes)})


@check(COLUMNS)
def one(words: int = 5000, most: int = 2000) -> Iterator[Found]:
    """The same model asked for all of it in one answer, of `most` tokens."""
    writer = as_text_model(load(), sampling=Sampling(repetition_penalty=1.1))
    text = writer.write("", f"{INSTRUCTION} Write {words} words.", most)
    yield {**_row("one answer", text, words), "calls": 1, "left out": 0}


def _row(way: str, text: str, asked: int) -> Row:
    keys = [" ".join(words_of(each.casefold())) for each in sentences(text)]
    counts = Counter(key for key in keys if key.count(" ") >= 3)
    again = sum(counts.values()) - len(counts)
    return {
        "way": way, "words": count_words(text),
        "length score": length_score(asked, count_words(text)),
        "score by the benchmark's count": length_score(asked, benchmark_words(text)),
        "sentences said before, %": 100 * again / max(1, sum(counts.values())),
    }  # fmt: skip
