"""Self-study: a model asks itself about chunks of a corpus, and answers with the chunk in view.

For each batch a random chunk of the corpus is put into the system message. Bot A is told to write a
question of a random kind; bot B, the same model, answers it with the chunk before it. Then the
model reads what B said once more, and its likeliest tokens at each place are kept: they are what
the student learns.

A batch depends on the seed and its number alone. It is a file of JSON lines, to be read by people,
and a safetensors file, both written aside and renamed. So a run that was killed loses no more than
the batch it was at.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from lengthwise._utils.progress import Progress
from lengthwise.api.generation import Generation
from lengthwise.api.model import Model
from lengthwise.api.session import Session
from lengthwise.api.turns import system_turn, turns_behind
from lengthwise.engine import loop
from lengthwise.errors import LengthwiseError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.models.obstacles import no_autocast
from lengthwise.training.cartridge_config import Study
from lengthwise.training.cartridge_folder import claim
from lengthwise.training.cartridge_prompts import seed_prompt, system_prompt
from lengthwise.training.cartridge_rows import Row, load_rows, save_lines, save_rows
from lengthwise.training.config import TrainingError

# Batches in which nobody says anything, one after another, before it is given up.
_SILENT = 3
_NAME = re.compile(r"batch-(\d{6})\.safetensors")
ABOUT = "study.json"


@dataclass(frozen=True)
class Pair:
    """A question about a chunk of the corpus and its answer.

    chunk: first token and end of the chunk. answer_ids: as the model wrote them.
    """

    kind: str
    chunk: tuple[int, int]
    question: str
    answer: str
    answer_ids: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Pair:
        """What `record` was made of.

        Args:
            record: out of a file.
        """
        ids = tuple(int(each) for each in record["answer_ids"])
        start, stop = record["chunk"]
        return cls(str(record["kind"]), (int(start), int(stop)), str(record["question"]),
                   str(record["answer"]), ids)  # fmt: skip


class SelfStudy:
    """Pairs and rows about one corpus by one model.

    Args:
        model: that asks, answers and teaches.
        corpus: the text.
        study: how.
    """

    def __init__(self, model: Model, corpus: str, study: Study) -> None:
        if model.tokenizer is None:
            raise LengthwiseError("self-study needs a tokenizer; wrap the model with one")
        self.model, self.study = model, study
        self.ids: list[int] = model.tokenizer.encode(corpus, add_special_tokens=False)
        seen = hashlib.sha256(corpus.encode()).hexdigest()
        self.about = study.deciding() | {
            "corpus": seen, "fingerprint": fingerprint_now(model.adapted),
            "dtype": model.adapted.dtype_text,
        }  # fmt: skip

    def collect(self, folder: Path, progress: Progress | None = None) -> list[Row]:
        """Rows of as many pairs as were asked for, those in the folder first.

        Args:
            folder: of batches; it is made where there is none, and gone on with.
            progress: told of every batch.

        Raises:
            TrainingError: for a folder of something else, and where the model asks nothing.
        """
        told = progress or Progress()
        claim(folder, ABOUT, self.about, "self-study")
        told.stage("self-study", self.study.pairs, "pairs")
        rows: list[Row] = []
        number, silent = 0, 0
        while len(rows) < self.study.pairs:
            found = self._batch(folder, number)
            silent = 0 if found else silent + 1
            if silent == _SILENT:
                raise TrainingError(
                    f"{self.model.name} asked nothing in {_SILENT} batches: take a model that "
                    "follows instructions"
                )
            rows += found
            number += 1
            told.advance(len(found))
        return rows[: self.study.pairs]

    def _batch(self, folder: Path, number: int) -> list[Row]:
        place = folder / f"batch-{number:06d}.safetensors"
        if place.exists():
            return load_rows(place, self.model.adapted.vocab_size)
        pairs = self.converse(number)
        # The tensors come last: where they are, the batch is whole.
        save_lines(place.with_suffix(".jsonl"), [pair.record() for pair in pairs])
        rows = self.teach(pairs)
        if rows:
            save_rows(place, rows)
        return rows

    def converse(self, number: int) -> list[Pair]:
        """The pairs of one batch, about one chunk.

        Args:
            number: of the batch; equal numbers give equal pairs.
        """
        study, chance = self.study, Random(f"{self.study.seed}:{number}")
        least, most = (min(each, len(self.ids)) for each in (study.min_chunk, study.max_chunk))
        size = chance.randint(least, most)
        start = chance.randint(0, len(self.ids) - size)
        before = self._system((start, start + size))
        kinds = [chance.choice(study.kinds) for _ in range(study.batch)]
        seeds = [chance.randrange(2**63) for _ in kinds]
        told = [self._user(seed_prompt(kind, chance)) for kind in kinds]
        asked = self._say([before + each for each in told], study.question_tokens,
                          temperature=study.temperature, seed=seeds)  # fmt: skip
        questions = [(kind, each.text.strip()) for kind, each in zip(kinds, asked, strict=True)]
        questions = [each for each in questions if each[1]]
        if not questions:
            return []
        prompts = [before + self._user(question) for _, question in questions]
        answers = self._say(prompts, study.answer_tokens)
        return [
            Pair(kind, (start, start + size), question, said.text, tuple(said.token_ids))
            for (kind, question), said in zip(questions, answers, strict=True)
        ]

    def _say(self, prompts: list[list[int]], tokens: int, **options: Any) -> list[Generation]:
        found = self.model.generate_batch(prompts, max_new_tokens=tokens, **options)
        return [each.require() for each in found]

    def _system(self, chunk: tuple[int, int]) -> list[int]:
        assert self.model.tokenizer is not None
        text = self.model.tokenizer.decode(self.ids[chunk[0] : chunk[1]])
        return system_turn(self.model, system_prompt(str(text)))

    def _user(self, text: str) -> list[int]:
        return turns_behind(self.model, [{"role": "user", "content": text}])

    @no_autocast()
    def teach(self, pairs: Seq[Pair]) -> list[Row]:
        """What the student learns of each pair: the teacher's likeliest tokens in its answer.

        Args:
            pairs: their chunks are read once for pairs that follow each other.
        """
        rows, session = [], None
        chunk: tuple[int, int] | None = None
        for pair in pairs:
            if session is None or pair.chunk != chunk:
                chunk, session = pair.chunk, self.model.read(self._system(pair.chunk))
            rows.append(self._row(session, pair))
        return rows

    def _row(self, session: Session, pair: Pair) -> Row:
        question = self._user(pair.question)
        ids = [*question, *pair.answer_ids]
        held = session.held.fork()
        logits = loop.teacher_force(held, ids, block=len(ids))[len(question) :]
        assert held.last_logits is not None
        # The last of them says whether the answer ends here.
        whole = torch.cat([logits, held.last_logits[None]]).float()
        top = torch.log_softmax(whole, -1).topk(min(self.study.top, whole.shape[-1]))
        return Row(tuple(ids), len(question) - 1, top.indices.cpu(), top.values.cpu())


def read_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder of self-study, in order, as far as their batches are whole.

    Args:
        folder: as `SelfStudy.collect` left it.

    Raises:
        TrainingError: for a line that is no pair.
    """
    found = []
    for place in sorted(folder.iterdir()):
        if not _NAME.fullmatch(place.name):
            continue
        lines = place.with_suffix(".jsonl")
        try:
            # Not `splitlines`: texts hold line marks that are none in JSON.
            texts = filter(None, lines.read_text("utf-8").split("\n"))
            found += [Pair.of(json.loads(each)) for each in texts]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise TrainingError(f"{lines} is damaged ({error}): delete {place} too") from None
    return found


__all__ = ["Pair", "SelfStudy", "read_pairs"]
