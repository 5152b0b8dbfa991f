"""`bench drafting` prints rows and tables, and refuses in one line."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result as Called

from lengthwise.cli.bench import bench as command
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.evaluation.compare.drafting import GREEDY, PROMPT_LOOKUP
from lengthwise.evaluation.metrics.drafting_rows import DraftingRow
from tests.evaluation.drafting_cases import TURNS, saved_model, written

FIELDS = (
    "kind", "context", "context_tokens", "recipe", "plain", "model", "dtype", "device", "prompts",
    "rounds", "new_tokens", "tables", "batch", "temperature", "tokens", "tokens_per_s", "ratio",
    "ratio_low", "ratio_high", "tokens_per_round", "accept_lengths", "shares", "draft_s",
    "verify_s", "rest_s", "lossless", "equal", "divergences", "refused", "notes",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("models") / "tiny")


def test_the_command_takes_own_prompts_and_prints_accept_lengths(folder: Path, tmp_path) -> None:
    path = written(tmp_path / "own.jsonl", TURNS, {"prompt": "one two three " * 20})
    found = call(folder, "--prompt-file", str(path), "-r", "lookup", "--new-tokens", "24",
                 "--rounds", "1", "--no-baselines", "--accept-lengths")  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "Tokens that a round brought" in found.stdout and "own own, lookup: 1:" in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 100
    mixed = call(folder, "--prompt-file", str(path), "--context", "short")
    assert mixed.exit_code == 2 and "--prompt-file has its own" in mixed.output


def call(folder: Path, *arguments: str) -> Called:
    return CliRunner().invoke(
        command, ["drafting", "--model", str(folder), "--dtype", "fp32", *arguments]
    )


def test_the_command_prints_a_json_line_a_row(folder: Path) -> None:
    found = call(folder, "--json", "-k", "summary", "-k", "code", "--context", "short", "-r",
                 "lookup", "--new-tokens", "4", "--rounds", "1", "--no-baselines")  # fmt: skip
    assert found.exit_code == 0, found.output
    printed = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(row["kind"], row["recipe"]) for row in printed] == [
        ("summary", "full"), ("summary", "lookup"), ("code", "full"), ("code", "lookup")
    ]  # fmt: skip
    assert all(tuple(row) == FIELDS for row in printed)
    assert tuple(field.name for field in fields(DraftingRow)) == FIELDS


def test_the_command_prints_a_table_of_100_columns(folder: Path) -> None:
    found = call(folder, "-k", "copying", "--context", "short", "-r", "lookup", "-r",
                 "streaming + snapkv", "--new-tokens", "4", "--rounds", "1")  # fmt: skip
    assert found.exit_code == 0, found.output
    assert max(map(len, found.stdout.splitlines())) <= 100
    for shown in ("copying", GREEDY, PROMPT_LOOKUP, "refused:", "Machine:", "tables cold"):
        assert shown in found.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("-k", "summery"), LengthwiseError, "did you mean 'summary'"),
        (("-r", "lockup"), RecipeError, "lookup"),
        (("-r", "lookup", "--new-tokens", "9000"), LengthwiseError, "trained to read 8,192"),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments, error, words: str) -> None:
    found = call(folder, *arguments)
    assert isinstance(found.exception, error) and words in str(found.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--prompts", "6"),
        ("--rounds", "0"),
        ("--context", "x"),
        ("--batch", "0"),
        ("--temperature", "-1"),
        ("--prompt-file", "no such file"),
    ],
)
def test_options_out_of_range_are_usage_errors(folder: Path, arguments) -> None:
    assert call(folder, *arguments).exit_code == 2
