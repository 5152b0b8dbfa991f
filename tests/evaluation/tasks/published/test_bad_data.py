"""Data of published benchmarks that is not there, not readable, or not as it is published."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import BENCHMARKS, Sample, tasks_of
from lengthwise.evaluation.tasks.published._shared.benchmark import PublishedBenchmark
from tests.evaluation.tasks.published.published_cases import wanted, write
from tests.evaluation.tasks.published.published_rows import OPTIONS, RIGHT

EVERY = sorted(RIGHT)


@pytest.fixture(autouse=True)
def _leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """To run code, without which some have no data to speak of."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


def samples(name: str, folder: Path) -> list[Sample]:
    given = f"{name}(data={folder}{OPTIONS.get(name, '')})"
    return tasks_of(f"{given}/{RIGHT[name][0]}")[0].samples(wanted())


def refusal(name: str, folder: Path) -> str:
    """The one line that is said of what lies in a folder."""
    with pytest.raises(LengthwiseError) as error:
        samples(name, folder)
    said = str(error.value)
    assert "\n" not in said and re.sub(r"\(data=.*?\)", "", said).startswith(name)
    return said


def test_every_published_benchmark_has_a_right_row() -> None:
    published = {
        name for name, kind in BENCHMARKS.usable().items() if issubclass(kind, PublishedBenchmark)
    }
    assert published == set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_a_right_row_is_a_sample_with_numbers_as_texts_too(name: str, tmp_path: Path) -> None:
    _, file, row = RIGHT[name]
    write(tmp_path, file, [row])
    (right,) = samples(name, tmp_path)
    texts = {key: str(each) if isinstance(each, int) else each for key, each in row.items()}
    if "metadata" in texts:
        texts["metadata"] = json.dumps({"nums": ["1", "2", "3", "4"], "target": "10"})
    (tmp_path / "texts").mkdir()
    write(tmp_path / "texts", file, [texts])
    assert samples(name, tmp_path / "texts") == [right]


@pytest.mark.parametrize("name", EVERY)
def test_absent_data(name: str, tmp_path: Path) -> None:
    assert "needs its published file, which" in refusal(name, tmp_path)


@pytest.mark.parametrize("name", EVERY)
def test_other_columns(name: str, tmp_path: Path) -> None:
    _, file, row = RIGHT[name]
    write(tmp_path, file, [row, {"text": "a"}])
    said = refusal(name, tmp_path)
    assert "row 2 of" in said and "has no column" in said and "found are text" in said


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_file(name: str, tmp_path: Path) -> None:
    file = RIGHT[name][1]
    (tmp_path / file).write_text("" if file.endswith("jsonl") else "[]", encoding="utf-8")
    assert "has no rows" in refusal(name, tmp_path)


@pytest.mark.parametrize("name", EVERY)
def test_a_broken_line(name: str, tmp_path: Path) -> None:
    _, file, row = RIGHT[name]
    write(tmp_path, file, [row])
    with (tmp_path / file).open("a", encoding="utf-8") as text:
        text.write('{"a": ')
    said = refusal(name, tmp_path)
    assert "cannot be read (" in said and ("line 2" in said) == file.endswith("jsonl")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("other", [[1, 2], "text", None])
def test_a_row_that_is_none(name: str, other: Any, tmp_path: Path) -> None:
    _, file, row = RIGHT[name]
    write(tmp_path, file, [row, other])
    kind = type(other).__name__
    assert f"row 2 of {tmp_path / file} is no row with columns but a {kind}" in refusal(
        name, tmp_path
    )


@pytest.mark.parametrize("name", EVERY)
def test_values_of_other_kinds_are_refused_by_row_or_read(name: str, tmp_path: Path) -> None:
    """Whatever stands in a column, there are samples of text, or one line about its row."""
    _, file, row = RIGHT[name]
    others: tuple[Any, ...] = (None, True, [], {}, [[]], [None], {"a": 1}, "", "x" * 9, -1, 1e400)
    refused = 0
    for column in row:
        for other in others:
            write(tmp_path, file, [row, {**row, column: other}])
            try:
                found = samples(name, tmp_path)
            except LengthwiseError as error:
                said, refused = str(error), refused + 1
                assert "\n" not in said and ("row 2" in said or "no row of its" in said), said
                continue
            for each in found:
                assert isinstance(each.context, str) and isinstance(each.question, str)
                assert each.references and all(isinstance(text, str) for text in each.references)
                json.dumps(dict(each.facts))
    assert refused > len(row)


def refusing(said: str) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(f"{said}\nand more")

    return refuse


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("why", ["this data set is gated", "no such data set"])
def test_a_hub_that_refuses(name: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, file, _ = RIGHT[name]
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refusing(why))
    monkeypatch.setattr("datasets.load_dataset", refusing(why))
    kind = BENCHMARKS.get(name)
    assert kind is not None and issubclass(kind, PublishedBenchmark)
    with pytest.raises(LengthwiseError) as error:
        tasks_of(f"{name}/{task}")[0].samples(wanted())
    said = str(error.value)
    assert "\n" not in said and file.removesuffix(".jsonl").removesuffix(".json") in said
    assert ("cannot be loaded" in said and why in said) == bool(kind().source(task).hub)
