"""The answers of one recipe, timed, each from a fork of the prompt that was read once.

Two things are asked beside an answer. One is whether a text that was guessed ahead is that of plain
decoding, token by token. In 16 bits a forward of several tokens rounds otherwise than one of a
single token, and near ties may fall the other way. The other is how likely the recipe finds an
answer that the user knows.
"""

from __future__ import annotations

import time
from typing import Any

from lengthwise import recipes as recipe_module
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.reach import note_beyond
from lengthwise.engine.request import Request
from lengthwise.engine.request_metrics import RequestMetrics
from lengthwise.engine.sampling import Sampling
from lengthwise.evaluation.compare.plain import without_drafters
from lengthwise.evaluation.metrics.evidence import answer_fields, evidence_fields
from lengthwise.evaluation.metrics.expected import contains
from lengthwise.evaluation.metrics.quality import forced_loss
from lengthwise.evaluation.metrics.reading import Reader, TimedReading
from lengthwise.methods.base import Question
from lengthwise.methods.prompts import whole
from lengthwise.tokenization.detokenise import TextStream, whole_characters

SHARED = (
    "reads the text just as full does, so the text was read once for all of them; ttft_s counts "
    "the seconds of that one reading"
)
OTHER_TEXT = (
    "* another text than without guessing ahead: in 16 bits two tokens that are as good as equally "
    "likely may change places, so the marked speeds are those of another text"
)


class Answers:
    """What one recipe answers. recipe: as it prints; new: most tokens of an answer."""

    def __init__(self, reader: Reader, recipe: str, new: int) -> None:
        self.reader, self.new = reader, new
        self.recipe = recipe
        parsed = recipe_module.parse(recipe)
        self.plain = str(without_drafters(parsed))
        # Whether its guesses are meant to leave the text of the plain recipe as it is.
        self.claims = all(m.lossless for m in parsed.methods if m.question == Question.DRAFTING)

    def answer(self, number: int) -> dict[str, Any]:
        """The fields of the row of question `number`; costs are those of this question alone."""
        read, suffix = self._read(number)
        request, text = self._write(read, number)
        metrics = loop.finish(request)
        self.reader.case.outputs[self.recipe, number] = tuple(request.output)
        ids = list(request.output)
        said = whole_characters(self.reader.model.tokenizer, ids, text.finish())
        same = self._same_text(read, number)
        drafts = bool(self.reader.plan.drafters)
        tokens = len(self.reader.case.prompt.prefix) + len(suffix)
        return {
            "answer": said.strip(),
            "prompt_tokens": tokens,
            "tokens_read": tokens,
            "max_new_tokens": self.new,
            "answer_tokens": len(request.output),
            "ttft_s": metrics.ttft_s,
            "tokens_per_s": metrics.tokens_per_s or None,
            "kv_bytes": metrics.kv_bytes,
            "kv_peak_bytes": metrics.kv_peak_bytes,
            "kv_offloaded_bytes": metrics.kv_offloaded_bytes,
            "accepted_per_step": metrics.accepted_per_step,
            "accepted": dict(metrics.accepted) if drafts else None,
            "draft_s": metrics.draft_s if drafts else None,
            "verify_s": metrics.verify_s if drafts else None,
            "lossless": self.reader.plan.lossless,
            "same_text": same,
            **self._expected(read, number, said),
            **self._known(number, said),
            "notes": tuple(self._notes(metrics, request, same)),
        }

    def _read(self, number: int) -> tuple[TimedReading, tuple[int, ...]]:
        prompt = self.reader.case.prompt
        suffix = prompt.suffixes[number]
        return self.reader.read("prompt", prompt.prefix, self.new + len(suffix)), suffix

    def _write(self, read: TimedReading, number: int) -> tuple[Request, TextStream]:
        model, suffix = self.reader.model, self.reader.case.prompt.suffixes[number]
        sequence = self.reader.fork(read.sequence)
        request = loop.begin(sequence, Sampling(), self.new, model.stop_ids())
        self.reader.progress.stage(f"{self.reader.plan.text}: answering", self.new, "tokens")
        begin = time.perf_counter()
        logits = loop.prefill(sequence, suffix, self.reader.chunk)
        first = loop.start(request, logits)
        loop.synchronize(model.adapted.device)
        request.metrics.ttft_s = read.seconds + time.perf_counter() - begin
        text = TextStream(model.tokenizer)
        text.add(first, request.metrics)
        for tokens in loop.run(request):
            text.add(tokens, request.metrics)
            self.reader.progress.advance(len(tokens))
        return request, text

    def _same_text(self, read: TimedReading, number: int) -> bool | None:
        """Whether the answer is that of plain decoding; None where nothing was guessed, or where
        the recipe does not claim it."""
        outputs = self.reader.case.outputs
        if not self.reader.plan.drafters or not self.claims:
            return None
        if (self.plain, number) not in outputs:
            if not self.reader.rounded:
                return None
            outputs[self.plain, number] = self._write_plainly(read, number)
        return outputs[self.plain, number] == outputs[self.recipe, number]

    def _write_plainly(self, read: TimedReading, number: int) -> tuple[int, ...]:
        """The answer without guessing, not timed, of a recipe that is not measured by itself."""
        model, suffix = self.reader.model, self.reader.case.prompt.suffixes[number]
        sequence = self.reader.fork(read.sequence)
        # What read the prompt decodes on, with the state it has by now: only drafters are new.
        sequence.plan = model.plan(self.plain)
        request = loop.begin(sequence, Sampling(), self.new, model.stop_ids())
        self.reader.progress.stage(f"{self.plain}: answering, to compare", self.new, "tokens")
        loop.start(request, loop.prefill(sequence, suffix, self.reader.chunk))
        for tokens in loop.run(request):
            self.reader.progress.advance(len(tokens))
        return tuple(request.output)

    def _expected(self, read: TimedReading, number: int, said: str) -> dict[str, Any]:
        """How the answer, and the recipe, stand to the answer that the user knows."""
        case, model = self.reader.case, self.reader.model
        if not case.expected:
            return {}
        wanted = case.expected[number]
        sequence: Sequence = self.reader.fork(read.sequence)
        loop.prefill(sequence, case.prompt.suffixes[number], self.reader.chunk)
        sequence.end_prefill()
        tokenizer = model._tokenizer()
        # Behind a template an answer begins a line, behind "Answer:" it follows a space.
        space = "" if getattr(tokenizer, "chat_template", None) else " "
        ids = tokenizer.encode(space + wanted, add_special_tokens=False)
        return {
            "expected": wanted,
            "expected_found": contains(said, wanted),
            "expected_loss": forced_loss(sequence, ids),
        }

    def _known(self, number: int, said: str) -> dict[str, Any]:
        """How the answer stands to right ones, and what is read to the evidence: all is read."""
        case = self.reader.case
        read = whole([case.text])
        return {
            **(answer_fields(said, case.answers[number]) if case.answers else {}),
            **(evidence_fields(case.evidence[number], read) if case.evidence else {}),
        }

    def _notes(self, metrics: RequestMetrics, request: Request, same: bool | None) -> list[str]:
        adapted = self.reader.model.adapted
        notes = list(self.reader.case.notes)
        if metrics.draft_s and metrics.decoded and metrics.decode_s:
            notes.append(_guessed(metrics))
        if same is False:
            notes.append(OTHER_TEXT)
        if self.reader.shares and self.recipe != "full":
            notes.append(SHARED)
        beyond = note_beyond(request.sequence)
        for note in metrics.notes:
            # One sentence for all recipes: each reads a little more or less than the next.
            notes.append(note if note != beyond else _beyond(adapted.trained_length))
        return notes


def _guessed(metrics: RequestMetrics) -> str:
    """Who guessed how much of the text, and what it cost, in words."""
    shares = [f"{n / metrics.decoded:.0%} by {who}" for who, n in sorted(metrics.accepted.items())]
    return (
        f"of the text was guessed ahead: {', '.join(shares) or 'nothing'}. A forward pass brought "
        f"{metrics.accepted_per_step:.2f} tokens, and guessing took "
        f"{metrics.draft_s / metrics.decode_s:.1%} of the time"
    )


def _beyond(trained: int) -> str:
    return (
        f"goes beyond the {trained:,} tokens that the model was trained to read, so what it says "
        "may be worse for it; yarn, self_extend, lm_infinite or streaming keep to distances that "
        "the model knows"
    )
