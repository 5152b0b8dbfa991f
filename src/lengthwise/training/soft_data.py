"""What encoders of soft contexts are trained on: texts as ids, some held out, and pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence as Seq
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from random import Random

from lengthwise.api.model import Model
from lengthwise.api.prompts import Shield
from lengthwise.api.session_prompt import encode_piece
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.files import digest
from lengthwise.soft_contexts.base import Encoder, Example, SoftContext, Texts
from lengthwise.tokenization.templates import around_message
from lengthwise.training.config import TrainingError

# One in so many texts is held out, or the last part of each where there are fewer.
_HELD = 10
_FIELDS = ("context", "question", "answer")


@dataclass(frozen=True)
class Held:
    """Texts that are trained on, and others whose loss is told; None where none is."""

    train: Texts
    held: Texts | None

    @property
    def digest(self) -> str:
        """What the texts that are trained on come to."""
        pairs = [[each.context, each.before, each.after] for each in self.train.pairs]
        return str(digest({"ids": self.train.ids, "pairs": pairs}))


def texts_of(
    model: Model, texts: Iterable[str], length: int, pairs: Seq[Example] = (), held: bool = True
) -> Held:  # fmt: skip
    """Encodes texts, and holds some of them out.

    Args:
        model: whose tokenizer is used.
        texts: at least one.
        length: tokens of a drawn text, at most.
        pairs: of questions about contexts, for methods that learn from them.
        held: whether anything is held out: every tenth of ten texts and more, else the last tenth
            of each.

    Raises:
        LengthwiseError: for texts without a token, and without a tokenizer.
    """
    if model.tokenizer is None:
        raise LengthwiseError("this model was wrapped without a tokenizer; give one with it")
    shield = Shield(model.tokenizer)
    ids = [tuple(shield.encode(shield.text(text))) for text in texts]
    ids = [each for each in ids if each]
    if not ids:
        raise TrainingError("there is no text to train on: give files or folders with some")
    whole = Texts(tuple(ids), length, tuple(pairs))
    if not held:
        return Held(whole, None)
    if len(ids) >= _HELD:
        kept = [each for n, each in enumerate(ids) if n % _HELD != _HELD - 1]
        out = ids[_HELD - 1 :: _HELD]
    else:
        cuts = [len(each) - len(each) // _HELD for each in ids]
        kept = [each[:at] for each, at in zip(ids, cuts, strict=True)]
        out = [each[at:] for each, at in zip(ids, cuts, strict=True)]
    count = max(1, len(pairs) // _HELD) if len(pairs) > 1 else 0
    asked = tuple(pairs[len(pairs) - count :])
    return Held(
        replace(whole, ids=tuple(kept), pairs=tuple(pairs[: len(pairs) - count])),
        replace(whole, ids=tuple(out), pairs=asked),
    )


def read_pairs(model: Model, path: str | PathLike[str]) -> list[Example]:
    """Questions about contexts with their answers, as prompts of the model's chat template.

    Args:
        model: whose tokenizer and template are used.
        path: JSON lines with `context`, `question` and `answer`, texts that are not empty.

    Raises:
        TrainingError: for a file that is missing or holds something else, with the line.
    """
    try:
        # Not `splitlines`: texts hold line marks that are none in JSON.
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: cannot be read ({error})") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            texts = [record[field] for field in _FIELDS]
        except (ValueError, KeyError, TypeError, RecursionError):
            texts = []
        if not texts or not all(isinstance(each, str) and each.strip() for each in texts):
            raise TrainingError(
                f"{path}, line {number}: is no object with {', '.join(_FIELDS)}, each a text that "
                "is not empty"
            )
        found.append(pair(model, *texts))
    if not found:
        raise TrainingError(f"{path}: holds no pairs")
    return found


def pair(model: Model, context: str, question: str, answer: str) -> Example:
    """One question about a context, as a session asks it, and what is to be said.

    Args:
        model: whose tokenizer and template are used.
        context: which the encoder reads.
        question: behind it.
        answer: on whose tokens the loss is taken, the end of the turn among them.
    """
    assert model.tokenizer is not None
    head, behind = around_message(model.tokenizer)
    before = encode_piece(model.tokenizer, head, "", None) if head else []
    asked = encode_piece(model.tokenizer, "", f"\n\n{question}", None)
    if behind:
        asked += encode_piece(model.tokenizer, behind, "", None)
    said = encode_piece(model.tokenizer, "", answer, None) + model.stop_ids()[:1]
    return Example(
        tuple(encode_piece(model.tokenizer, "", context, None)), (*asked, *said), tuple(before),
        len(asked),
    )  # fmt: skip


def require_examples(encoder: Encoder, how: SoftContext, stage: str, texts: Texts) -> None:
    """Refuses texts of which no example can be drawn, or none that the model can read.

    Args:
        encoder: as it begins.
        how: its method.
        stage: of training.
        texts: what is drawn of.

    Raises:
        LengthwiseError: with what is too short or too long.
    """
    model = encoder.model
    for seed in range(4):
        example = how.example(stage, texts, Random(seed))
        count = len(encoder.stand_ins(example.context, example.ratio))
        read = len(example.before) + count + len(example.after)
        if read > model.trained_length:
            raise TrainingError(
                f"stage {stage}: {count:,} embeddings and {read - count:,} tokens around them are "
                f"more than the {model.trained_length:,} that the model was trained to read; give "
                "a smaller length"
            )


__all__ = ["Held", "pair", "read_pairs", "require_examples", "texts_of"]
