"""LongBench: 21 English, Chinese and code sets, and LongBench-E, 13 of them even over lengths.

Bai and others, "LongBench: A Bilingual, Multitask Benchmark for Long Context Understanding", ACL
2024, arXiv:2308.14508. A set is a file `NAME.jsonl`, of LongBench-E `NAME_e.jsonl`, with fields
input, context, answers, length, all_classes. Output limits, chat, scores and first-line rules are
the published ones:

    questions           F1 of words; in Chinese, of jieba's words
    summaries, samsum, dureader   ROUGE-L
    trec, lsht          one over the classes named, if the right one is among them
    passages            the share of numbers in the reply that are right
    lcc, repobench-p    likeness of the first line of code

Ours differs: instructions are in our own words; the middle is cut out of the context alone; samsum
does not stop at a line end, but its first line is what is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.replies import first_line
from lengthwise.evaluation.scorers.table import Scorer, scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    COUNTED,
    HIDDEN,
    NEEDLE_LIKE,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import text_in, texts_in
from lengthwise.methods.options import option

_SHORT = "Answer the question from the {what} above, in as few words as you can and nothing else.\n"
_ASKED = "\nQuestion: {input}"
_SHORT_ZH = "请根据上文回答问题，答案尽量简短，不要解释。\n\n问题：{input}"


@dataclass(frozen=True, slots=True)
class Set:
    """A data set.

    ask: the question, with the row's input. most: tokens of a reply. score: its scorer, `-zh` in
    Chinese. lead: stands before the context. chat: into the template. first_line: scored alone.
    """

    ask: str
    most: int
    score: str
    difficulty: Difficulty
    lead: str = ""
    chat: bool = True
    first_line: bool = False


def _qa(what: str, most: int, difficulty: Difficulty, more: str = "") -> Set:
    return Set(_SHORT.format(what=what) + more + _ASKED, most, "f1", difficulty)


def _few(ask: str, most: int, score: str, lead: str) -> Set:
    return Set(ask, most, score, COUNTED, f"{lead}\n\n", chat=False, first_line=True)


_UNSURE = 'Yes-or-no questions get "yes" or "no"; what it does not answer gets "unanswerable".\n'
SETS: dict[str, Set] = {
    "narrativeqa": _qa("story", 128, HIDDEN),
    "qasper": _qa("paper", 128, HIDDEN, _UNSURE),
    "multifieldqa_en": _qa("text", 64, NEEDLE_LIKE),
    "multifieldqa_zh": Set(_SHORT_ZH, 64, "f1-zh", NEEDLE_LIKE),
    "hotpotqa": _qa("passages", 32, HIDDEN),
    "2wikimqa": _qa("passages", 32, HIDDEN),
    "musique": _qa("passages", 32, HIDDEN),
    "dureader": Set("请根据上面的文章回答问题。\n\n问题：{input}", 128, "rouge-zh", HIDDEN),
    "gov_report": Set("Sum up the report above on one page.", 512, "rouge", SPREAD),
    "qmsum": Set(
        "Answer what is asked about the meeting above in a sentence or more.\n\nQuery: {input}",
        512, "rouge", SPREAD,
    ),
    "multi_news": Set("Sum up all the news above on one page.", 512, "rouge", SPREAD),
    "vcsum": Set("请总结上面的会议记录。", 512, "rouge-zh", SPREAD),
    "trec": _few("{input}", 64, "classes", "Say of which type a question is, as in the examples."),
    "triviaqa": _few("{input}", 32, "f1", "Answer from the passage, as in the examples."),
    "samsum": _few("{input}", 128, "rouge", "Sum up the dialogue, as in the examples."),
    "lsht": _few("{input}", 64, "classes", "请参照例子判断新闻的类别。"),
    "passage_count": Set(
        "Some of the paragraphs above stand there more than once. How many different ones are "
        "there? Reply with the number alone.", 32, "numbers", COUNTED,
    ),
    "passage_retrieval_en": Set(
        "This sums up one of the paragraphs above:\n\n{input}\n\nWhich one? Reply with its name, "
        "such as Paragraph 3.", 32, "numbers", HIDDEN,
    ),
    "passage_retrieval_zh": Set(
        "下面是上文某一段的摘要：\n\n{input}\n\n它出自哪一段？只回答段落名，例如“段落3”。",
        32, "numbers", HIDDEN,
    ),
    "lcc": Set("Next line of code:\n", 64, "code", HIDDEN, "Go on with this code.\n", chat=False),
    "repobench-p": Set(
        "{input}Next line of code:\n", 64, "code", HIDDEN, "Go on with this code.\n", chat=False
    ),
}  # fmt: skip
EVEN = (
    "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec",
    "triviaqa", "samsum", "passage_count", "passage_retrieval_en", "lcc", "repobench-p",
)  # fmt: skip
_NAMES = {**{name: name for name in SETS}, **{f"{name}_e": name for name in EVEN}}
_FIGURES = {
    "f1": "squad_f1", "rouge": "rouge_l", "classes": "label_in_prediction", "code": "edit_ratio",
}  # fmt: skip


@dataclass(frozen=True)
class LongBench(PublishedBenchmark):
    """LongBench and LongBench-E (tasks that end in `_e`)."""

    name: ClassVar[str] = "longbench"
    paper: ClassVar[Paper] = Paper(
        "LongBench: A Bilingual, Multitask Benchmark for Long Context Understanding", "Bai et al.",
        2024, arxiv="2308.14508", venue="ACL", code="https://github.com/THUDM/LongBench",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        name: SETS[of].difficulty for name, of in _NAMES.items()
    }

    compat: bool = option(True, "scores to the letter of the released code, with its faults")

    def source(self, task: str) -> Source:
        """`NAME.jsonl`, on the hub a member of `data.zip`."""
        columns = ("input", "context", "answers", "all_classes")
        path = f"data.zip::data/{task}.jsonl"
        return Source((f"{task}.jsonl",), columns, "THUDM/LongBench", path)

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row is a sample."""
        of = SETS[_NAMES[task]]
        labels = {"labels": list(texts_in(row, "all_classes"))} if of.score == "classes" else {}
        yield Sample(
            of.lead + text_in(row, "context"), of.ask.replace("{input}", text_in(row, "input")),
            texts_in(row, "answers"), of.most, facts=labels, chat=of.chat,
        )  # fmt: skip

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The figure of the set; the best of the references."""
        of = SETS[_NAMES[task]]
        text = first_line(said) if of.first_line else said
        by = self._scorer(of.score, sample)
        return {by.name: by(text, sample.references)}

    def _scorer(self, figure: str, sample: Sample) -> Scorer:
        if figure == "numbers":
            return scorer("all_ints")
        if figure == "f1-zh":
            return scorer("chinese_f1", compat=self.compat)
        kind, _, chinese = figure.partition("-")
        found = scorer(_FIGURES[kind], compat=self.compat)
        if kind == "classes":
            return found.bind(labels=sample.facts["labels"])
        return found.bind(chinese=True) if chinese else found


__all__ = ["EVEN", "SETS", "LongBench"]
