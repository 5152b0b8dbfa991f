"""`bench shelf` goes on where it was, and prints rows, tables and refusals."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result as Called

from lengthwise.cli.bench import bench as command
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.evaluation.metrics.shelf_rows import ShelfRow, read_rows
from tests.evaluation.drafting_cases import saved_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("models") / "tiny")


def call(folder: Path, *arguments: str) -> Called:
    words = ["shelf", "--model", str(folder), "--dtype", "fp32", "-n", "800"]
    words += [] if "--follow" in arguments else ["--follow", "16"]
    return CliRunner().invoke(command, [*words, "--new-tokens", "2", *arguments])


def test_a_row_is_a_line_of_json(folder: Path) -> None:
    found = call(
        folder, "--method", "kivi", "--method", "snapkv(window=8)", "--share", "50", "--json"
    )
    assert found.exit_code == 0, found.output
    printed = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["method"] for row in printed] == ["", "kivi", "snapkv"]
    assert all(list(row) == [each.name for each in fields(ShelfRow)] for row in printed)
    assert printed[2]["recipe"] == "snapkv(budget=50%, window=8)"
    assert printed[2]["origin"]["versions"]["torch"] and printed[2]["origin"]["date"]


def test_rows_that_a_file_holds_are_not_measured_again(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "rows.jsonl"
    shares = ("--share", "50", "--share", "25")
    first = call(folder, "--method", "streaming", "--share", "50", "-o", str(place))
    assert first.exit_code == 0, first.output
    # A sign that ends no line of JSON, and does for `str.splitlines`.
    before = place.read_text().replace('"date": "', '"date": "\u2028')
    # As a crash would leave it.
    place.write_text(before + before[:30])
    found = call(folder, "--method", "streaming", *shares, "-o", str(place))
    assert found.exit_code == 0, found.output
    assert place.read_text().startswith(before)
    rows = read_rows(place)
    assert [(row.method, row.share) for row in rows] == [
        ("", 1.0), ("streaming", 0.5), ("streaming", 0.25)
    ]  # fmt: skip
    assert "KL" in found.stderr and found.stderr.count("streaming(") == 1
    assert found.stdout.count("streaming(") == 2
    assert max(map(len, found.stdout.splitlines())) <= 100
    # Another text stands in the same file, and not in the table.
    other = call(
        folder, "--method", "streaming", "--share", "50", "--follow", "8", "-o", str(place)
    )
    assert other.exit_code == 0 and other.stdout.count("streaming(") == 1
    assert len(read_rows(place)) == 5


def test_a_file_of_another_kind_goes_only_when_it_may(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "rows.jsonl"
    place.write_text('{"recipe": "full"}\n')
    with pytest.raises(LengthwiseError, match="add --force"):
        raise call(folder, "--method", "kivi", "-o", str(place)).exception
    found = call(folder, "--method", "kivi", "--share", "25", "-o", str(place), "--force")
    assert found.exit_code == 0 and [row.method for row in read_rows(place)] == ["", "kivi"]


def test_only_one_question_is_asked(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "shelf.png"
    found = call(folder, "--question", "codecs", "--share", "50", "--picture", str(place))
    assert found.exit_code == 0, found.output
    assert place.read_bytes().startswith(b"\x89PNG")
    assert "kivi" in found.stdout and "snapkv" not in found.stdout
    both = call(folder, "--question", "codecs", "--method", "kivi")
    assert both.exit_code == 2 and "leave out --question" in both.output


def test_methods_are_looked_at_before_any_model() -> None:
    for text, said in (("snapkv + kivi", "2 methods"), ("snapk", "snapkv"), ("yarn", "positions")):
        found = CliRunner().invoke(command, ["shelf", "--model", "nope/nope", "--method", text])
        assert isinstance(found.exception, RecipeError) and said in str(found.exception)
