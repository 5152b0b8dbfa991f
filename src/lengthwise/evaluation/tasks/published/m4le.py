"""M4LE: short tasks made long by joining them, in nine lengths, English and Chinese.

Kwan and others, "M4LE: A Multi-Ability Multi-Range Multi-Task Multi-Domain Long-Context Evaluation
Benchmark for Large Language Models", ACL 2024, arXiv:2310.19240. A task is a file `NAME.jsonl` with
fields instruction, input (with one example), answers, length_bucket (1000 words and up). Of each
the longest bucket that fits is drawn from, and nothing is cut. The prompt is the instruction, a
line end and the input, without a chat template; its last paragraph is the question. A reply is cut
at the published end strings of its task, and scored:

    acc     an answer stands in the reply, case aside
    exact   it is an answer
    ids     F1 of a list of ids
    rouge   ROUGE-L recall
    bleu    sacrebleu's, unsmoothed: 0 where no four tokens in a row are right

Ours differs: BLEU is of each reply, the paper's of all of a bucket together. Replies have up to 128
tokens, as released for servers; for models the released code allows the bucket's number, which here
only translations have, up to 1,024. The hub's files are those of 2024, up to 128,000 words; its
archive of 2023 is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.replies import cut_at
from lengthwise.evaluation.scorers.table import scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    COUNTED,
    HIDDEN,
    NEEDLE_LIKE,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import number_in, text_in, texts_in

MOST, _TRANSLATED = 128, 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """How a task is scored. ends: of a reply. chinese: of the texts that are compared."""

    score: str
    ends: tuple[str, ...]
    difficulty: Difficulty
    chinese: bool = False


_LINE, _STOP, _HALT = ("\n",), ("\n", "."), ("\n", "。")
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("arxiv", "pubmed", "booksum", "bigpatent_global_sum"),
                    Kind("rouge", _LINE, SPREAD)),
    **dict.fromkeys(("cnnnews", "wikihow"), Kind("rouge", _LINE, HIDDEN)),
    **dict.fromkeys(("cnewsum", "clts+"), Kind("rouge", ("\n", "新闻"), HIDDEN, chinese=True)),
    **dict.fromkeys(("cepsum", "lcsts", "ncls", "news2016"),
                    Kind("rouge", _LINE, HIDDEN, chinese=True)),
    **dict.fromkeys(("triviaqa", "newsqa", "duorc", "nq-open", "hotpotqa"),
                    Kind("acc", _STOP, HIDDEN)),
    **dict.fromkeys(("c3", "dureader", "drcd_semantic-single"),
                    Kind("acc", _HALT, HIDDEN, chinese=True)),
    "drcd_explicit-single": Kind("acc", ("，", "\n"), NEEDLE_LIKE, chinese=True),
    "wow": Kind("acc", (",", "\n"), HIDDEN),
    "bigpatent_global_cls": Kind("acc", (":",), SPREAD),
    **dict.fromkeys(("open-subtitles-en2zh", "news-commentary-en2zh", "tedtalks-en2zh"),
                    Kind("bleu", (), NEEDLE_LIKE, chinese=True)),
    **dict.fromkeys(("open-subtitles-zh2en", "news-commentary-zh2en", "tedtalks-zh2en"),
                    Kind("bleu", (), NEEDLE_LIKE)),
    **dict.fromkeys(("marc", "mnds-news_explicit-multiple"), Kind("ids", (), COUNTED)),
    **dict.fromkeys(("online-shopping", "thucnews_explicit-multiple"),
                    Kind("ids", (), COUNTED, chinese=True)),
    "mnds-news_explicit-single": Kind("exact", (), NEEDLE_LIKE),
    "thucnews_explicit-single": Kind("exact", (), NEEDLE_LIKE, chinese=True),
    "mnds-news_semantic-multiple": Kind("exact", (".",), SPREAD),
    "thucnews_semantic-multiple": Kind("exact", ("。",), SPREAD, chinese=True),
    "wikitext-103": Kind("exact", (".",), HIDDEN),
    "wiki2019zh": Kind("exact", ("。",), HIDDEN, chinese=True),
}  # fmt: skip

_FOLDERS = {
    "classification": (
        "bigpatent_global_cls", "marc", "mnds-news_explicit-multiple", "mnds-news_explicit-single",
        "mnds-news_semantic-multiple", "online-shopping", "thucnews_explicit-multiple",
        "thucnews_explicit-single", "thucnews_semantic-multiple",
    ),
    "nli": ("wiki2019zh", "wikitext-103"),
    "qa": (
        "c3", "drcd_semantic-single", "duorc", "dureader", "hotpotqa", "newsqa", "nq-open",
        "triviaqa",
    ),
    "summarization": (
        "arxiv", "bigpatent_global_sum", "booksum", "cepsum", "clts+", "cnewsum", "cnnnews",
        "lcsts", "ncls", "news2016", "pubmed", "wikihow",
    ),
    "topic_retrieval": ("drcd_explicit-single", "wow"),
    "translation": (
        "news-commentary-en2zh", "news-commentary-zh2en", "open-subtitles-en2zh",
        "open-subtitles-zh2en", "tedtalks-en2zh", "tedtalks-zh2en",
    ),
}  # fmt: skip
# Whose file is not named as the task is.
_FILES = {"clts+": "clts"}


@dataclass(frozen=True)
class M4LE(PublishedBenchmark):
    """M4LE, a task a data set."""

    name: ClassVar[str] = "m4le"
    paper: ClassVar[Paper] = Paper(
        "M4LE: A Multi-Ability Multi-Range Multi-Task Multi-Domain Long-Context Evaluation "
        "Benchmark for Large Language Models", "Kwan et al.", 2024, arxiv="2310.19240",
        venue="ACL", code="https://github.com/KwanWaiChung/M4LE",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        name: each.difficulty for name, each in KINDS.items()
    }
    lengths: ClassVar[str] = "length_bucket"

    def source(self, task: str) -> Source:
        """`NAME.jsonl`, on the hub below a folder of its kind of task."""
        columns = ("instruction", "input", "answers", "length_bucket")
        file = f"{_FILES.get(task, task)}.jsonl"
        files = tuple(dict.fromkeys((f"{task}.jsonl", file)))
        folder = next(name for name, tasks in _FOLDERS.items() if task in tasks)
        return Source(files, columns, "wckwan/M4LE", f"{folder}/{file}")

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row is a sample."""
        kind, bucket = KINDS[task], number_in(row, "length_bucket")
        text = f"{text_in(row, 'instruction')}\n{text_in(row, 'input')}".rstrip()
        context, mark, question = text.rpartition("\n\n")
        if not mark:
            context, _, question = text.rpartition("\n")
        most = min(bucket, _TRANSLATED) if kind.score == "bleu" else MOST
        yield Sample(
            context, question, _right(task, kind, row), most, facts={"bucket": bucket},
            chat=False, stop=kind.ends,
        )  # fmt: skip

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The published figure of the reply up to its end string."""
        kind = KINDS[task]
        if task == "news2016" and '"' in said:
            # The title is what stands between the first two quotation marks.
            said = said.split('"')[1]
        text = cut_at(said, kind.ends).strip()
        right = sample.references
        if kind.score == "acc":
            return {"contains_any": scorer("contains_any", compat=True)(text, right)}
        if kind.score == "exact":
            return {"equals": scorer("equals")(text, right)}
        if kind.score == "ids":
            marks = {"marks": "，", "end": "。"} if kind.chinese else {}
            return {"id_f1": scorer("id_f1", **marks)(text, right)}
        if kind.score == "rouge":
            by = scorer("rouge_l", mode="recall", chinese=kind.chinese, repeats=kind.chinese)
            return {"rouge_l": by(text, right)}
        tokens = "zh" if kind.chinese else "13a"
        by = scorer("corpus_bleu", variant="sacre", tokens=tokens, smooth="none")
        return {"bleu": by([text], [right])}


def _right(task: str, kind: Kind, row: Row) -> tuple[str, ...]:
    """The answers, or the ids of the only one."""
    answers = tuple(each for each in texts_in(row, "answers") if each)
    end, mark = ("。", "，") if kind.chinese else (".", ",")
    if kind.score == "ids":
        return tuple(each.strip() for each in answers[0].split(end)[0].split(mark))
    if "semantic-multiple" in task:
        return (answers[0].split(end)[0],)
    return answers


__all__ = ["KINDS", "M4LE", "MOST"]
