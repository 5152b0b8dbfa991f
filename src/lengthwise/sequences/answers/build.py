"""Pairs become a data set: a prompt and its answer are a piece of a row, and answers are predicted.

Prompts are written as they will be asked: a user's message in the chat template of the model that
is trained, or the question alone where it has none. What is read before a question is chosen by a
method of prompting, and stands in the prompt of `lengthwise.answer`. Behind an answer comes the
token that ends a turn. Pieces are packed best-fit. Validation reads the same token store, which has
the lengths of prompts beside it (`prompts.bin`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise._utils.counter_rng import Ints
from lengthwise._utils.embedded_file import EMBEDDED
from lengthwise._utils.files import ASIDE
from lengthwise._utils.messages import first_line
from lengthwise._utils.progress import Progress
from lengthwise.api.document_prompt import template_prompt
from lengthwise.api.prompts import encode_messages, encode_text
from lengthwise.api.session_prompt import encode_piece
from lengthwise.api.tokenizer_text import TokenizerText
from lengthwise.sequences.answers.base import AnswerMethod, Chooser, Example, Pair
from lengthwise.sequences.builders.base import settings_of
from lengthwise.sequences.builders.best_fit import packed_units
from lengthwise.sequences.builders.plain import LONGEST
from lengthwise.sequences.encoder import BYTES, Encoder, byte_tokenizer, load_encoder
from lengthwise.sequences.errors import NotAsAskedError, SequenceError
from lengthwise.sequences.files import (
    checksum,
    digest,
    read_json,
    said_plainly,
    write_json,
    written_aside,
)
from lengthwise.sequences.manifest import make_manifest, report
from lengthwise.sequences.records import Record
from lengthwise.sequences.rows import Built
from lengthwise.sequences.shards import write_part
from lengthwise.sequences.store import ABOUT, MANIFEST, TOKENIZER, TOKENS, manifest_in
from lengthwise.sequences.token_store import PROMPTS, TokenStore
from lengthwise.sequences.tokenise import STATE, Store

TOO_LONG = "more tokens than a row"
_HELD = 4096
"""Examples that wait to be written."""
_END_MARK = "\u241e"


@dataclass(frozen=True)
class Writer:
    """Writes examples as tokens.

    tokenizer: of the model that is trained. encoder: the same, with the token that ends a turn.
    """

    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder

    @property
    def templated(self) -> bool:
        """Whether prompts stand in a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def prompt(self, question: str) -> list[int]:
        """Ids of a question as it will be asked.

        Args:
            question: what a user says.
        """
        if self.templated:
            return encode_messages(self.tokenizer, [{"role": "user", "content": question}])
        return encode_text(self.tokenizer, question, "text")

    def prompt_about(self, document: str, question: str, chooser: Chooser) -> list[int]:
        """Ids of a question about a document, as `lengthwise.answer` writes them.

        Args:
            document: that is asked about.
            question: what a user says.
            chooser: says what is read of it.

        Raises:
            Refused: for one that needs more than a tokenizer.
        """
        found = chooser.write_prompt([document], question, self._reader)
        read = encode_text(self.tokenizer, found.text, "text")
        prompt = template_prompt(self.tokenizer, read, [found.question])
        return [*prompt.prefix, *prompt.suffixes[0]]

    @cached_property
    def _reader(self) -> TokenizerText:
        return _Counting(self.tokenizer, "the tokenizer", LONGEST)

    def answer(self, example: Example) -> list[int]:
        """Ids of what is predicted, but for the end of the turn.

        Args:
            example: whose `begin` is in the encoder's vocabulary.
        """
        begin = [self.encoder.id_of(example.begin)] if example.begin else []
        return [*begin, *encode_piece(self.tokenizer, "", example.answer, None)]


class _Counting(TokenizerText):
    """Holds how many tokens texts have: of one document many pairs may ask."""

    def __init__(self, tokenizer: Any, name: str, trained_length: int) -> None:
        super().__init__(tokenizer, name, trained_length)
        self._held = lru_cache(maxsize=_HELD)(super().count)

    def count(self, text: str) -> int:
        return self._held(text)


def open_writer(name: str) -> Writer:
    """The writer of a model.

    Args:
        name: `bytes`, a tokenizer.json, or the folder or hub name of the model that is trained.

    Raises:
        SequenceError: where there is no tokenizer, or none that says how a turn ends.
    """
    if name == EMBEDDED:
        raise SequenceError(
            "answers are written in the chat template of the model that is trained: name its "
            "folder with --tokenizer"
        )
    plain = load_encoder(name)
    tokenizer: Any
    if name == BYTES or Path(name).is_file():
        bare = byte_tokenizer() if name == BYTES else plain.tokenizer
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token=plain.end_token)
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # whatever a tokenizer's own code raises
            raise SequenceError(f"no tokenizer at {name!r} ({first_line(error)})") from error
    end = _end_of_turn(tokenizer) or plain.end_token
    if name == BYTES:
        return Writer(tokenizer, plain)
    return Writer(tokenizer, Encoder(plain.tokenizer, end))


def _end_of_turn(tokenizer: Any) -> str | None:
    """The special token behind an answer in the chat template; None where there is none."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _END_MARK}]
    behind = str(tokenizer.apply_chat_template(said, tokenize=False)).rpartition(_END_MARK)[2]
    for token in tokenizer.convert_ids_to_tokens(
        tokenizer.encode(behind.strip(), add_special_tokens=False)
    ):
        if token in tokenizer.all_special_tokens or token == tokenizer.eos_token:
            return str(token)
    return None


@dataclass(frozen=True)
class AnswerBuild:
    """A data set of answers to be made.

    pairs: of the file. writer: of the model. method: how they are written. folder: of the result.
    seed: of what is drawn. document: of all pairs that have none of their own.
    """

    pairs: list[Pair]
    writer: Writer
    method: AnswerMethod
    folder: Path
    seed: int = 0
    document: str = ""

    @property
    def key(self) -> str:
        """Of everything that decides on the bytes."""
        template = str(getattr(self.writer.tokenizer, "chat_template", None))
        return digest([
            list(map(dict, self.pairs)), self.writer.encoder.fingerprint, self.writer.encoder.end,
            template, self.method.name, settings_of(self.method), self.seed,
            *([self.document] if self.document else []),
        ])  # fmt: skip


def build_answers(task: AnswerBuild, progress: Progress | None = None) -> dict[str, Any]:
    """Makes the data set and returns its manifest; one that is whole already stays.

    Args:
        task: what is made.
        progress: told of pairs.

    Raises:
        SequenceError: for a folder that holds something else, pairs of which none can be written,
            and a full disk. Nothing half-written stays.
    """
    progress = progress or Progress()
    if place := manifest_in(task.folder):
        found = dict(read_json(place))
        if found.get("key") == task.key:
            progress.note(f"{task.folder} is whole already")
            return found
    if task.folder.exists() and (not task.folder.is_dir() or any(task.folder.iterdir())):
        raise SequenceError(
            f"{task.folder} holds something else than these answers (other pairs, tokenizer, "
            "method or options): delete it, or name another folder with --out"
        )
    aside = task.folder.with_name(task.folder.name + ASIDE)
    with said_plainly(task.folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            manifest = _written(task, aside, progress)
            if task.folder.exists():
                task.folder.rmdir()
            os.replace(aside, task.folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    report(manifest, progress)
    return manifest


def _written(task: AnswerBuild, folder: Path, progress: Progress) -> dict[str, Any]:
    method, encoder = task.method, task.writer.encoder
    if method.tokens:
        encoder.add(method.tokens)
    store, prompts = _stored(task, folder / TOKENS, progress)
    with written_aside(folder / ABOUT / TOKENIZER) as aside:
        encoder.tokenizer.save(str(aside))
    starts, lengths = store.spans(np.arange(store.documents))
    pieces = np.stack([starts, starts + prompts], 1).ravel()
    sizes = np.stack([prompts, lengths - prompts], 1)
    counted = np.tile([False, True], store.documents)
    rows = packed_units(pieces, sizes.ravel(), np.full(store.documents, 2), method.max_length,
                        counted)  # fmt: skip
    shards = write_part(folder, 0, Built({0: rows}), store, task.seed)
    figures = {
        "context": int((lengths * (lengths - 1) // 2).sum()),
        "padding": len(rows) * method.max_length - int(lengths.sum()),
        "predicted": int(sizes[:, 1].sum()),
    }
    entry = {"shards": shards, "dropped": {}, "figures": figures}
    manifest = make_manifest(method, encoder, store, [entry]) | {
        "key": task.key, "order": "shuffle", "seed": task.seed, "shuffle_rows": True,
        "not_read": {}, "templated": task.writer.templated,
    }  # fmt: skip
    write_json(folder / ABOUT / MANIFEST, manifest)
    return manifest


def _stored(task: AnswerBuild, folder: Path, progress: Progress) -> tuple[TokenStore, Ints]:
    """The token store of all examples, and tokens of each prompt."""
    folder.mkdir()
    prompts: list[int] = []
    progress.stage("writing answers", len(task.pairs), "pairs")
    with Store(folder, task.writer.encoder, task.key) as store:
        for record, tokens in _tokens(task):
            if record.skipped:
                store.close(record)
                continue
            prompt, answer = (np.array(each, np.int32) for each in tokens)
            store.extend([prompt, answer])
            store.close(record)
            prompts.append(len(prompt))
            if len(prompts) % _HELD == 0:
                store.write()
            progress.advance(1, len(prompt) + len(answer))
        if not prompts:
            why = "; ".join(f"{v['count']:,} {k}" for k, v in store.state.skipped.items())
            raise NotAsAskedError(f"no pair can be written: {why}")
        store.write()
        store.finish()
    (folder / STATE).unlink(missing_ok=True)
    with written_aside(folder / PROMPTS) as aside:
        aside.write_bytes(np.array(prompts, np.int64).tobytes())
    facts = read_json(folder / "store.json")
    facts["sha256"][PROMPTS] = checksum(folder / PROMPTS)
    write_json(folder / "store.json", facts)
    return TokenStore(folder), np.array(prompts, np.int64)


def _tokens(task: AnswerBuild) -> Iterator[tuple[Record, tuple[list[int], list[int]]]]:
    """Prompt and answer of each example, or why a pair has none."""
    found = task.method.examples(task.pairs, task.seed)
    for number, given in enumerate(found):
        name = f"pair {number + 1}"
        if isinstance(given, str):
            yield Record(name, "", number, 0, skipped=given), ([], [])
            continue
        for example in given:
            prompt = _prompt(task, example)
            answer = task.writer.answer(example)
            why = TOO_LONG if len(prompt) + len(answer) + 1 > task.method.max_length else ""
            yield Record(name, "", number, 0, skipped=why), (prompt, answer)


def _prompt(task: AnswerBuild, example: Example) -> list[int]:
    if example.chooser is None:
        return task.writer.prompt(example.question)
    document = example.document or task.document
    if not document:
        raise SequenceError(
            f"{example.question!r}: {task.method.name} reads a document, and neither this pair nor "
            "all of them have one"
        )
    return task.writer.prompt_about(document, example.question, example.chooser)


__all__ = ["TOO_LONG", "AnswerBuild", "Writer", "build_answers", "open_writer"]
