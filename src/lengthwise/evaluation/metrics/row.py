"""One measured recipe: what it gave and cost on one text of one length, for one question.

The field names are a contract: they are what `compare --json` prints, one line a row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lengthwise.tokenization.words import count_words

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRow:
    """What one recipe gave and cost, on one text of one length, for one question.

    A field that was not measured, or means nothing here, is None.

    recipe: the recipe, as it prints itself; "full" is the truth the others are measured against.
    model: name of the model.
    dtype: of its weights and activations, such as "bfloat16".
    device: such as "cpu" or "cuda:0".
    length: tokens of the document that were used; where probes are planted they take the place of
        some of them.
    question: what was asked about the text.
    answer: what the recipe answered.
    agreement: share (0 to 1) of positions of a teacher-forced continuation at which the most likely
        token is the one full attention finds most likely. None where full attention is not valid:
        beyond the length the model was trained for.
    kl: mean over the same positions of KL(full || recipe), nats a token.
    copy_loss: mean loss of the second copy of 64 planted words from its 9th token on, nats a token.
    needle_loss: mean loss of planted keys over all depths, nats a token.
    needle_by_depth: (depth from 0 to 1, loss in nats a token), one for each planted key.
    loss_by_position: (token position, mean loss in nats around it), in order of position.
    ttft_s: seconds from the prompt's arrival to the first new token, prefill included.
    tokens_per_s: new tokens per second after the first.
    kv_bytes: bytes of keys, values and whatever the recipe keeps beside them, really held when
        generation ended.
    kv_peak_bytes: most such bytes held at any moment, gathered and decoded copies included.
    accepted_per_step: tokens committed per forward pass while decoding; 1 without drafting.
    lossless: whether the output is the very one of plain greedy decoding with full attention, by
        construction.
    refused: why the recipe did not run, in one line; every measured field is then None.
    notes: what a reader of the row has to know, one sentence each.
    accepted: right guesses by drafter; None without drafting.
    draft_s: seconds of decoding spent on guessing, choosing what to verify and learning from it.
    verify_s: seconds of decoding spent on forwards and on verification; the rest is neither.
    prompt_tokens: of the whole prompt, template and question included.
    max_new_tokens: tokens of an answer that were asked for.
    answer_tokens: tokens that the answer has.
    fidelity_tokens: positions that agreement and kl are means over; 0 where the recipe chooses what
        is read, and so has no text in common with full.
    fidelity_length: tokens of the text whose last ones those are.
    agreement_interval: Wilson's interval for agreement, which holds it 95 times in 100; None for
        `full`, the truth itself.
    kl_error: standard error of kl, nats a token; None for `full`.
    loss_bins: what loss_by_position is made of, a bin each, in nats a token. "start" and "stop" are
        positions, half open; "n" is how many tokens of the document it has, planted ones left out;
        "mean" is their loss and "error" its standard error. "over_full" is the mean over the same
        tokens of what the recipe loses more than full does, "over_full_error" its standard error.
    reads_as_full: whether the recipe only acts when the prompt has ended, so that its losses by
        position are those of full.
    same_text: whether the answer of a recipe that guesses ahead is that of the same recipe without
        guesses, token by token. None where nothing was guessed, where the guesses are meant to
        change the text, and where it was not compared.
    expected: the answer that the user knows.
    expected_found: whether the answer contains it, in whatever case and punctuation; over several
        questions the share that does.
    expected_loss: mean loss of its tokens where the answer begins, nats a token.
    kv_offloaded_bytes: bytes held off the device when generation ended, in none of the others.
    tokens_read: of the prompt, and of all that was read to write it.
    exact_match: whether the answer is a right one, but for case, punctuation and articles: 1 or 0,
        the mean over several questions.
    token_f1: harmonic mean of the shares of its words that are right, and of right ones it says.
    evidence_recall: share of the known evidence, in characters, that is among what is read.
    evidence_precision: share of what is read that is evidence.
    evidence_iou: evidence that is read, as a share of all that is read or should be.
    evidence_omega: the most that evidence_precision can be with all evidence read, among the
        passages that a method chooses from; None where it does not choose.
    text_bytes: of the document, as UTF-8: what a length in tokens is where tokenizers differ.
    text_words: of it.
    """

    recipe: str
    model: str
    dtype: str
    device: str
    length: int
    question: str | None = None
    answer: str | None = None
    agreement: float | None = None
    kl: float | None = None
    copy_loss: float | None = None
    needle_loss: float | None = None
    loss_by_position: Curve | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    kv_bytes: int | None = None
    kv_peak_bytes: int | None = None
    accepted_per_step: float | None = None
    lossless: bool | None = None
    refused: str | None = None
    needle_by_depth: Curve | None = None
    notes: Sequence[str] = field(default=())
    accepted: Mapping[str, int] | None = None
    draft_s: float | None = None
    verify_s: float | None = None
    prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    answer_tokens: int | None = None
    fidelity_tokens: int | None = None
    fidelity_length: int | None = None
    agreement_interval: tuple[float, float] | None = None
    kl_error: float | None = None
    loss_bins: Sequence[Mapping[str, Any]] | None = None
    reads_as_full: bool | None = None
    same_text: bool | None = None
    expected: str | None = None
    expected_found: bool | float | None = None
    expected_loss: float | None = None
    kv_offloaded_bytes: int | None = None
    tokens_read: int | None = None
    exact_match: float | None = None
    token_f1: float | None = None
    evidence_recall: float | None = None
    evidence_precision: float | None = None
    evidence_iou: float | None = None
    evidence_omega: float | None = None
    text_bytes: int | None = None
    text_words: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, in order, as JSON can hold them.

        JSON has no NaN and no infinity: such a value becomes None, and a note says so.
        """
        values = asdict(self)
        lost = [name for name, value in values.items() if _is_unbounded(value)]
        values.update(dict.fromkeys(lost))
        for name in ("loss_by_position", "needle_by_depth"):
            if values[name] is not None:
                values[name] = [[x, y if math.isfinite(y) else None] for x, y in values[name]]
        if values["loss_bins"] is not None:
            values["loss_bins"] = [
                {name: None if _is_unbounded(value) else value for name, value in each.items()}
                for each in values["loss_bins"]
            ]
        gone = [f"{name} is {getattr(self, name)}, written as null" for name in lost]
        values["notes"] = [*self.notes, *gone]
        return values

    def to_json(self) -> str:
        """The row as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def text_size(text: str) -> dict[str, Any]:
    """The fields that say how long a text is, whatever cuts it into tokens.

    Args:
        text: of a document.
    """
    return {"text_bytes": len(text.encode("utf-8", "replace")), "text_words": count_words(text)}


def _is_unbounded(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
