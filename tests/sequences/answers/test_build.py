"""Pairs as rows: what is read, what is predicted, and a model that is trained on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from transformers import AutoTokenizer

import lengthwise
from lengthwise.cli.sequences import sequences
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.answers.base import make_answers
from lengthwise.sequences.answers.build import AnswerBuild, build_answers, open_writer
from lengthwise.sequences.answers.pairs import read_pairs
from lengthwise.sequences.store import TOKENS, SequenceSet
from lengthwise.sequences.token_store import TokenStore
from lengthwise.testing.tiny import tiny_model
from lengthwise.training.config import TrainingError, read_config
from lengthwise.training.data import IGNORED, make_batch
from lengthwise.training.evaluate import Validation
from lengthwise.training.trainer import train
from tests.chat_models import tokenizer

ANSWERS = {"10": "one two three four five six seven", "30": " ".join(["so"] * 30)}
PAIRS = [
    {"question": f"Why {n}?", "answer": ANSWERS["10" if n % 2 else "30"]} for n in range(12)
] + [{"question": "Which?", "answer": "short"}]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model in a folder, tied, with no row of embeddings to spare."""
    place, made = tmp_path_factory.mktemp("chat") / "model", tokenizer()
    stock = tiny_model("llama", vocab_size=len(made), max_position_embeddings=256,
                       tie_word_embeddings=True)  # fmt: skip
    stock.save_pretrained(place)
    made.save_pretrained(place)
    return place


def built(folder: Path, checkpoint: Path, method: str = "ruler", **options: str) -> SequenceSet:
    task = AnswerBuild(
        PAIRS, open_writer(str(checkpoint)), make_answers(method, options, 256), folder
    )  # type: ignore[arg-type]
    build_answers(task)
    return SequenceSet(folder)


def test_answers_are_predicted_from_their_token_on_and_prompts_are_read(
    tmp_path: Path, checkpoint: Path
) -> None:
    found = built(tmp_path / "rows", checkpoint, phrased="0")
    manifest = found.manifest
    assert manifest["documents"] == 12 and manifest["added_tokens"]["[MLT:10]"] == 257
    assert manifest["skipped"] == {
        "words of the answer outside of all bands": {"count": 1, "first": ["pair 13"]}
    }
    made = AutoTokenizer.from_pretrained(checkpoint)
    names = {number: token for token, number in manifest["added_tokens"].items()}
    seen = set()
    for number in range(found.buckets[0]):
        row = found.row(number)
        assert row.loss_mask is not None
        batch, _ = make_batch([row], target_token=False)
        ends = np.cumsum(row.lengths)
        for start, stop in zip([0, *ends], ends, strict=False):
            ids, mask = row.input_ids[start:stop], row.loss_mask[start:stop]
            first = int(mask.argmax())
            assert mask[first:].all() and not mask[:first].any()
            text = made.decode(ids[:first])
            question = text.partition("<user>")[2].partition("<|endoftext|>")[0]
            assert text == f"<user>{question}<|endoftext|><assistant>"
            answer = made.decode(ids[first + 1 : -1])
            assert names[int(ids[first])] == f"[MLT:{'10' if answer == ANSWERS['10'] else '30'}]"
            assert ids[-1] == made.eos_token_id
            # What the trainer predicts: the token of the length behind the prompt, to the end.
            targets = batch.targets[0, start : stop - 1].numpy()
            assert (targets[: first - 1] == IGNORED).all()
            assert (targets[first - 1 :] == ids[first:]).all()
            seen.add(question)
    assert len(seen) == 12


def test_prompts_are_those_that_the_model_is_asked_with(tmp_path: Path, checkpoint: Path) -> None:
    with lengthwise.load(str(checkpoint), dtype="fp32") as model:
        asked = model.encode([{"role": "user", "content": "Why <|endoftext|>?"}])
    writer = open_writer(str(checkpoint))
    assert writer.prompt("Why <|endoftext|>?") == asked
    assert open_writer("bytes").prompt("Why?") == list(b"Why?")


def test_a_trained_folder_has_the_tokens_and_runs(tmp_path: Path, checkpoint: Path) -> None:
    built(tmp_path / "rows", checkpoint)
    run = read_config({
        "out": "run", "steps": 2, "tokens_per_step": 512, "model": {"checkpoint": str(checkpoint)},
        "data": {"train": "rows", "validation": "rows"}, "log": {"plot_every": 0},
        "checkpoint": {"every": 0},
    }, tmp_path)  # fmt: skip
    outcome = train(run)
    made: Any = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert made.convert_tokens_to_ids("[MLT:>800]") == 265
    assert made.decode([261, 97], skip_special_tokens=True) == "a"
    with lengthwise.load(str(tmp_path / "run" / "model")) as model:
        found = model.generate("Why?", "ruler(words=30)", max_new_tokens=3)
    assert found.token_ids[0] == made.convert_tokens_to_ids("[MLT:30]")
    # Of twelve answers and their ends, and of no prompt.
    assert outcome.evaluation is not None
    answers = sum(len(pair["answer"]) + 2 for pair in PAIRS[:-1])
    assert outcome.evaluation.tokens == answers


def test_validation_without_a_whole_prompt_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    rows = built(tmp_path / "rows", checkpoint, "plain")
    store = TokenStore(rows.folder / TOKENS)
    assert store.prompts(np.arange(2)) is not None
    with pytest.raises(TrainingError, match="no answer within max_length"):
        Validation(rows.folder, 12, 8, 1024)


def test_a_folder_is_made_once_and_is_one_data_set(tmp_path: Path, checkpoint: Path) -> None:
    first = built(tmp_path / "rows", checkpoint)
    again = built(tmp_path / "rows", checkpoint)
    assert first.manifest == again.manifest
    with pytest.raises(LengthwiseError, match="holds something else than these answers"):
        built(tmp_path / "rows", checkpoint, phrased="1")
    assert [each.name for each in tmp_path.iterdir()] == ["rows"]


def test_nothing_stays_of_pairs_that_cannot_be_written(tmp_path: Path, checkpoint: Path) -> None:
    task = AnswerBuild(
        [PAIRS[-1]], open_writer(str(checkpoint)), make_answers("ruler", {}), tmp_path / "rows"
    )  # type: ignore[list-item]
    with pytest.raises(LengthwiseError, match="no pair can be written: 1 words of the answer"):
        build_answers(task)
    task = AnswerBuild(
        PAIRS, open_writer(str(checkpoint)), make_answers("plain", {}, 8), tmp_path / "rows"
    )  # type: ignore[arg-type]
    with pytest.raises(LengthwiseError, match="13 more tokens than a row"):
        build_answers(task)
    assert not list(tmp_path.iterdir())
    with pytest.raises(LengthwiseError, match="name its folder with --tokenizer"):
        open_writer("embedded")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is no JSON: .*; each line has question, answer"),
        ("[1]", "line 2 is no JSON object; each line has question"),
        ('{"instruction": "a", "answer": "b"}',
         "line 2: has no field 'question', but instruction, answer; --field NAME=FIELD"),
        ('{"question": " ", "answer": "b"}', "line 2: 'question' is no text that says something"),
        ('{"question": 3, "answer": "b"}', "line 2: 'question' is no text"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    place = tmp_path / "pairs.jsonl"
    place.write_text(f'{{"question": "a\u2028b", "answer": "b"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(LengthwiseError, match=message):
        read_pairs(place, ("question", "answer"))


def test_a_file_of_no_pairs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for name, message in (("empty", "holds no pairs"), ("binary", "it looks binary"),
                          ("none", "cannot read")):  # fmt: skip
        with pytest.raises(LengthwiseError, match=message):
            read_pairs(tmp_path / f"{name}.jsonl", ("question",))


def test_the_command_builds_and_says_what_was_left_out(tmp_path: Path, checkpoint: Path) -> None:
    place = tmp_path / "pairs.jsonl"
    place.write_text("".join(
        json.dumps({"instruction": each["question"], "answer": each["answer"]}) + "\n"
        for each in PAIRS
    ))  # fmt: skip
    command = ["answers", str(place), "--out", str(tmp_path / "rows"), "--method",
               "ruler", "-t", str(checkpoint), "--max-length", "256"]  # fmt: skip
    done = CliRunner().invoke(sequences, [*command, "--field", "question=instruction"])
    assert done.exit_code == 0, done.output
    assert "12 examples" in done.output and "1 skipped" in done.output
    for extra, message in (
        ((), "has no field 'question'"), (("--field", "prompt=instruction"), "ruler has question"),
        (("--field", "question"), "write it as NAME=VALUE"),
        (("--set", "phrased=1", "--set", "phrased=0"), "is given twice"),
    ):  # fmt: skip
        refused = CliRunner().invoke(sequences, [*command, *extra])
        assert refused.exit_code and message in str(refused.output) + str(refused.exception)
