"""The scorers by name, so that a task can say which is its own in a word.

scorer("squad_f1")(reply, references)
scorer("label_in_prediction", labels=("Food", "Sport"))(reply, references)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

from lengthwise._utils.suggestions import nearest
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers import (
    bleu,
    chinese,
    choices,
    classes,
    countdown,
    edits,
    exams,
    kick,
    length_score,
    lengths,
    matching,
    needles,
    numbers,
    orders,
    procedures,
    rouge,
    rows,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scorer:
    """A function that scores replies.

    name: as tasks say it. function: from reply and references. corpus: it takes all replies at
    once, and a list of references for each. parts: it takes one reference and gives several
    numbers, of which the option `part` says which counts, else the first. bound: options given.
    """

    name: str
    function: Callable[..., Any]
    corpus: bool = False
    parts: tuple[str, ...] = ()
    bound: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options."""
        taken = inspect.signature(self.function).parameters.values()
        named = (each.name for each in taken if each.kind is each.KEYWORD_ONLY)
        return (*named, *(("part",) if self.parts else ()))

    @property
    def summary(self) -> str:
        """What it scores, in a line."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    def bind(self, **options: Any) -> Scorer:
        """The same scorer with options set.

        Args:
            options: by name.

        Raises:
            LengthwiseError: for an option or part that it does not have.
        """
        for name in options:
            if name not in self.options:
                has = self.options
                raise LengthwiseError(
                    f"scorer {self.name} has no option {name!r}{nearest(name, has) if has else ''}"
                )
        part = options.get("part", "")
        if part and part not in self.parts:
            raise LengthwiseError(f"part {part!r}: {self.name} has {', '.join(self.parts)}")
        bound = {**self.bound, **options}
        return Scorer(self.name, self.function, self.corpus, self.parts, bound)

    def __call__(self, reply: Any, references: Seq[Any], **options: Any) -> float:
        """The score.

        Args:
            reply: by a model; of a corpus scorer, all replies.
            references: right answers, at least one; the best counts where the rule says so.
            options: as `bind` takes them.

        Returns:
            0 to 1.

        Raises:
            LengthwiseError: without references, or for an option that it does not have.
        """
        if not references:
            raise LengthwiseError(f"scorer {self.name}: no references; give at least one")
        given = dict(self.bind(**options).bound)
        if not self.parts:
            return float(self.function(reply, references, **given))
        part = given.pop("part", self.parts[0])
        return max(float(getattr(self.function(reply, each, **given), part)) for each in references)


_REPLIES = (
    matching.contains_all, matching.contains_any, matching.equals, matching.squad_em,
    matching.squad_f1, matching.hotpot_f1, matching.sub_em, chinese.chinese_f1,
    rouge.rouge_l, rouge.rouge, bleu.bleu, bleu.chrf, edits.edit_ratio,
    numbers.first_int, numbers.all_ints, numbers.kv_value, numbers.dialogue_name, numbers.code_run,
    numbers.math_find, numbers.math_calc,
    choices.letter_choice, choices.infinite_choice, choices.code_debug, choices.option_number,
    choices.best_answer,
    exams.exam_letters, exams.exam_number, exams.exam_output, exams.exam_verdict, exams.exam_answer,
    classes.label_in_prediction, classes.label_exact, classes.id_f1,
    orders.permutation, orders.list_prefix, orders.ndcg, orders.mrr, orders.recall, rows.row_f1,
    length_score.requested_length, lengths.word_count_match,
    kick.relaxed_em, kick.trivia_f1, kick.factoid, kick.last_letter,
    needles.keyword_recall, needles.thread_value, needles.thread_values,
)  # fmt: skip
_PROCEDURES = (procedures.route, procedures.beliefs, procedures.travel, countdown.countdown)
_CORPORA = (bleu.corpus_bleu, classes.entity_f1, classes.relation_f1)
_PARTS = ("accuracy", "partial", "extracted")

SCORERS: dict[str, Scorer] = {
    each.name: each
    for each in (
        *(Scorer(function.__name__, function) for function in _REPLIES),
        *(Scorer(function.__name__, function, parts=_PARTS) for function in _PROCEDURES),
        *(Scorer(function.__name__, function, corpus=True) for function in _CORPORA),
    )
}


def scorer(name: str, **options: Any) -> Scorer:
    """A scorer with its options set.

    Args:
        name: one of `SCORERS`.
        options: by name.

    Raises:
        LengthwiseError: for an unknown name or option, with the nearest one.
    """
    if name not in SCORERS:
        raise LengthwiseError(f"there is no scorer {name!r}{nearest(name, SCORERS)}")
    return SCORERS[name].bind(**options)


__all__ = ["SCORERS", "Scorer", "scorer"]
