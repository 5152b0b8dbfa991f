"""LongBench-Write: requests for texts of a given length, and LongWrite-Ruler, its stress test.

Bai and others, "LongWriter: Unleashing 10,000+ Word Generation from Long Context LLMs", ICLR 2025,
arXiv:2408.07055. Files of the authors' repository: `longbench_write.jsonl`, 120 requests in English
and Chinese, and `longwrite_ruler.jsonl`, eight requests at six lengths each. Fields: prompt, type,
length (words, or Chinese characters, up to 30,000).

A task is a language and a range of lengths, those of the paper's table: `en_500` asks for less than
500 words, `en_2k` for less than 2,000, then `en_4k` and `en_20k`; `zh_500` and so on. The language
is that of the request: 59 are English, 61 Chinese. `ruler_en` and `ruler_zh` are the stress test.
The request is the prompt, to the letter.

S_l, the score of the length, is the first figure, from 0 to 1. Beside it stand the share of the
words asked for that a reply reached, and its words. S_q needs a judge: `facts` have the request,
its kind and its length for it. The paper takes the mean of S_l and S_q.

A reply may take up to 32,768 tokens, as released, and what a wanted length has room for. A request
for more words than there is room for tokens is left out, which is said. Ours differs: replies are
greedy, the released ones sampled at temperature 0.5. `longbench_write_en.jsonl`, half of the file,
is read for English requests where the whole is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.length_score import benchmark_words, requested_length
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted
from lengthwise.evaluation.tasks.published._shared.benchmark import COUNTED, PublishedBenchmark
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import number_in, text_in

MOST = 32_768
# Lengths asked for that a task has, from the first to below the second.
RANGES = {"500": (0, 500), "2k": (500, 2000), "4k": (2000, 4000), "20k": (4000, 20_001)}
_CHINESE = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True)
class LongBenchWrite(PublishedBenchmark):
    """Texts of a length that is asked for."""

    name: ClassVar[str] = "longbench_write"
    paper: ClassVar[Paper] = Paper(
        "LongWriter: Unleashing 10,000+ Word Generation from Long Context LLMs", "Bai et al.",
        2025, arxiv="2408.07055", venue="ICLR", code="https://github.com/THUDM/LongWriter",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        **{f"{language}_{name}": COUNTED for language in ("en", "zh") for name in RANGES},
        "ruler_en": COUNTED,
        "ruler_zh": COUNTED,
    }

    def source(self, task: str) -> Source:
        """A file of `evaluation` in the authors' repository, which is not on the hub."""
        columns = ("prompt", "type", "length")
        if task.startswith("ruler"):
            return Source(("longwrite_ruler.jsonl",), columns)
        english = ("longbench_write_en.jsonl",) if task.startswith("en") else ()
        return Source(("longbench_write.jsonl", *english), columns)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Requests with all the room that is left for a reply."""
        for sample in PublishedBenchmark.samples(self, task, wanted):
            room = wanted.length - wanted.size(replace(sample, most=0))
            yield replace(sample, most=min(MOST, room))

    def passes_over(self, task: str) -> bool:
        """Where a length has no room for what is asked."""
        return True

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row of the task's language and range is a sample, which takes a token a word."""
        prompt, words = text_in(row, "prompt"), number_in(row, "length")
        if words < 1:
            raise ValueError(f"column 'length' holds {words}; wanted is 1 or more")
        if task not in (f"ruler_{_language(prompt)}", f"{_language(prompt)}_{_range(words)}"):
            return
        facts = {"request": prompt, "kind": text_in(row, "type"), "words": words}
        yield Sample("", prompt, (str(words),), min(words, MOST), facts=facts)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """S_l, the share of the words asked for that are there, and the words."""
        written, words = benchmark_words(said), int(sample.facts["words"])
        return {
            "length_score": requested_length(said, sample.references),
            "reached": min(1.0, written / words),
            "words": float(written),
        }


def _language(prompt: str) -> str:
    """Chinese where a quarter or more of what counts as words are Chinese characters."""
    return "zh" if 4 * len(_CHINESE.findall(prompt)) >= benchmark_words(prompt) else "en"


def _range(words: int) -> str:
    return next((name for name, (low, high) in RANGES.items() if low <= words < high), "")


__all__ = ["MOST", "RANGES", "LongBenchWrite"]
