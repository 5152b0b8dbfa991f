"""AgentWrite: a long text planned first, and then written part by part.

Bai et al., "LongWriter: Unleashing 10,000+ Word Generation from Long Context LLMs", ICLR 2025, \
arXiv:2408.07055

How much a model writes in one answer is bounded by the longest answers that it was trained on. So
it is asked for a plan, a line a part with its main point and its words, and then for each part by
itself. A part's prompt has the instruction, the plan and all that is written so far.

Ours differs:

- The counts of a plan are scaled to the words asked for. A part of over 1,000 words is split.
- A plan that cannot be read is asked for once more, as a list of headings, and the parts are then
  equal. Without headings too the text is cut into equal parts, which is said.
- A part ends at the end of a sentence near its count. One that is too short is asked to go on, a
  few times, and what it lacks is added to the parts behind it, at most half as much again for each.
  The paper takes each answer as it comes.
- A sentence that was said before is left out, and a loop ends an answer. Small models copy what
  they are shown.
- What does not fit the trained length is left out of the prompt: the beginning of the text so far.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, field

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.methods.prompts import TextModel
from lengthwise.tokenization.words import count_words
from lengthwise.workflows.writing_part import Enough, PartText, note_sentences
from lengthwise.workflows.writing_plan import Part, equal_parts, fitted, read_plan, usable
from lengthwise.workflows.writing_prompts import (
    HEADINGS,
    PLAN,
    TEMPLATE,
    end_of,
    part_prompt,
)  # fmt: skip

PAPER = Paper(
    "LongWriter: Unleashing 10,000+ Word Generation from Long Context LLMs", "Bai et al.", 2025,
    arxiv="2408.07055", venue="ICLR", code="https://github.com/THUDM/LongWriter",
)  # fmt: skip
# Words of a part, and parts of a plan: those of the paper's prompt and code.
LEAST, MOST, MOST_PARTS = 200, 1000, 50
# Tokens of one answer, as in the paper's code.
MOST_TOKENS = 4096
Sink = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A plan that is written by. notes: how it came about, where that is not as asked for."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrittenPart:
    """A part as it was written. asked: its words by the plan. calls: of the model.

    held_back: sentences that were said before, or go round, and were left out. cut: whether the
    prompt had no room for all of the text so far. over: tokens that a prompt had beyond its room.
    """

    text: str
    asked: int
    calls: int = 1
    held_back: int = 0
    cut: bool = False
    over: int = 0

    @property
    def words(self) -> int:
        """How many it has."""
        return count_words(self.text)


@dataclass(frozen=True)
class AgentWrite:
    """How a long text is written.

    part_words: of a part, in the request for a plan. enough: a part with this share of its words is
    done. rounds: how often a shorter one is asked to go on. repeats: most times that one sentence
    may be said in all of the text; 0 is any number. remembered: tokens of the text so far that a
    part is shown, from its end; None is as many as there is room for.
    """

    part_words: int = 400
    enough: float = 0.9
    rounds: int = 3
    repeats: int = 1
    remembered: int | None = None

    def __post_init__(self) -> None:
        if not LEAST <= self.part_words <= MOST:
            raise LengthwiseError(f"part_words={self.part_words!r}: give {LEAST} to {MOST:,}")
        if not 0 < self.enough <= 1:
            raise LengthwiseError(f"enough={self.enough!r}: give a share above 0, at most 1")
        for name in ("rounds", "repeats"):
            if getattr(self, name) < 0:
                raise LengthwiseError(f"{name}={getattr(self, name)!r}: give 0 or more")
        if self.remembered is not None and self.remembered < 0:
            raise LengthwiseError(f"remembered={self.remembered!r}: give 0 tokens or more, or None")

    def plan(self, model: TextModel, instruction: str, words: int) -> Plan:
        """Asks a model for a plan.

        Args:
            model: that will write.
            instruction: what is asked for.
            words: of the whole text.
        """
        count = max(1, min(MOST_PARTS, round(words / self.part_words)))
        if count == 1:
            return Plan(equal_parts(words, 1))
        fields = {"instruction": instruction, "count": count, "words": words}
        room = 60 * count + 100
        said = model.write("", PLAN.format(least=LEAST, most=MOST, **fields), room)
        found = read_plan(said)
        if usable(found, words, MOST_PARTS, MOST):
            return self.fit(found, words)
        found = read_plan(model.write("", HEADINGS.format(**fields), room))[:count]
        if usable(found, words, MOST_PARTS, MOST):
            note = "no plan could be read of the first answer; the parts are headings, asked again"
            return Plan(fitted([Part(part.point) for part in found], words, MOST), (note,))
        return Plan(equal_parts(words, count), (
            f"no plan could be read of two answers; the text is written in {count} equal parts",
        ))  # fmt: skip

    def fit(self, parts: Seq[Part], words: int) -> Plan:
        """A plan whose counts add up to what is asked for.

        Args:
            parts: as they were said.
            words: of the whole text.
        """
        said = sum(part.words for part in parts)
        notes: tuple[str, ...] = ()
        if said and said != words:
            notes = (f"the plan has {said:,} words; its parts were scaled to {words:,}",)
        return Plan(fitted(parts, words, MOST), notes)

    def parts(
        self, model: TextModel, instruction: str, plan: Seq[Part], done: Seq[str] = (),
        stream: Sink | None = None,
    ) -> Iterator[WrittenPart]:  # fmt: skip
        """Writes the parts of a plan one by one.

        Args:
            model: that writes.
            instruction: what is asked for.
            plan: all of it.
            done: the texts of the first parts, which are there already.
            stream: gets the text of the parts as it comes, and the gaps between them.
        """
        job = _Job(model, instruction, plan, [*done])
        for each in done:
            note_sentences(each, job.said)
        for number in range(len(done) + 1, len(plan) + 1):
            found = self._part(job, number, stream)
            job.texts.append(found.text)
            yield found

    def _part(self, job: _Job, number: int, stream: Sink | None) -> WrittenPart:
        planned = job.plan[number - 1].words
        # What is missing so far this part makes up for, in part.
        target = planned + min(max(0, job.missing()), planned // 2)
        sink = _after_gap(stream) if number > 1 and stream is not None else stream
        text = PartText(number, target, job.said, self.repeats, sink)
        calls, idle, cut, over = 0, 0, False, 0
        while calls <= self.rounds and idle < 2 and (
            not calls or text.words < self.enough * target
        ):  # fmt: skip
            before = text.words
            shown, beyond = self._call(job, text, calls)
            calls, cut, over = calls + 1, cut or not shown, max(over, beyond)
            idle = idle + 1 if text.words == before else 0
        return WrittenPart(text.text.strip(), planned, calls, text.held_back, cut, over)

    def _call(self, job: _Job, text: PartText, times: int) -> tuple[bool, int]:
        """One answer. Returns whether the prompt had all of plan and text, and tokens it has
        beyond its room."""
        model, left = job.model, text.target - text.words
        # A part that is nearly done gets no order for three words.
        wanted = max(left, min(text.target, 50))
        new = min(
            MOST_TOKENS, model.trained_length // 2, math.ceil(1.25 * left * job.rate()) + 48
        )  # fmt: skip
        room = model.trained_length - new - TEMPLATE
        written = "\n\n".join(filter(None, [*job.texts, text.text.strip()]))
        given = written
        if self.remembered is not None:
            given = end_of(model, written, self.remembered)
        asked = part_prompt(
            model, job.instruction, job.plan, text.number, given, (times, wanted), room
        )
        text.begin(asked.frame)
        if times:
            text.gap()
        try:
            answer = model.write("", asked.prompt, new, text.hear)
            text.end(answer, model.count(answer) < new - 1)
        except Enough:
            pass
        return asked.shown, asked.over


@dataclass
class _Job:
    """A text that is being written. texts: of the parts so far; said: their sentences."""

    model: TextModel
    instruction: str
    plan: Seq[Part]
    texts: list[str]
    said: Counter[str] = field(default_factory=Counter)

    def missing(self) -> int:
        """Words that the parts so far have less than planned, all together."""
        planned = sum(part.words for part in self.plan[: len(self.texts)])
        return planned - sum(map(count_words, self.texts))

    def rate(self) -> float:
        """Tokens a word, of what there is: the language and the tokenizer decide."""
        text = " ".join([self.instruction, *self.texts[-2:]])
        return max(1.4, self.model.count(text) / max(1, count_words(text)))


def _after_gap(sink: Sink) -> Sink:
    """A sink that says the end of a paragraph before the first piece it gets."""
    begun = False

    def said(piece: str) -> None:
        nonlocal begun
        sink(piece if begun else f"\n\n{piece}")
        begun = True

    return said


def joined_parts(texts: Seq[str]) -> str:
    """A text of its parts.

    Args:
        texts: of the parts, empty ones too.
    """
    return "\n\n".join(filter(None, texts)) + "\n"


def notes_of(parts: Seq[WrittenPart], enough: float) -> list[str]:
    """What a user should know of parts that were written.

    Args:
        parts: in their order.
        enough: share of its words with which a part is done.
    """
    found = []
    short = [n for n, part in enumerate(parts, 1) if part.words < enough * part.asked]
    if short:
        found.append(f"{_numbered(short)} shorter than planned: the model had no more to say")
    held = sum(part.held_back for part in parts)
    if held:
        where = [n for n, part in enumerate(parts, 1) if part.held_back]
        found.append(
            f"{held:,} sentences were left out of {_numbered(where)}: the model had said them "
            "before, or went round in circles"
        )
    cut = [n for n, part in enumerate(parts, 1) if part.cut]
    if cut:
        found.append(
            f"from part {cut[0]} on the prompt had no room for all of the text so far: the model "
            "saw the end of it"
        )
    over = max((part.over for part in parts), default=0)
    if over:
        found.append(
            f"the instruction and its part of the plan are {over:,} tokens more than the model was "
            "trained to read beside its answer"
        )
    return found


def _numbered(numbers: Seq[int]) -> str:
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"part{'s' * (len(numbers) > 1)} {shown}"


__all__ = [
    "LEAST", "MOST", "MOST_PARTS", "PAPER", "AgentWrite", "Plan", "WrittenPart", "joined_parts",
    "notes_of",
]  # fmt: skip
