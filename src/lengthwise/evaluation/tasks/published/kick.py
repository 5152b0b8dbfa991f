"""LLM-KICK: what compressed models know, find in a text, sum up and answer.

Jaiswal and others, "Compressing LLMs: The Truth is Rarely Pure and Never Simple", ICLR 2024,
arXiv:2310.01382. From the published files of each set; the authors' repository as `data` has all
but TriviaQA, which comes from the hub or as `validation.jsonl` in the hub's columns:

    factoid        FreebaseQA: an answer stands in the reply
    mmlu           MMLU with five shots of its subject: one token, whose last character is the
                   letter
    closed         TriviaQA without texts: first line, relaxed match, then F1 of words
    retrieval      the same behind the first wiki and web page, cut to 3,072 characters
    summary_*      CNN/DailyMail stories by length (small, mid, large), in under 150 words
    instructions   questions of Vicuna or MT-Bench

The authors have GPT-4 judge summaries and instructions beside those of GPT-3.5. Here a judge
compares recipes with each other, and GPT-3.5's replies are shown to none. Without a judge summaries
have ROUGE-L against the story's own highlights and whether 150 words are kept to; instructions no
score. Instructions have no right reply, and so no references.

Ours differs. Prompts are in our own words, and replies are greedy. Those to factoids have 64 tokens
(there, twice the prompt) and are scored without their prompt. Highlights are no part of stories, as
they are there. Later turns of MT-Bench stand behind GPT-3.5's replies to those before, of
`answer.jsonl` in the data; without them they are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from lengthwise._utils.messages import first_line as first_of
from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.replies import first_line
from lengthwise.evaluation.scorers.table import scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, NoRoom, Sample, Wanted
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    HIDDEN,
    NEEDLE_LIKE,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import (
    Row,
    Source,
    local_file,
    rows_of,
)
from lengthwise.evaluation.tasks.published._shared.values import text_in, texts_in
from lengthwise.methods.options import option

EVIDENCE, WORDS, SHOTS = 3072, 150, 5
GROUPS = ("small", "mid", "large")
_FACT, _ANSWER, _LONG = 64, 32, 1024
_HIGHLIGHT = "@highlight"
_SUM_UP = "Sum up the story above in under 150 words: coherent, true to it, fluent, to the point."
_TRIVIA = Source(
    ("validation.jsonl", "validation.parquet"),
    ("question", "answer", "entity_pages", "search_results"),
    "mandarjoshi/trivia_qa", config="rc", split="validation",
)  # fmt: skip
_MMLU = Source(
    ("test/*_test.csv",), ("question", "subject", "choices", "answer"), "cais/mmlu", config="all"
)
_SOURCES = {
    "factoid": Source(
        ("FreebaseQA-train.json", "FreebaseQA-eval.json", "FreebaseQA-dev.json"),
        ("RawQuestion", "Parses"),
    ),
    "mmlu": _MMLU,
    "closed": _TRIVIA,
    "retrieval": _TRIVIA,
    "instructions": Source(("question.jsonl",), ("question_id", "category")),
}
_STORIES = Source(("new_question.jsonl",), ("question_id", "text", "category"))


@dataclass(frozen=True)
class Kick(PublishedBenchmark):
    """LLM-KICK's five settings."""

    name: ClassVar[str] = "kick"
    paper: ClassVar[Paper] = Paper(
        "Compressing LLMs: The Truth is Rarely Pure and Never Simple", "Jaiswal et al.", 2024,
        arxiv="2310.01382", venue="ICLR", code="https://github.com/VITA-Group/llm-kick",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        **dict.fromkeys(("factoid", "mmlu", "closed"), NEEDLE_LIKE),
        "retrieval": HIDDEN,
        **{f"summary_{group}": SPREAD for group in GROUPS},
        "instructions": NEEDLE_LIKE,
    }

    compat: bool = option(True, "scores to the letter of the released code, with its faults")
    evidence: int | None = option(
        EVIDENCE, "characters of the pages for retrieval (none: as many as fit)", low=1
    )

    def source(self, task: str) -> Source:
        """As each set is published."""
        return _SOURCES.get(task, _STORIES)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """As all published ones are drawn; MMLU's with as many shots as fit."""
        if task != "mmlu":
            yield from super().samples(task, wanted)
            return
        rows, shown = self._exam("test"), self._exam("dev")
        for _, row in self._drawn(task, wanted, rows):
            alike = [each for each in shown if each["subject"] == row["subject"]][:SHOTS]
            yield _most_shots(wanted, row, alike)

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row is a sample; of instructions, one a turn; of stories, those of the task's group."""
        if task == "factoid":
            names = texts_in(row["Parses"][0]["Answers"][0], "AnswersName")
            ask = f"Answer this question: {text_in(row, 'RawQuestion')}\nThe answer is"
            yield Sample("", ask, names, _FACT, chat=False)
        elif task in ("closed", "retrieval"):
            yield self._trivia(task, row)
        elif task == "mmlu":
            yield _exam_sample(row, [])
        elif task == "instructions":
            yield from self._turns(row)
        elif row["category"] == task.removeprefix("summary_"):
            yield self._story(row)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The published figure; none for instructions, which are judged."""
        if task == "factoid":
            return {"factoid": scorer("factoid")(said, sample.references)}
        if task == "mmlu":
            return {"last_letter": scorer("last_letter")(said, sample.references)}
        if task in ("closed", "retrieval"):
            line, right = first_line(said.strip()), sample.references
            relaxed = scorer("relaxed_em", compat=self.compat)(line, right)
            return {"relaxed_em": relaxed, "trivia_f1": scorer("trivia_f1")(line, right)}
        if task == "instructions":
            return {}
        short = len(said.split()) < WORDS
        return {"rouge_l": scorer("rouge_l")(said, sample.references), "short": float(short)}

    def _trivia(self, task: str, row: Row) -> Sample:
        pages = ""
        if task == "retrieval":
            wiki, web = row["entity_pages"]["wiki_context"], row["search_results"]["search_context"]
            pages = "".join([*wiki[:1], *web[:1]])[: self.evidence]
        lead = "Answer from the texts above." if pages else "Answer this question."
        right = texts_in(row["answer"], "normalized_aliases")
        return Sample(
            pages, f"{lead}\n\nQ: {text_in(row, 'question')}\nA:", right, _ANSWER, chat=False
        )

    def _story(self, row: Row) -> Sample:
        story, *highlights = str(row["text"]).partition("\n\n")[2].split(_HIGHLIGHT)
        right = (" ".join(f"{each.strip()}." for each in highlights),)
        return Sample(story.strip(), _SUM_UP, right, _LONG)

    def _turns(self, row: Row) -> Iterator[Sample]:
        """Turns of MT-Bench, or the one text of Vicuna's questions."""
        replies, before = self._replies.get(row["question_id"], ()), ""
        for number, turn in enumerate(map(str, row.get("turns") or [row["text"]])):
            if number > len(replies):
                return
            yield Sample(before, turn, (), _LONG)
            said = replies[number : number + 1]
            before += "".join(f"User: {turn}\n\nAssistant: {each}\n\n" for each in said)

    @cached_property
    def _replies(self) -> Mapping[Any, Seq[str]]:
        """GPT-3.5's replies to the turns of each question, where they lie in the data."""
        source = Source(("answer.jsonl",), ("question_id",))
        if not self.data or local_file(source, self.data) is None:
            return {}
        found = {}
        for row in rows_of("kick/instructions", source, self.data):
            turns = row["choices"][0]["turns"] if row.get("choices") else [row.get("text", "")]
            found[row["question_id"]] = [str(each) for each in turns]
        return found

    def _exam(self, split: str) -> Seq[Row]:
        """MMLU's rows in the hub's columns: of its CSV files, or of the hub."""
        if not self.data:
            return rows_of("kick/mmlu", replace(_MMLU, split=split), "")
        found = local_file(_MMLU, self.data)
        if found is None:
            rows_of("kick/mmlu", _MMLU, self.data)
        folder = found.parent.parent if found else Path(self.data)
        paths = sorted((folder / split).glob(f"*_{split}.csv"))
        if not paths:
            raise LengthwiseError(
                f"kick/mmlu: {folder} has no {split}/*_{split}.csv; give MMLU's folder with test "
                "and dev"
            )
        return [row for path in paths for row in _exam_rows(path, split)]


def _exam_rows(path: Path, split: str) -> Iterator[Row]:
    subject = path.name.removesuffix(f"_{split}.csv")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, ValueError, csv.Error) as error:
        raise LengthwiseError(f"kick/mmlu: {path} cannot be read ({first_of(error)})") from error
    for number, line in enumerate(lines, 1):
        question, *choices, letter = line if len(line) > 1 else (*line, "")
        if len(choices) != 4 or letter not in "ABCD" or not letter:
            raise LengthwiseError(
                f"kick/mmlu: line {number} of {path} is no question with four choices and a letter"
            )
        yield {"question": question, "subject": subject, "choices": choices, "answer": letter}


def _most_shots(wanted: Wanted, row: Row, shown: Seq[Row]) -> Sample:
    for count in range(len(shown), -1, -1):
        sample = _exam_sample(row, shown[:count])
        if wanted.fits(sample):
            return sample
    raise NoRoom(
        f"a question of kick/mmlu is longer than {wanted.length:,} tokens: give a greater length"
    )


def _exam_sample(row: Row, shown: Seq[Row]) -> Sample:
    about = str(row["subject"]).replace("_", " ")
    lead = f"Questions about {about}, each with its right choice."
    shots = [f"{_exam_text(each)} {_letter(each)}" for each in shown]
    facts = {"subject": str(row["subject"])}
    context = "\n\n".join([lead, *shots])
    return Sample(context, _exam_text(row), (_letter(row),), 1, facts=facts, chat=False, own=lead)


def _exam_text(row: Row) -> str:
    choices = zip("ABCD", row["choices"], strict=True)
    return "\n".join([str(row["question"]), *(f"{a}. {b}" for a, b in choices), "Answer:"])


def _letter(row: Row) -> str:
    answer = row["answer"]
    return answer if isinstance(answer, str) else "ABCD"[int(answer)]


__all__ = ["EVIDENCE", "GROUPS", "SHOTS", "WORDS", "Kick"]
